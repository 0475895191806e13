"""A folder of pictures as a data set: a folder for each class, or train/, validation/ and test/ with these inside.

The pictures are decoded once, and kept in the user's cache folder as one file that is mapped into memory: starting
again takes a moment, and there may be more images than memory holds. A description beside it says of which files and
options it was made.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from incnet.colours import parse_colour
from incnet.threads import available_threads

from .catalogue import cache_folder
from .dataset import Dataset, Split, split_validation
from .error import DataError
from .pictures import pillow_image, read_picture

__all__ = ["PictureOptions", "load_folder", "pictures_in"]

SUFFIXES = {".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm"}
SUFFIXES |= {".tif", ".tiff", ".webp"}
PARTS = {"train": ("train", "training"), "validation": ("validation", "val", "valid"), "test": ("test", "testing")}
TEST_FRACTION = 0.1  # that is split off where there is no test/
GREY = ("1", "L", "LA", "I;16")
SEEN = 2000  # pictures that size and channels are chosen by
COMMON_SIDE, SIDE = 64, 32  # the largest that is kept where all pictures have it; what others are brought to
NAMED = 5  # damaged pictures, in full


@dataclass(frozen=True)
class PictureOptions:
    """How pictures become images.

    Attributes
    ----------
    image_size, channels : int or None
        Height and width, and 1 or 3; None for what the pictures suggest.
    background : str
        Behind what is transparent; as :func:`incnet.colours.parse_colour` reads it.
    damaged : {"skip", "refuse"}
        What to do about files that are no whole pictures.
    """

    image_size: int | None = None
    channels: int | None = None
    background: str = "white"
    damaged: Literal["skip", "refuse"] = "skip"


@dataclass(frozen=True)
class _Picture:
    path: Path
    part: str  # train, validation, test; or "" for one that is still to be put into a part
    label: int


def load_folder(folder: Path, options: PictureOptions, seed: int) -> Dataset:
    """Return the pictures in a folder as a data set.

    Images are in an order in which the classes take turns, and within a class that of their names: so that the first
    ones are a fair choice. Hidden files, and files that are no pictures by their name, are passed over.

    Parameters
    ----------
    folder : Path
        With a folder for each class, or with ``train``, and perhaps ``validation`` (or ``val``) and ``test``, that hold
        these. Where there is no ``test``, a tenth of the pictures is taken for it, of each class its share.
    options : PictureOptions
        What is left open is chosen by the pictures, and said in the remarks.
    seed : int
        Of that choice.

    Raises
    ------
    DataError
        If it holds no two classes, a class has too few pictures or a name that cannot be shown, or a picture is
        damaged and that is to be refused.
    """
    classes, pictures, others = _find(folder)
    options, remarks = _choose(options, pictures)
    kept = _decoded(folder, pictures, options)
    damaged = kept.damaged
    if damaged:
        names = ", ".join(str(pictures[i].path.relative_to(folder)) for i in list(damaged)[:NAMED])
        more = f" and {len(damaged) - NAMED} more" if len(damaged) > NAMED else ""
        if options.damaged == "refuse":
            first = next(iter(damaged.values()))
            raise DataError(f"{len(damaged)} of {len(pictures):,} pictures are damaged: {names}{more} ({first})")
        remarks.append(f"left out, since they cannot be read: {names}{more}")
    if others:
        counts = ", ".join(f"{count:,} {ending or 'others'}" for ending, count in others.most_common(NAMED))
        remarks.append(f"passed over, since their names end otherwise than those of pictures: {counts}")
    parts = {name: _split(kept.images, pictures, name, damaged) for name in ("", *PARTS)}
    train = parts["train"] if len(parts["train"]) else parts[""]
    given = {part for part in PARTS if len(parts[part])}
    _check_counts(folder, classes, train, 1 + len({"validation", "test"} - given))
    remarks += _said_of_shares(classes, train)
    test = parts["test"]
    if "test" not in given:
        train, test = split_validation(train, TEST_FRACTION, seed)
        remarks.append(f"there is no test folder: {len(test):,} pictures, a tenth, are held out for the test")
    return Dataset(
        name=folder.resolve().name or "pictures",
        classes=classes,
        train=train,
        test=test,
        source=str(folder),
        validation=parts["validation"] if "validation" in given else None,
        checksum=_of_all(kept, pictures, (train, test)),
        remarks=tuple(remarks),
    )


@dataclass(frozen=True)
class _Kept:
    """All images (N, H, W, C), mapped; why some could not be read; a checksum."""

    images: NDArray[np.uint8]
    damaged: dict[int, str]
    checksum: str


# What is there.


def _find(folder: Path) -> tuple[tuple[str, ...], list[_Picture], Counter[str]]:
    """Return the classes, in the order of their names, all pictures in theirs, and how other files' names end."""
    try:
        inside = {path.name: path for path in _folders(folder)}
        roots = {part: inside[name] for part, names in PARTS.items() for name in names if name in inside}
        if "train" not in roots:
            roots = {"": folder}
        found = {part: {_class_name(path): path for path in _folders(root)} for part, root in roots.items()}
        classes = tuple(sorted(found[next(iter(roots))]))
        _check_classes(folder, classes, found)
        every = [
            (place, label, _Picture(path, part, label))
            for part, folders in found.items()
            for label, name in enumerate(classes)
            if name in folders
            for place, path in _spread(pictures_in(folders[name]))
        ]
        others = sum((_others_in(path) for folders in found.values() for path in folders.values()), Counter[str]())
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror}); let it be readable, or name another") from error
    return classes, [picture for _, _, picture in sorted(every, key=lambda entry: entry[:2])], others


def _folders(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))


def pictures_in(folder: Path) -> list[Path]:
    """Return the files in a folder, and in those inside, that are pictures by their names; hidden ones are none."""
    return sorted(path for path in _shown_in(folder) if path.suffix.lower() in SUFFIXES and path.is_file())


def _shown_in(folder: Path) -> Iterator[Path]:
    """Yield what is in a folder, and in those inside, and is not hidden."""
    for path in folder.rglob("*"):
        if not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def _others_in(folder: Path) -> Counter[str]:
    """Return how many files there are by the endings of their names, of those that are no pictures by them.

    But for what Windows leaves. An ending that cannot be shown is "".
    """
    others = (path for path in _shown_in(folder) if path.suffix.lower() not in SUFFIXES and path.is_file())
    endings = (path.suffix.lower() for path in others if path.name.lower() not in ("thumbs.db", "desktop.ini"))
    return Counter(ending if ending.isprintable() else "" for ending in endings)


def _spread(paths: list[Path]) -> Iterator[tuple[float, Path]]:
    """Yield each path with its place between the first, 0, and the last, 1."""
    return (((i + 0.5) / len(paths), path) for i, path in enumerate(paths))


def _class_name(path: Path) -> str:
    """Return the name of a folder, in the one form that all systems can spell it in."""
    name = unicodedata.normalize("NFC", path.name)
    if not name.isprintable():
        raise DataError(f"{path.parent} holds a folder {path.name!r:.80}, whose name cannot be shown; rename it")
    return name


def _check_classes(folder: Path, classes: tuple[str, ...], found: dict[str, dict[str, Path]]) -> None:
    if len(classes) < 2:
        holds = f"one class, {classes[0]}" if classes else "no folders"
        raise DataError(
            f"{folder} holds {holds}; put the pictures of each class into a folder of its own, at least two"
        )
    for part, folders in found.items():
        if unknown := sorted(folders.keys() - set(classes)):
            raise DataError(f"{folder}: {part} holds a class {unknown[0]}, of which there is nothing to train on")


def _check_counts(folder: Path, classes: tuple[str, ...], train: Split, needed: int) -> None:
    counts = np.bincount(train.labels, minlength=len(classes))
    if (fewest := int(counts.min())) < needed:
        parts = {1: "training", 2: "two parts", 3: "training, validation and test"}[needed]
        raise DataError(
            f"{folder}: class {classes[int(counts.argmin())]} has {fewest} whole pictures, too few for {parts}; "
            "add some, or take its folder away"
        )


def _said_of_shares(classes: tuple[str, ...], train: Split) -> list[str]:
    """Say what an accuracy is to be compared with, where one class has more than twice the pictures of another."""
    counts = np.bincount(train.labels, minlength=len(classes))
    least, most = int(counts.argmin()), int(counts.argmax())
    if counts[most] <= 2 * counts[least]:
        return []
    share = counts[most] / counts.sum()
    return [
        f"classes have from {counts[least]:,} ({classes[least]}) to {counts[most]:,} pictures ({classes[most]}): "
        f"answering {classes[most]} every time would be right for {share:.0%} of them"
    ]


# What is made of it.


def _choose(options: PictureOptions, pictures: list[_Picture]) -> tuple[PictureOptions, list[str]]:
    """Fill in what is left open, by the heads of a part of the pictures; say how."""
    if options.image_size is not None and options.channels is not None:
        return options, []
    heads = [head for picture in pictures[:: -(-len(pictures) // SEEN) or 1] if (head := _head(picture.path))]
    sizes, modes = {size for size, _ in heads}, {mode for _, mode in heads}
    size, channels, said = options.image_size, options.channels, list[str]()
    if size is None:
        sides = {side for both in sizes for side in both}
        alike = len(sides) == 1 and max(sides) <= COMMON_SIDE
        size = sides.pop() if alike else SIDE
        why = "as all of them have" if alike else "the smaller side scaled, the middle cut out"
        said.append(f"{size} x {size} pixels, {why} (--image-size)")
    if channels is None:
        channels = 1 if modes and modes <= set(GREY) else 3
        said.append(f"{'grey' if channels == 1 else 'in colour'} (--channels)")
    chosen = PictureOptions(size, channels, options.background, options.damaged)
    return chosen, [f"pictures: {', '.join(said)}"]


def _head(path: Path) -> tuple[tuple[int, int], str] | None:
    pillow = pillow_image()
    with warnings.catch_warnings(action="ignore"), suppress(Exception), pillow.open(path) as picture:
        return picture.size, picture.mode
    return None  # those that are damaged, or too large, are come to later


def _split(images: NDArray[np.uint8], pictures: list[_Picture], part: str, damaged: Iterable[int]) -> Split:
    rows = np.array([i for i, each in enumerate(pictures) if each.part == part and i not in damaged], np.int64)
    return Split(images, np.array([pictures[i].label for i in rows], np.int64), rows)


def _of_all(kept: _Kept, pictures: list[_Picture], splits: tuple[Split, ...]) -> str:
    """Return a checksum of images, labels, and which are for what."""
    digest = hashlib.sha256(kept.checksum.encode())
    digest.update(repr([(picture.part, picture.label) for picture in pictures]).encode())
    for split in splits:
        digest.update(split.places(slice(None)).tobytes())
    return digest.hexdigest()


# What is kept.


def _decoded(folder: Path, pictures: list[_Picture], options: PictureOptions) -> _Kept:
    """Return all images, which are kept for the next time."""
    if (place := cache_folder("pictures")) is None:
        raise DataError("there is no home folder to keep decoded pictures in; let XDG_CACHE_HOME name a place")
    key = _key(folder, pictures, options)
    try:
        place.mkdir(parents=True, exist_ok=True)
        kept = _read_kept(place / key)
        if kept is None:
            _keep(pictures, options, place / key)
            kept = _read_kept(place / key)
    except OSError as error:
        raise DataError(
            f"decoded pictures cannot be kept in {place} ({error.strerror}); make room there, or let XDG_CACHE_HOME "
            "name another place"
        ) from error
    if kept is None:
        raise DataError(f"{place / key}.npy is not what was written; is the disk whole?")
    return kept


def _key(folder: Path, pictures: list[_Picture], options: PictureOptions) -> str:
    """Return a checksum of options, and of names, sizes and times of all files: what the images are made of."""
    chosen = {name: value for name, value in asdict(options).items() if name != "damaged"}
    digest = hashlib.sha256(json.dumps([1, str(folder.resolve()), chosen]).encode())
    for picture in pictures:
        facts = picture.path.stat()
        name = os.fsencode(picture.path.relative_to(folder))
        digest.update(b"%d %d %d " % (len(name), facts.st_size, facts.st_mtime_ns) + name)
    return digest.hexdigest()


def _read_kept(base: Path) -> _Kept | None:
    """Return what was kept; None if there is nothing, or it has changed since."""
    try:
        found = json.loads(base.with_suffix(".json").read_bytes())
        images = np.load(base.with_suffix(".npy"), mmap_mode="c")  # kernels want arrays that can be written; none is
        kept = _Kept(images, {int(i): str(why) for i, why in found["damaged"].items()}, found["sha256"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return kept if _checksum(images) == kept.checksum else None


def _keep(pictures: list[_Picture], options: PictureOptions, base: Path) -> None:
    """Decode all pictures into one file; nobody finds it under its name before it is whole."""
    handle, name = tempfile.mkstemp(dir=base.parent, suffix=".decoding")
    os.close(handle)
    try:
        checksum, damaged = _decode(pictures, options, Path(name))
        os.replace(name, base.with_suffix(".npy"))
        Path(name).write_text(json.dumps({"sha256": checksum, "damaged": damaged}, indent=1))
        os.replace(name, base.with_suffix(".json"))
    finally:
        Path(name).unlink(missing_ok=True)


def _decode(pictures: list[_Picture], options: PictureOptions, file: Path) -> tuple[str, dict[int, str]]:
    """Write the images to a file, several at a time; return their checksum, and which are damaged."""
    assert options.image_size is not None and options.channels is not None
    shape = (options.image_size, options.image_size, options.channels)
    images = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=(len(pictures), *shape))
    background, damaged = parse_colour(options.background), dict[int, str]()

    def decode(i: int) -> None:
        try:
            images[i] = read_picture(pictures[i].path, shape, background)
        except DataError as error:
            damaged[i] = str(error)

    threads = available_threads()
    with ThreadPoolExecutor(threads) as pool:
        for _ in _shown(_in_turn(pool, decode, len(pictures), ahead=64 * threads), len(pictures)):
            pass
    images.flush()
    return _checksum(images), dict(sorted(damaged.items()))


def _checksum(images: NDArray[np.uint8]) -> str:
    digest = hashlib.sha256(str(images.shape).encode())
    for start in range(0, len(images), 1024):
        digest.update(np.ascontiguousarray(images[start : start + 1024]).data)
    return digest.hexdigest()


def _in_turn(pool: ThreadPoolExecutor, work, count: int, ahead: int) -> Iterator[None]:  # type: ignore[no-untyped-def]
    """Yield as the work on 0, 1, ... is done, which is handed out at most so far ahead: it can be interrupted."""
    waiting = [pool.submit(work, i) for i in range(min(ahead, count))]
    for i in range(count):
        waiting[i % ahead].result()
        if i + ahead < count:
            waiting[i % ahead] = pool.submit(work, i + ahead)
        yield


def _shown(steps: Iterator[None], count: int) -> Iterable[None]:
    """Return the same steps, with a bar on a terminal."""
    console = Console(stderr=True)
    return track(steps, "decoding pictures", count, console=console, transient=True, disable=not console.is_terminal)
