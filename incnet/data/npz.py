"""Arrays in a file, as Keras has them: ``x_train``, ``y_train``, ``x_test`` and ``y_test`` in one ``.npz``."""

from __future__ import annotations

from pathlib import Path
from zipfile import is_zipfile

import numpy as np
from numpy.typing import NDArray

from incnet.inputs import check_images, check_labels

from .dataset import Dataset, Split
from .error import DataError

__all__ = ["load_npz"]


def load_npz(path: Path) -> Dataset:
    """Return the data set in a file.

    Parameters
    ----------
    path : Path
        Of a file with ``x_train`` and ``y_train``, and perhaps ``x_test`` and ``y_test``: images uint8 (N, H, W), grey,
        or (N, H, W, C), and whole numbers or texts (N,) or (N, 1), which name the classes.

    Raises
    ------
    DataError
        If the file cannot be read, or holds something else.
    """
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            held = sorted(file)
            arrays = {name: file[name] for name in ("x_train", "y_train", "x_test", "y_test") if name in file}
    except Exception as error:  # zip and NumPy's headers fail in many ways
        if path.is_file() and not is_zipfile(path):
            raise DataError(f"{path} is no .npz file, as numpy.savez writes it") from error
        raise DataError(f"{path} cannot be read ({' '.join(str(error).split()):.120})") from error
    if missing := sorted({"x_train", "y_train"} - arrays.keys()):
        expected = "expected x_train, y_train, and perhaps x_test, y_test"
        raise DataError(f"{path} holds no {missing[0]}, but {_named(held)}; {expected}")
    if ("x_test" in arrays) != ("y_test" in arrays):
        raise DataError(f"{path} holds one of x_test and y_test; expected both, or none")
    train_images = _images(path, "x_train", arrays["x_train"])
    empty = np.zeros((0, *train_images.shape[1:]), np.uint8), np.zeros(0, np.int64)
    test_images = _images(path, "x_test", arrays["x_test"]) if "x_test" in arrays else empty[0]
    train_names = _labels(path, "y_train", arrays["y_train"], len(train_images))
    test_names = _labels(path, "y_test", arrays["y_test"], len(test_images)) if "y_test" in arrays else empty[1]
    names = np.unique(train_names)
    if unknown := sorted(set(test_names.tolist()) - set(names.tolist())):
        raise DataError(f"{path}: y_test holds {unknown[0]}, of which there is nothing to train on")
    train, test = (
        Split(images, np.searchsorted(names, labels).astype(np.int64))
        for images, labels in ((train_images, train_names), (test_images, test_names))
    )
    return Dataset(path.stem, tuple(names.tolist()), train, test, str(path))


def _named(names: list[str]) -> str:
    """Name a file's arrays, by names that may be anything."""
    shown = [name if name.isidentifier() else repr(name) for name in names]
    return ", ".join(shown)[:200] or "nothing"


def _images(path: Path, name: str, array: NDArray) -> NDArray[np.uint8]:
    images = array[..., np.newaxis] if array.ndim == 3 and array.dtype == np.uint8 else array
    try:
        check_images(images)
    except ValueError as error:
        raise DataError(f"{path}: {name}: {error}") from error
    return images


def _labels(path: Path, name: str, array: NDArray, images: int) -> NDArray:
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.dtype.kind == "U" and array.shape == (images,):  # texts are as good as numbers here
        return array
    try:
        check_labels(array, images)
    except ValueError as error:
        raise DataError(f"{path}: {name}: {error}") from error
    return array
