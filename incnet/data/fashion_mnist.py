"""Fashion-MNIST: 70,000 grey images of clothes, 28x28 pixels, in four IDX files.

Source: Xiao, Rasul and Vollgraf (2017), arXiv:1708.07747.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .dataset import DataError, Dataset, Split
from .download import RemoteFile
from .idx import read_idx

_SIDE = 28
_CLASSES = (
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
_FOLDERS = ("fashion-mnist", "FashionMNIST/raw", ".")  # Debian's and Keras' name, torchvision's, and the folder itself
_STEMS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_MNIST_TEST_LABELS = [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]  # MNIST has files of the same names and sizes
_SITE = "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion"
_MD5 = (
    "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "25c81989df183df01b3e8a0aad5dffbe",
    "bef4ecab320f06d8554ea6380940ec79",
    "bb300cfdad3c16e7a12a480ee83cd310",
)


@dataclass(frozen=True)
class FashionMnist:
    """Where the four files are, and how many images there have to be."""

    train_images: int = 60_000
    test_images: int = 10_000
    name: str = "fashion-mnist"

    @property
    def downloads(self) -> tuple[RemoteFile, ...]:
        """The four files to fetch where there is no copy."""
        return tuple(RemoteFile(f"{_SITE}/{stem}.gz", md5) for stem, md5 in zip(_STEMS, _MD5, strict=True))

    @property
    def looked_for(self) -> str:
        """What `read` accepts in a folder, in words."""
        return (
            f"{', '.join(_STEMS)}, each with .gz or without, in fashion-mnist/, FashionMNIST/raw/ or the folder itself"
        )

    def read(self, folder: Path) -> Dataset | None:
        """Read the data set from `folder`, or return None where none of its files is there.

        Raises
        ------
        DataError
            Files are missing, damaged, of another size than the official ones, or MNIST's.
        """
        for name in _FOLDERS:
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
        if test.labels[:10].tolist() == _MNIST_TEST_LABELS:
            raise DataError(f"{place} holds MNIST, not Fashion-MNIST; pass another folder")
        return Dataset(self.name, _CLASSES, train, test, source=str(place))


FASHION_MNIST = FashionMnist()


def _find(place: Path, stem: str) -> Path | None:
    """Return the file of that stem, decompressed or not, or None."""
    candidates = (place / stem, place / f"{stem}.gz")
    return next((path for path in candidates if path.is_file()), None)


def _read_split(images: Path, labels: Path, count: int) -> Split:
    pixels = read_idx(images, (count, _SIDE, _SIDE))
    return Split(pixels[..., np.newaxis], read_idx(labels, (count,)).astype(np.int64))
