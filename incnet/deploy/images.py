"""Images from files, brought to the size and the channels that a model takes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from incnet.colours import COLOURS, Colour
from incnet.data.dataset import DataError
from incnet.data.pictures import check_channels, fit, pillow_image, read_picture, unreadable

__all__ = ["read_images"]

STANDARD_INPUT = Path("-")


def read_images(
    path: Path, shape: tuple[int, int, int], background: Colour = COLOURS["white"]
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield the name and the pixels (H, W, C) of each image in a file.

    Parameters
    ----------
    path : Path
        A picture in one of :data:`incnet.data.pictures.FORMATS`, or an array in a ``.npy`` file: uint8, one image
        (H, W) or (H, W, C), or several (N, H, W, C), of the channels that are asked for. ``-`` is a picture on standard
        input.
    shape : tuple of int
        (H, W, C) that is asked for.
    background : tuple of int
        Red, green and blue, 0 to 255, behind what is transparent in a picture.

    Raises
    ------
    DataError
        If the file cannot be read, or cannot be brought to that shape.
    """
    if path == STANDARD_INPUT:
        yield str(path), read_picture(path, shape, background, _standard_input())
    elif path.suffix == ".npy":
        yield from _read_array(path, shape)
    else:
        yield str(path), read_picture(path, shape, background)


def _standard_input() -> bytes:
    if sys.stdin is None:  # it was closed before the command began
        raise unreadable(STANDARD_INPUT, "standard input is closed")
    return sys.stdin.buffer.read()


def _read_array(path: Path, shape: tuple[int, int, int]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    try:
        # Mapped, so that a header which promises more than there is takes no memory.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise unreadable(path, error.strerror or error) from error
    except Exception as error:  # NumPy parses the header as Python, which fails in many ways
        raise unreadable(path, error) from error
    if array.ndim == 2:
        array = array[..., np.newaxis]
    expected = f"uint8 (H, W, {shape[2]}) or (N, H, W, {shape[2]})"
    if array.dtype != np.uint8 or array.ndim not in (3, 4) or 0 in array.shape or array.shape[-1] != shape[2]:
        raise DataError(f"{path} holds {array.dtype} {array.shape}, the model takes {expected}")
    if array.ndim == 3:
        yield str(path), _fit_array(path, array, shape)
        return
    for i, pixels in enumerate(array):
        yield f"{path}[{i}]", _fit_array(path, pixels, shape)


def _fit_array(path: Path, pixels: NDArray[np.uint8], shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    if pixels.shape == shape:
        return pixels
    check_channels(path, shape)
    picture = pillow_image().fromarray(np.ascontiguousarray(pixels[..., 0] if shape[2] == 1 else pixels))
    return fit(picture, shape)
