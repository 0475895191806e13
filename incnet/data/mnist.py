"""MNIST and Fashion-MNIST: 70,000 grey images of digits, or of clothes, 28x28 pixels, in four IDX files.

Sources: LeCun, Bottou, Bengio and Haffner (1998), doi:10.1109/5.726791; Xiao, Rasul and Vollgraf (2017),
arXiv:1708.07747, who gave their files the names and sizes of MNIST's.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .dataset import DataError, Dataset, Split
from .download import RemoteFile
from .idx import read_idx

_SIDE = 28
_CLOTHES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
_STEMS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
# The first labels of each test set: files of equal names and sizes are told apart by them.
_FIRST_LABELS = {"MNIST": (7, 2, 1, 0, 4, 1, 4, 9, 5, 9), "Fashion-MNIST": (9, 2, 1, 1, 6, 1, 4, 6, 5, 7)}


@dataclass(frozen=True)
class Mnist:
    """Where the four files of a data set are, and what has to be in them.

    Attributes
    ----------
    name, title : str
        As options and as sentences have it.
    classes : tuple of str
        Ten names.
    folders : tuple of str
        In which the files may lie, within the folder that is searched, or ``.``.
    site : str
        Address of the folder from which they are fetched, with .gz behind their names.
    md5 : tuple of str
        Sums of the four, so packed.
    train_images, test_images : int
        How many there are.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    folders: tuple[str, ...]
    site: str
    md5: tuple[str, ...]
    train_images: int = 60_000
    test_images: int = 10_000

    @property
    def downloads(self) -> tuple[RemoteFile, ...]:
        """The four files to fetch where there is no copy."""
        return tuple(RemoteFile(f"{self.site}/{stem}.gz", md5) for stem, md5 in zip(_STEMS, self.md5, strict=True))

    @property
    def looked_for(self) -> str:
        """What `read` accepts in a folder, in words."""
        places = ", ".join(f"{folder}/" for folder in self.folders if folder != ".")
        return f"{', '.join(_STEMS)}, each with .gz or without, in {places} or the folder itself"

    def read(self, folder: Path) -> Dataset | None:
        """Read the data set from `folder`, or return None where none of its files is there.

        Raises
        ------
        DataError
            Files are missing, damaged, of another size than the official ones, or another data set's.
        """
        for name in self.folders:
            found = {stem: _find(folder / name, stem) for stem in _STEMS}
            if any(found.values()):
                return self._read_files(folder / name, *(found[stem] for stem in _STEMS))
        return None

    def _read_files(self, place: Path, *files: Path | None) -> Dataset:
        for stem, path in zip(_STEMS, files, strict=True):
            if path is None:
                raise DataError(f"{place / stem} is missing, with .gz and without; fetch it, or pass another folder")
        train_images, train_labels, test_images, test_labels = (path for path in files if path is not None)
        train = _read_split(train_images, train_labels, self.train_images)
        test = _read_split(test_images, test_labels, self.test_images)
        self._check_first_labels(place, tuple(test.labels[:10].tolist()))
        return Dataset(self.name, self.classes, train, test, source=str(place))

    def _check_first_labels(self, place: Path, found: tuple[int, ...]) -> None:
        first = _FIRST_LABELS[self.title][: len(found)]
        if found != first:
            other = next((title for title, labels in _FIRST_LABELS.items() if labels == found), "another data set")
            what = f"its first test labels are {found}, not {first}"
            raise DataError(f"{place} holds {other}, not {self.title} ({what}); pass another folder")


# Folders of Debian and Keras, of torchvision, and the one that is searched.
MNIST = Mnist(
    "mnist",
    "MNIST",
    tuple(map(str, range(10))),
    ("mnist", "MNIST/raw", "."),
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    (
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
)
FASHION_MNIST = Mnist(
    "fashion-mnist",
    "Fashion-MNIST",
    _CLOTHES,
    ("fashion-mnist", "FashionMNIST/raw", "."),
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion",
    (
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
)


def _find(place: Path, stem: str) -> Path | None:
    """Return the file of that stem, decompressed or not, or None."""
    candidates = (place / stem, place / f"{stem}.gz")
    return next((path for path in candidates if path.is_file()), None)


def _read_split(images: Path, labels: Path, count: int) -> Split:
    pixels = read_idx(images, (count, _SIDE, _SIDE))
    return Split(pixels[..., np.newaxis], read_idx(labels, (count,)).astype(np.int64))
