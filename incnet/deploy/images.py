"""Images from files, brought to the size and the channels that a model takes.

Photographs are turned upright, made grey for models of one channel, scaled until the smaller side fits, by bicubic
interpolation, and cut to the middle. A picture that has the size already keeps its pixels. What is transparent is shown
as a viewer shows it, on a background of one colour: what a file holds below it was seen by nobody.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from incnet.data.dataset import DataError
from incnet.deploy.jpeg import endings
from incnet.extras import why_not

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["COLOURS", "parse_colour", "read_images"]

# What Pillow may read. It knows formats besides that are programs for other programs.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# Its name for pixels of so many channels.
_MODES = {1: "L", 3: "RGB"}

Colour = tuple[int, int, int]
COLOURS: dict[str, Colour] = {"white": (255, 255, 255), "black": (0, 0, 0)}


def parse_colour(text: str) -> Colour:
    """Return red, green and blue, 0 to 255, of a name in :data:`COLOURS`, or of ``#rrggbb``.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if text in COLOURS:
        return COLOURS[text]
    if not re.fullmatch("#[0-9a-fA-F]{6}", text):
        raise ValueError(f"choose {', '.join(COLOURS)}, or a colour such as #808080")
    red, green, blue = bytes.fromhex(text[1:])
    return red, green, blue


def read_images(
    path: Path, shape: tuple[int, int, int], background: Colour = COLOURS["white"]
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield the name and the pixels (H, W, C) of each image in a file.

    Parameters
    ----------
    path : Path
        A picture in one of :data:`FORMATS`, or an array in a ``.npy`` file: uint8, one image (H, W) or
        (H, W, C), or several (N, H, W, C), of the channels that are asked for.
    shape : tuple of int
        (H, W, C) that is asked for.
    background : tuple of int
        Red, green and blue, 0 to 255, behind what is transparent in a picture.

    Raises
    ------
    DataError
        If the file cannot be read, or cannot be brought to that shape.
    """
    try:
        if path.suffix == ".npy":
            yield from _read_array(path, shape)
        else:
            yield str(path), _read_picture(path, shape, background)
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


def _read_picture(path: Path, shape: tuple[int, int, int], background: Colour) -> NDArray[np.uint8]:
    _check_channels(path, shape)
    pillow = _pillow()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # oddities that do no harm
            warnings.simplefilter("error", pillow.DecompressionBombWarning)
            upright = _load_whole(path)
    except (pillow.DecompressionBombError, pillow.DecompressionBombWarning) as error:
        raise DataError(f"{path} is too large a picture; make it smaller") from error
    except OSError:
        raise
    except Exception as error:  # for damaged files Pillow raises whatever a parser may stumble over
        raise _unreadable(path, error) from error
    return _fit(_opaque(_eight_bits(path, upright), background).convert(_MODES[shape[2]]), shape)


def _load_whole(path: Path) -> Image:
    """Read a picture, which may lack the end of its file if nothing of the picture is in it."""
    try:
        return _load(path)
    except OSError:
        shown = [_load(BytesIO(content)) for content in endings(path.read_bytes())]
        if len({picture.tobytes() for picture in shown}) == 1:
            return shown[0]
        raise


def _load(source: Path | BytesIO) -> Image:
    from PIL import ImageOps

    pillow = _pillow()
    pillow.init()
    known = [name for name in FORMATS if name in pillow.OPEN]  # an older Pillow has no AVIF
    with pillow.open(source, formats=known) as picture:
        return ImageOps.exif_transpose(picture)


def _opaque(picture: Image, background: Colour) -> Image:
    """Return the picture as it is seen on the background."""
    if not picture.has_transparency_data:
        return picture
    below = _pillow().new("RGBA", picture.size, background)
    return _pillow().alpha_composite(below, picture.convert("RGBA"))


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
