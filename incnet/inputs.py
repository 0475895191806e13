"""What a batch has to be; of one that is not, a line says what is wrong, with the value, and what to do."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["check_batch", "check_images", "check_labels", "check_pixels"]


def check_batch(
    what: str, x: Any, *, dtype: np.dtype | None = None, axes: int | None = None, channels: int | None = None
) -> None:
    """Raise ValueError unless x is a batch that a layer or a network can take.

    Parameters
    ----------
    what : str
        The layer's or the network's name, with which the message begins.
    x : array (N, ...)
        N at least 1.
    dtype : numpy.dtype, optional
        That of the weights; any floating type unless given.
    axes, channels : int, optional
        How many axes there are, that of the batch included, and how long the last one is.
    """
    if not isinstance(getattr(x, "dtype", None), np.dtype):
        raise ValueError(f"{what}: the input is a {type(x).__name__}, not an array: try numpy.asarray(x, 'float32')")
    found = f"{what}: the input is {x.dtype} {tuple(x.shape)}"
    if x.dtype.kind != "f":
        wanted = f", the weights are {dtype}" if dtype else ""
        raise ValueError(f"{found}{wanted}: normalise pixels first, as in ((x - mean) / std).astype('float32')")
    if dtype is not None and x.dtype != dtype:
        raise ValueError(f"{found}, the weights are {dtype}: convert it with x.astype('{dtype}')")
    if axes is not None and len(x.shape) == axes - 1:
        raise ValueError(f"{found}, without an axis for the batch: give a single one as x[None]")
    if axes is not None and len(x.shape) != axes:
        raise ValueError(f"{found}, with {len(x.shape)} axes; expected {_pattern(axes, channels)}")
    if channels is not None and x.shape[-1] != channels:
        first = len(x.shape) == 4 and x.shape[1] == channels
        advice = "; channels come last: x.transpose(0, 2, 3, 1)" if first else ""
        raise ValueError(f"{found}; expected {_pattern(axes, channels)}{advice}")
    if 0 in x.shape:
        raise ValueError(f"{found}: there is nothing in it; leave empty batches out")


def check_pixels(images: Any, shape: tuple[int, int, int]) -> None:
    """Raise ValueError unless images are pixels uint8 (N, H, W, C), 0 to 255, of that shape (H, W, C); N may be 0."""
    height, width, channels = shape
    found = _check_type(images, f"{height}, {width}, {channels}")
    if images.shape == shape:
        raise ValueError(f"{found}: give a single one as images[None]")
    if images.shape[1:] == (height, width) and channels == 1:
        raise ValueError(f"{found}: add the axis of the channels, images[..., None]")
    if images.shape[1:] == (channels, height, width) != shape:
        raise ValueError(f"{found}: channels come last, images.transpose(0, 2, 3, 1)")
    if images.shape[1:] != shape:
        raise ValueError(f"{found}: incnet.deploy.images.read_images brings pictures to that shape")


def check_images(images: Any) -> None:
    """Raise ValueError unless images are pixels uint8 (N, H, W, C), 0 to 255, whatever their size; N may be 0."""
    found = _check_type(images, "H, W, C")
    if images.ndim == 3:
        raise ValueError(f"{found}: add the axis of the channels, images[..., None]")
    if images.ndim != 4 or 0 in images.shape[1:]:
        raise ValueError(f"{found}, with H, W and C of at least 1")
    _, first, rows, columns = images.shape
    if first in (1, 3) and rows == columns >= 8:  # square, and taken for a strip with as many channels as pixels
        raise ValueError(f"{found}: channels come last, images.transpose(0, 2, 3, 1)")


def _check_type(images: Any, shape: str) -> str:
    """Return what was found and what is expected, if images are an array of pixels; raise ValueError otherwise."""
    if not isinstance(images, np.ndarray):
        raise ValueError(f"images are a {type(images).__name__}, not an array: try numpy.asarray(images, 'uint8')")
    found = f"images are {images.dtype} {images.shape}, expected uint8 (N, {shape})"
    if images.dtype != np.uint8:
        raise ValueError(f"{found}: {_as_pixels(images)}")
    return found


def _as_pixels(images: np.ndarray) -> str:
    """Return what makes pixels of numbers that are none."""
    if images.size and images.dtype.kind in "iuf" and images.min() >= 0:
        if images.max() <= 1 and images.dtype.kind == "f":
            return "numbers from 0 to 1 become pixels by (255 * images).round().astype('uint8')"
        if images.max() <= 255:
            return "numbers from 0 to 255 become pixels by images.astype('uint8')"
    return "give pixels as they are, 0 to 255, and not normalised"


def check_labels(labels: Any, images: int) -> None:
    """Raise ValueError unless labels are whole numbers (N,), one for each of so many images."""
    if not isinstance(getattr(labels, "dtype", None), np.dtype):
        raise ValueError(f"the labels are a {type(labels).__name__}, not an array: try numpy.asarray(labels)")
    found = f"the labels are {labels.dtype} {tuple(labels.shape)}"
    if len(labels.shape) == 2 and labels.shape[1] > 1:
        raise ValueError(f"{found}, a number for each class: give the class as labels.argmax(axis=1)")
    if labels.dtype.kind in "USO":
        raise ValueError(f"{found}: names, numbers = numpy.unique(labels, return_inverse=True) makes numbers of names")
    if labels.dtype.kind not in "iu":
        raise ValueError(f"{found}: give whole numbers, as labels.astype('int64') makes them")
    if labels.shape == (images, 1):
        raise ValueError(f"{found}, for {images} images: give one for each, ({images},), as labels.ravel()")
    if labels.shape != (images,):
        raise ValueError(f"{found}, for {images} images: give one for each, ({images},)")


def _pattern(axes: int | None, channels: int | None) -> str:
    first = ("...",) if axes is None else ("N", "H", "W")[: axes - 1]
    return f"({', '.join(first)}, {'C' if channels is None else channels})"
