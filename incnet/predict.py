"""The command ``python -m incnet.predict MODEL IMAGE...``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from incnet import backend
from incnet.checked_json import parse_json
from incnet.colours import parse_colour
from incnet.commandline import parse
from incnet.data.dataset import DataError
from incnet.data.folder import SUFFIXES as PICTURES
from incnet.data.folder import pictures_in
from incnet.deploy.answers import FORMATS, SUFFIXES, Answer, Named
from incnet.deploy.images import read_images
from incnet.deploy.model import Model, ModelError, load_model
from incnet.names import counted
from incnet.options import option
from incnet.parallel.launch import is_first
from incnet.storage.files import WriteError, replace_file
from incnet.terminal import BAD_INPUT, Terminal, command
from incnet.threads import use_threads

__all__ = ["Predict", "main"]


@dataclass(frozen=True)
class Predict:
    """Name what images show.

    Pictures are turned upright, put on a background where they are transparent, made grey for models of one channel,
    scaled until the smaller side fits and cut to the middle. An image that cannot be read is named, and the others are
    answered. Exits with 0; 2 if the model or any image cannot be used; 4 if --out cannot be written.

    Examples::

      incnet predict runs/RUN one.png two.png
      incnet predict runs/RUN pictures/ --out answers.csv
      incnet predict runs/RUN/stages/S1.safetensors one.png --top 1 --json
    """

    model: Path = option(
        "Model, from the folder stages of a run; or a run folder, for its last stage, which is then named.",
        positional=True,
    )
    images: tuple[Path, ...] = option(
        "Pictures (PNG, JPEG, ...; needs incnet[images]), folders of them, .npy files of uint8 (H, W, C) or "
        "(N, H, W, C), or - for a picture on standard input.",
        (),
        positional=True,
        metavar="IMAGE",
    )
    top: int = option("Classes that are named for each image.", 3)
    format: Literal["text", "csv", "jsonl"] | None = option(
        "Lines of text; CSV with a header: image, class, probability, class_2, ...; or a JSON object a line: the "
        "image's name, and its predictions, each with class and probability.",
        None,
        otherwise="by the ending of --out, else text",
    )
    json: bool = option("The same as --format jsonl.", False)
    out: Path | None = option(
        "File for the answers: .csv, .jsonl or .txt. It appears when all of them are in it.",
        None,
        otherwise="standard output",
    )
    background: str = option(
        "Colour behind what is transparent in a picture: white, black, or #rrggbb. Choose that of the images which the "
        "model has learnt from.",
        "white",
        names=("white", "black"),
        metavar="COLOUR",
    )
    device: str = option(
        "Where to compute: auto, cpu, gpu or reference.",
        "auto",
        names=("auto", "cpu", "gpu", "reference"),
        metavar="{auto,cpu,gpu,reference}",
    )
    trust: str | None = option(
        "File FILE.py, or module, that is run to find the model's layers that are none of incnet's.",
        None,
        otherwise="a model that has such layers is refused, and nothing is run",
        metavar="{FILE.py,MODULE}",
    )


@command(answers=True, refused=(ModelError, DataError, backend.DeviceError), unwritable=(WriteError,))
def main(arguments: list[str] | None = None) -> int:
    """Predict as the command line says. Returns the exit code."""
    if not is_first():
        return 0
    options = parse(Predict, arguments, prog="incnet predict")
    errors = Terminal(stderr=True)
    if options.top < 1:
        raise DataError(f"--top {options.top}: choose at least 1")
    if not options.images:
        raise DataError("no images: name at least one after the model")
    try:
        background = parse_colour(options.background)
    except ValueError as error:
        raise DataError(f"--background {options.background}: {error}") from error
    lines_of = FORMATS[which_format(options)]
    backend.use(backend.resolve(options.device))
    use_threads(None)
    if options.model.suffix.lower() in PICTURES:
        raise DataError(f"{options.model} is no model, but a picture: name a run or its model first, then the images")
    model = load_model(options.model, options.trust or ())
    if options.model.is_dir():
        errors.say(f"model: {_which_stage(model, options.model)}")
    images = Images(options.images, model.image_shape, background)
    lines = lines_of(predictions(model, images, options.top))
    if options.out is None:
        for line in lines:
            print(line)
    else:
        replace_file(options.out, (f"{line}\n".encode(errors="backslashreplace") for line in lines))
        errors.say(f"{options.out}: {counted(images.read, 'image')}")
    return BAD_INPUT if images.unreadable else 0


def which_format(options: Predict) -> str:
    """Return the name of the format that is asked for.

    Raises
    ------
    DataError
        Options contradict each other, or do not say which it is.
    """
    if options.json and options.format not in (None, "jsonl"):
        raise DataError(f"--json and --format {options.format}: choose one of them")
    if options.out is not None and options.out.resolve() in {image.resolve() for image in options.images}:
        raise DataError(f"--out {options.out} is one of the images: choose another name")
    if options.format or options.json:
        return options.format or "jsonl"
    if options.out is None:
        return "text"
    try:
        return SUFFIXES[options.out.suffix.lower()]
    except KeyError:
        known = ", ".join(SUFFIXES)
        raise DataError(f"--out {options.out}: let its name end in one of {known}, or say --format") from None


def _which_stage(model: Model, folder: Path) -> str:
    """Say which stage of a run ``model`` is, and whether there may be a later one."""
    stage = model.description.stage
    try:
        *_, last = (folder / "metrics.jsonl").read_bytes().splitlines()
        ended = parse_json(last)["event"] == "stop"
    except (OSError, ValueError, TypeError, KeyError):  # no such file, or a line that is being written
        ended = False
    return (
        f"{stage}, the last stage of {folder}"
        if ended
        else f"{stage}, the last stage so far of {folder}, which has not ended"
    )


class Images:
    """The images of several files, each with its name; of those that cannot be read, the reasons.

    Attributes
    ----------
    read : int
        Images so far.
    unreadable : int
        Files that could not be read so far. Each is named as it is come to.
    """

    def __init__(self, paths: Iterable[Path], shape: tuple[int, int, int], background: tuple[int, int, int]) -> None:
        self._paths, self._shape, self._background = paths, shape, background
        self.read = self.unreadable = 0

    def __iter__(self) -> Iterator[tuple[str, NDArray[np.uint8]]]:
        for path in self._paths:
            inside = pictures_in(path) if path.is_dir() else [path]
            if not inside:
                self._leave_out(f"{path} holds no pictures")
            for file in inside:
                try:
                    for image in read_images(file, self._shape, self._background):
                        self.read += 1
                        yield image
                except DataError as error:
                    self._leave_out(error)

    def _leave_out(self, reason: object) -> None:
        Terminal(stderr=True).say(f"error: {reason}")
        self.unreadable += 1


def predictions(model: Model, images: Iterable[tuple[str, NDArray[np.uint8]]], top: int) -> Iterator[Answer]:
    """Yield, for each image, its name and the ``top`` most probable classes, the best first."""
    images = iter(images)
    while batch := list(islice(images, model.batch_size)):
        probabilities = model.predict(np.stack([pixels for _, pixels in batch]))
        for (name, _), row in zip(batch, probabilities, strict=True):
            best = np.argsort(-row, kind="stable")[:top]
            named: list[Named] = [{"class": model.classes[i], "probability": round(float(row[i]), 6)} for i in best]
            yield {"image": name, "predictions": named}


if __name__ == "__main__":
    sys.exit(main())
