"""Labelled images: a split, a data set of several splits, and the statistics that normalise them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from incnet.inputs import check_images, check_labels
from incnet.names import counted

from .augment import Augmentation
from .error import DataError

__all__ = ["DataError", "Dataset", "Normalisation", "Split", "split_validation"]

_CHUNK = 512  # images whose pixels are held in float64 at a time


@dataclass(frozen=True, eq=False)
class Split:
    """Images and their labels.

    Parameters
    ----------
    images : uint8 (N, H, W, C)
        Pixels, 0 to 255.
    labels : int64 (N,)
        Class of each image, from 0. Other whole numbers are converted.
    rows : int64 (N,), optional
        Where each image lies in `images`, which then may hold others, too; None for one after the other.

    Raises
    ------
    DataError
        Another shape or type, or a negative label.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    rows: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        try:
            check_images(self.images)
            check_labels(self.labels, len(self.images) if self.rows is None else len(self.rows))
        except ValueError as error:
            raise DataError(str(error)) from error
        if not isinstance(self.labels, np.ndarray):  # a column of pandas has rows by name, which may be in any order
            raise DataError(f"the labels are a {type(self.labels).__name__}, not an array: try numpy.asarray(labels)")
        object.__setattr__(self, "labels", self.labels.astype(np.int64, copy=False))
        if len(self) and self.labels.min() < 0:
            raise DataError(f"label {self.labels.min()} is negative; classes count from 0")

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        height, width, channels = self.images.shape[1:]
        return f"<Split: {counted(len(self), 'image')} of {height} x {width} x {channels}>"

    def take(self, rows: slice | NDArray[np.integer]) -> Split:
        """Return the images and labels of `rows`: a view for a slice, a copy for indices.

        Of images that lie in a mapped file nothing is copied: there may be more than memory holds.
        """
        if self.rows is None and not isinstance(self.images, np.memmap):
            return Split(self.images[rows], self.labels[rows])
        return Split(self.images, self.labels[rows], self.places(rows))

    def places(self, rows: slice | NDArray[np.integer]) -> NDArray[np.int64]:
        """Return where the images of `rows` lie in `images`."""
        return (np.arange(len(self)) if self.rows is None else self.rows)[rows]

    def pixels(self, rows: slice | NDArray[np.integer] = slice(None)) -> NDArray[np.uint8]:
        """Return the images of `rows`, uint8 (n, H, W, C)."""
        return self.images[rows] if self.rows is None else self.images[self.rows[rows]]


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training and a test split with the same classes and the same shape of image.

    Parameters
    ----------
    name : str
        Any; one of `DATASETS` for those that come by a name.
    classes : tuple of str
        Name of each label. Numbers are spelt out.
    train, test : Split
        The test split is for the end of a run, and decides nothing before. It may be empty, for instance
        ``train.take(slice(0))``: then nothing is tested.
    source : str
        Where the images were read from.
    validation : Split, optional
        What decides when to grow; None for a part of the training images, as the options of a run say.
    augmentation : Augmentation, optional
        Of the training images, where the options of a run leave it open.
    normalisation : Normalisation, optional
        Of all images; None for that of the training images.
    checksum : str
        Of all that makes the data set, if it is known; "" for that of its images.
    remarks : tuple of str
        What was found when it was read, and was not asked for: a line each, for the user.

    Raises
    ------
    DataError
        A label without a class, a name that cannot be shown, something else than a split, or splits whose images
        differ in shape.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    source: str = "memory"
    validation: Split | None = None
    augmentation: Augmentation | None = None
    normalisation: Normalisation | None = None
    checksum: str = ""
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.classes, str | int):
            raise DataError(f"the classes are {self.classes!r:.80}: give the name of each label, as ('cat', 'dog')")
        for part, split in (("train", self.train), ("validation", self.validation), ("test", self.test)):
            if not isinstance(split, Split) and not (split is None and part == "validation"):
                raise DataError(f"{part} is a {type(split).__name__}: give a Split(images, labels)")
        object.__setattr__(self, "classes", tuple(map(_spelt, self.classes)))
        for name in (self.name, *self.classes):
            if not (isinstance(name, str) and name and name.isprintable()):
                raise DataError(f"the name {name!r:.80}: choose one of letters that can be shown, and at least one")
        if twice := next((name for name in self.classes if self.classes.count(name) > 1), None):
            raise DataError(f"two classes are named {twice!r}; give each a name of its own")
        parts = {"training": self.train, "validation": self.validation, "test": self.test}
        for part, split in parts.items():
            if split is None:
                continue
            if split.images.shape[1:] != self.train.images.shape[1:]:
                shapes = f"{self.train.images.shape[1:]} in training, {split.images.shape[1:]} in {part}"
                raise DataError(f"{self.name} from {self.source}: images of {shapes}; they must be of one shape")
            if len(split) and split.labels.max() >= self.num_classes:
                label, num_classes = f"{part} label {split.labels.max()}", counted(self.num_classes, "class", "classes")
                raise DataError(f"{self.name} from {self.source}: {label}, but there are {num_classes}")

    def __repr__(self) -> str:
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        counts = ", ".join(f"{name} {len(split):,}" for name, split in parts.items() if split is not None)
        height, width, channels = self.image_shape
        classes = counted(self.num_classes, "class", "classes")
        return f"<Dataset {self.name} from {self.source}: {classes}, {height} x {width} x {channels}, {counts}>"

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        height, width, channels = self.train.images.shape[1:]
        return height, width, channels

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)


def _spelt(name: object) -> object:
    """Return the text for a number: labels are often named by numbers."""
    return str(name) if isinstance(name, int | np.integer) and not isinstance(name, bool) else name


def split_validation(train: Split, fraction: float, seed: int) -> tuple[Split, Split]:
    """Hold a random `fraction` of every class out of `train`, for validation.

    The number held out is ``round(fraction * N)``, of each class its share to within one image. Both parts keep the
    order of `train`.

    Parameters
    ----------
    train : Split
        N images.
    fraction : float
        Between 0 and 1, both excluded.
    seed : int
        Of the choice: the same seed makes the same choice.

    Returns
    -------
    kept, held_out : Split
        The rest of `train`, and the validation part.

    Raises
    ------
    DataError
        The fraction is outside (0, 1) or leaves one of the parts empty.
    """
    if not 0 < fraction < 1:
        raise DataError(f"validation fraction {fraction} is not between 0 and 1; 0.1 is usual")
    count = round(fraction * len(train))
    if not 0 < count < len(train):
        raise DataError(f"validation fraction {fraction} of {len(train)} images leaves one part empty; change it")
    shuffled = np.random.default_rng(seed).permutation(len(train))
    by_class = shuffled[np.argsort(train.labels[shuffled], kind="stable")]
    # Evenly spaced picks from a list sorted by class take from each class its share, and within it at random.
    picks = (np.arange(count) * 2 + 1) * len(train) // (2 * count)
    held_out = np.zeros(len(train), np.bool_)
    held_out[by_class[picks]] = True
    return train.take(np.flatnonzero(~held_out)), train.take(np.flatnonzero(held_out))


@dataclass(frozen=True, eq=False)
class Normalisation:
    """Mean and standard deviation of every channel, by which pixels are normalised.

    Parameters
    ----------
    mean, std : float32 (C,)
        In units of the pixel values, 0 to 255.

    Raises
    ------
    DataError
        Another shape or type, a value that is not finite, or a standard deviation that is not positive.
    """

    mean: NDArray[np.float32]
    std: NDArray[np.float32]

    def __post_init__(self) -> None:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values.dtype != np.float32 or values.ndim != 1 or values.shape != self.mean.shape:
                raise DataError(f"{name} is {values.dtype} {values.shape}, expected float32 (C,), one for each channel")
            if not np.isfinite(values).all():
                raise DataError(f"{name} is {values.tolist()}; every channel needs a finite value")
        if not (self.std > 0).all():
            raise DataError(f"std is {self.std.tolist()}; it must be positive in every channel")

    @classmethod
    def fit(cls, split: Split) -> Self:
        """Return the statistics of `split`, which should be the training part alone.

        The sums are exact, so they do not depend on the order of the images. A constant channel gets a standard
        deviation of 1: it normalises to zero.

        Raises
        ------
        DataError
            The split is empty.
        """
        if not len(split):
            raise DataError("no images to take the mean and standard deviation of; pass the training part")
        n, (height, width, channels) = len(split), split.images.shape[1:]
        row_sum = np.zeros(width * channels)
        row_sum_of_squares = np.zeros(width * channels)
        for start in range(0, n, _CHUNK):
            pixels = split.pixels(slice(start, start + _CHUNK)).reshape(-1, width * channels).astype(np.float64)
            row_sum += pixels.sum(axis=0)
            row_sum_of_squares += np.einsum("ij,ij->j", pixels, pixels)
        count = n * height * width
        # Whole numbers, far below 2**53, are exact in float64; their squares may not be, but are in Python's integers.
        sums = [int(s) for s in row_sum.reshape(width, channels).sum(axis=0)]
        sums_of_squares = [int(s) for s in row_sum_of_squares.reshape(width, channels).sum(axis=0)]
        mean = [s / count for s in sums]
        std = [math.sqrt(count * q - s * s) / count or 1.0 for s, q in zip(sums, sums_of_squares, strict=True)]
        return cls(np.array(mean, np.float32), np.array(std, np.float32))
