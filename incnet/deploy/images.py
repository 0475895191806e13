"""Images from files, brought to the size and the channels that a model takes.

Photographs are turned upright, made grey for models of one channel, scaled until the smaller side fits, by bicubic
interpolation, and cut to the middle. A picture that has the size already keeps its pixels.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from incnet.data.dataset import DataError
from incnet.extras import why_not

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["read_images"]

# What Pillow may read. It knows formats besides that are programs for other programs.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "WEBP")
# Its name for pixels of so many channels.
_MODES = {1: "L", 3: "RGB"}


def read_images(path: Path, shape: tuple[int, int, int]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield the name and the pixels (H, W, C) of each image in a file.

    Parameters
    ----------
    path : Path
        A picture in one of :data:`FORMATS`, or an array in a ``.npy`` file: uint8, one image (H, W) or
        (H, W, C), or several (N, H, W, C), of the channels that are asked for.
    shape : tuple of int
        (H, W, C) that is asked for.

    Raises
    ------
    DataError
        If the file cannot be read, or cannot be brought to that shape.
    """
    try:
        if path.suffix == ".npy":
            yield from _read_array(path, shape)
        else:
            yield str(path), _read_picture(path, shape)
    except OSError as error:
        raise _unreadable(path, error.strerror or f"no whole picture as {', '.join(FORMATS)}") from error


def _unreadable(path: Path, reason: object) -> DataError:
    return DataError(f"{path} cannot be read ({' '.join(str(reason).split()):.120})")


def _read_array(path: Path, shape: tuple[int, int, int]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    try:
        # Mapped, so that a header which promises more than there is takes no memory.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # NumPy parses the header as Python, which fails in many ways
        raise _unreadable(path, error) from error
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
    _check_channels(path, shape)
    picture = _pillow().fromarray(np.ascontiguousarray(pixels[..., 0] if shape[2] == 1 else pixels))
    return _fit(picture, shape)


def _read_picture(path: Path, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    _check_channels(path, shape)
    pillow = _pillow()
    from PIL import ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # oddities that do no harm
            warnings.simplefilter("error", pillow.DecompressionBombWarning)
            with pillow.open(path, formats=FORMATS) as picture:
                upright = ImageOps.exif_transpose(picture)
    except (pillow.DecompressionBombError, pillow.DecompressionBombWarning) as error:
        raise DataError(f"{path} is too large a picture; make it smaller") from error
    except OSError:
        raise
    except Exception as error:  # for damaged files Pillow raises whatever a parser may stumble over
        raise _unreadable(path, error) from error
    return _fit(_eight_bits(path, upright).convert(_MODES[shape[2]]), shape)


def _eight_bits(path: Path, picture: Image) -> Image:
    """Return the picture with values from 0 to 255; Pillow itself would cut larger ones off."""
    if picture.mode.startswith("I;16"):
        return _pillow().fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.mode in ("I", "F"):
        raise DataError(f"{path} has values of more than 8 bits, in an unknown range; save it with 8")
    return picture


def _fit(picture: Image, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    from PIL import ImageOps

    height, width, _ = shape
    if picture.size != (width, height):
        picture = ImageOps.fit(picture, (width, height), _pillow().Resampling.BICUBIC)
    return np.asarray(picture).reshape(shape)


def _check_channels(path: Path, shape: tuple[int, int, int]) -> None:
    if shape[2] not in _MODES:
        raise DataError(f"{path}: the model takes {shape[2]} channels; pass a .npy file of uint8 {shape}")


def _pillow():  # type: ignore[no-untyped-def]
    try:
        from PIL import Image
    except Exception as error:
        missing = "pictures are read by Pillow, which is missing; run: pip install incnet[images]"
        raise DataError(why_not("Pillow", error, missing)) from error
    return Image
