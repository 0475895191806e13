"""CIFAR-10 and CIFAR-100: 60,000 colour images of 32x32 pixels, in the two layouts of the official archives.

binary
    Records of one label (CIFAR-100: a coarse and a fine one) and 3,072 pixels, all single bytes.
python
    Pickled dictionaries of an array of pixels and a list of labels.

In both an image is three planes, red, green and blue. Source: Krizhevsky (2009), Learning Multiple Layers of Features
from Tiny Images, https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .archive import extract_folder
from .dataset import DataError, Dataset, Split
from .download import RemoteFile
from .pickled import read_pickled_dict

_SIDE, _CHANNELS = 32, 3
_PLANE = _SIDE * _SIDE


@dataclass(frozen=True)
class Layout:
    """One of the two forms that the files come in: their folder, their suffix, and the archive that holds them."""

    folder: str
    suffix: str
    archive: RemoteFile


@dataclass(frozen=True)
class Cifar:
    """Where the images of one of the data sets are, and how many there have to be.

    Parameters
    ----------
    name : str
        As in `DATASETS`.
    classes : tuple of str
        Name of each label.
    binary, python : Layout
        The two forms.
    train_files : tuple of str
        Stems of the training files; the test file has one too.
    test_file : str
        Stem.
    train_records, test_records : int
        Images in each training file, and in the test file.
    label_key : bytes
        Of the labels, in the python layout.
    label_bytes, label_byte : int
        Number in a record of the binary layout, and which of them is the label.
    """

    name: str
    classes: tuple[str, ...]
    binary: Layout
    python: Layout
    train_files: tuple[str, ...]
    test_file: str
    train_records: int
    test_records: int
    label_key: bytes
    label_bytes: int
    label_byte: int

    @property
    def downloads(self) -> tuple[RemoteFile, ...]:
        """The archive to fetch where there is no copy: the binary one, since it takes no unpickling."""
        return (self.binary.archive,)

    @property
    def looked_for(self) -> str:
        """What `read` accepts in a folder, in words."""
        layouts = (self.binary, self.python)
        return ", ".join([f"{layout.folder}/" for layout in layouts] + [layout.archive.name for layout in layouts])

    def read(self, folder: Path) -> Dataset | None:
        """Read the data set from `folder`, or return None where it is not there.

        The images may lie in `folder` itself or in the folder that the official archive makes; an archive is unpacked
        beside itself. `folder` may be the archive, too.

        Raises
        ------
        DataError
            Files are missing, damaged, or of another size than the official ones.
        """
        if folder.is_file():
            layout = next((layout for layout in (self.binary, self.python) if layout.archive.name == folder.name), None)
            return None if layout is None else self._read_files(extract_folder(folder, layout.folder), layout)
        for layout in (self.binary, self.python):
            for place in (folder / layout.folder, folder):
                if self._is_there(place, layout):
                    return self._read_files(place, layout)
        for layout in (self.binary, self.python):
            archive = folder / layout.archive.name
            if archive.is_file():
                return self._read_files(extract_folder(archive, layout.folder), layout)
        return None

    def _is_there(self, place: Path, layout: Layout) -> bool:
        """Say whether `place` is the layout's folder, by its name or by its files; `_read_files` misses single ones."""
        stems = (*self.train_files, self.test_file)
        named = place.resolve().name == layout.folder and place.is_dir()
        return named or all((place / f"{stem}{layout.suffix}").is_file() for stem in stems)

    def _read_files(self, place: Path, layout: Layout) -> Dataset:
        train = self._read_split(place, layout, self.train_files, self.train_records)
        test = self._read_split(place, layout, (self.test_file,), self.test_records)
        return Dataset(self.name, self.classes, train, test, source=str(place))

    def _read_split(self, place: Path, layout: Layout, stems: tuple[str, ...], records: int) -> Split:
        """Read files of `records` images each, plane by plane, into one array (N, H, W, C)."""
        images = np.empty((len(stems), records, _PLANE, _CHANNELS), np.uint8)
        labels = np.empty((len(stems), records), np.int64)
        for i, stem in enumerate(stems):
            path = place / f"{stem}{layout.suffix}"
            if not path.is_file():
                raise DataError(f"{path} is missing; fetch the archive again, or pass another folder")
            if layout is self.binary:
                planes, labels[i] = read_binary(path, records, self.label_bytes, self.label_byte)
            else:
                planes, labels[i] = read_python(path, records, self.label_key)
            for c in range(_CHANNELS):
                images[i, :, :, c] = planes[:, c * _PLANE : (c + 1) * _PLANE]
            if labels[i].max() >= len(self.classes):
                found = f"label {labels[i].max()}, but there are {len(self.classes)} classes"
                raise DataError(f"{path} holds {found}; fetch it again")
        return Split(images.reshape(-1, _SIDE, _SIDE, _CHANNELS), labels.reshape(-1))


def read_binary(
    path: Path, records: int, label_bytes: int, label_byte: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read a file of the binary layout, which must hold `records` images.

    Returns
    -------
    planes : uint8 (records, C * H * W)
    labels : int64 (records,)

    Raises
    ------
    DataError
        The file is unreadable or of another size.
    """
    record_bytes = label_bytes + _CHANNELS * _PLANE
    try:
        found = path.stat().st_size
        if found != records * record_bytes:
            expected = f"{records * record_bytes:,} ({records:,} records of {record_bytes:,})"
            raise DataError(f"{path} holds {found:,} bytes, expected {expected}; fetch it again")
        content = np.fromfile(path, np.uint8, records * record_bytes).reshape(records, record_bytes)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); fetch it again") from error
    return content[:, label_bytes:], content[:, label_byte].astype(np.int64)


def read_python(path: Path, records: int, label_key: bytes) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read a file of the python layout, which must hold `records` images.

    Returns
    -------
    planes : uint8 (records, C * H * W)
    labels : int64 (records,)

    Raises
    ------
    DataError
        The file is unreadable or damaged, holds another number of images or labels, or would build anything else.
    """
    shape = records, _CHANNELS * _PLANE
    # Written by Python 3 for protocol 2, each pixel may take two bytes; a label and a file name take up to 128.
    batch = read_pickled_dict(path, max_bytes=records * (2 * _CHANNELS * _PLANE + 128) + 4096)
    planes, labels = batch.get(b"data"), batch.get(label_key)
    if not isinstance(planes, np.ndarray) or planes.shape != shape:
        found = planes.shape if isinstance(planes, np.ndarray) else type(planes).__name__
        raise DataError(f"{path} holds pixels {found}, expected {shape}; fetch it again")
    if not isinstance(labels, list) or len(labels) != records:
        count = f"{len(labels):,}" if isinstance(labels, list) else "no list of"
        raise DataError(f"{path} holds {count} {label_key.decode()}, expected {records:,}; fetch it again")
    if not all(type(label) is int and 0 <= label < 256 for label in labels):
        raise DataError(f"{path} holds {label_key.decode()} that are not integers of one byte; fetch it again")
    return planes, np.array(labels, np.int64)


_SITE = "https://www.cs.toronto.edu/~kriz"

CIFAR10 = Cifar(
    name="cifar10",
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    binary=Layout(
        folder="cifar-10-batches-bin",
        suffix=".bin",
        archive=RemoteFile(f"{_SITE}/cifar-10-binary.tar.gz", md5="c32a1d4ab5d03f1284b67883e8d87530"),
    ),
    python=Layout(
        folder="cifar-10-batches-py",
        suffix="",
        archive=RemoteFile(f"{_SITE}/cifar-10-python.tar.gz", md5="c58f30108f718f92721af3b95e74349a"),
    ),
    train_files=("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"),
    test_file="test_batch",
    train_records=10_000,
    test_records=10_000,
    label_key=b"labels",
    label_bytes=1,
    label_byte=0,
)

_FINE_CLASSES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
    motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
    poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm
"""

CIFAR100 = Cifar(
    name="cifar100",
    classes=tuple(_FINE_CLASSES.split()),
    binary=Layout(
        folder="cifar-100-binary",
        suffix=".bin",
        archive=RemoteFile(f"{_SITE}/cifar-100-binary.tar.gz", md5="03b5dce01913d631647c71ecec9e9cb8"),
    ),
    python=Layout(
        folder="cifar-100-python",
        suffix="",
        archive=RemoteFile(f"{_SITE}/cifar-100-python.tar.gz", md5="eb9058c3a382ffc7106e4002c42a8d85"),
    ),
    train_files=("train",),
    test_file="test",
    train_records=50_000,
    test_records=10_000,
    label_key=b"fine_labels",
    label_bytes=2,
    label_byte=1,
)

_COARSE_CLASSES = """
    aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices household_furniture
    insects large_carnivores large_man-made_outdoor_things large_natural_outdoor_scenes large_omnivores_and_herbivores
    medium_mammals non-insect_invertebrates people reptiles small_mammals trees vehicles_1 vehicles_2
"""

# The same images in 20 classes of five each.
CIFAR100_COARSE = replace(
    CIFAR100, name="cifar100-coarse", classes=tuple(_COARSE_CLASSES.split()), label_key=b"coarse_labels", label_byte=0
)
