"""Pictures, brought to a size and a number of channels.

Photographs are turned upright, made grey for one channel, scaled until the smaller side fits, by bicubic interpolation,
and cut to the middle. A picture that has the size already keeps its pixels. What is transparent is shown as a viewer
shows it, on a background of one colour: what a file holds below it was seen by nobody.

Other kinds of pixels become those by Pillow: ``convert("L")`` (ITU-R 601) or ``convert("RGB")`` from grey, palettes,
CMYK, YCbCr and Lab; of 16 bits the upper 8 count.
"""

from __future__ import annotations

import warnings
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from incnet.colours import Colour
from incnet.extras import install, why_not

from .dataset import DataError
from .jpeg import endings

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["FORMATS", "check_channels", "fit", "pillow_image", "read_picture", "unreadable"]

# What Pillow may read. It knows formats besides that are programs for other programs.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# Its name for pixels of so many channels.
_MODES = {1: "L", 3: "RGB"}


def read_picture(
    path: Path, shape: tuple[int, int, int], background: Colour, content: bytes | None = None
) -> NDArray[np.uint8]:
    """Return the pixels (H, W, C) of a picture; of one that moves, the first.

    Parameters
    ----------
    path : Path
        A picture in one of :data:`FORMATS`.
    shape : tuple of int
        (H, W, C) that is asked for, with C of 1 or 3.
    background : tuple of int
        Red, green and blue, 0 to 255, behind what is transparent.
    content : bytes, optional
        The picture itself; ``path`` is then a name for it, and nothing is looked for there.

    Raises
    ------
    DataError
        If it is no whole picture, or cannot be brought to that shape.
    """
    try:
        return _read_picture(path, shape, background, content)
    except OSError as error:
        raise unreadable(path, error.strerror or f"no whole picture as {', '.join(FORMATS)}") from error


def unreadable(path: Path, reason: object) -> DataError:
    """Return the error that says that a file cannot be read, and why, in one line."""
    return DataError(f"{path} cannot be read ({' '.join(str(reason).split()):.120})")


def _read_picture(
    path: Path, shape: tuple[int, int, int], background: Colour, content: bytes | None
) -> NDArray[np.uint8]:
    check_channels(path, shape)
    pillow = pillow_image()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # oddities that do no harm
            warnings.simplefilter("error", pillow.DecompressionBombWarning)
            upright = _load_whole(path, content)
    except (pillow.DecompressionBombError, pillow.DecompressionBombWarning) as error:
        most = f"{pillow.MAX_IMAGE_PIXELS:,} pixels"
        raise DataError(f"{path} is too large a picture, of more than {most}: make it smaller") from error
    except OSError:
        raise
    except Exception as error:  # for damaged files Pillow raises whatever a parser may stumble over
        raise unreadable(path, error) from error
    return fit(_opaque(_eight_bits(path, upright), background).convert(_MODES[shape[2]]), shape)


def _load_whole(path: Path, content: bytes | None) -> Image:
    """Read a picture, which may lack the end of its file if nothing of the picture is in it."""
    try:
        return _load(path if content is None else BytesIO(content))
    except OSError:
        ended = endings(path.read_bytes() if content is None else content)
        shown = [_load(BytesIO(whole)) for whole in ended]
        if len({picture.tobytes() for picture in shown}) == 1:
            return shown[0]
        raise


def _load(source: Path | BytesIO) -> Image:
    from PIL import ImageOps

    pillow = pillow_image()
    pillow.init()
    known = [name for name in FORMATS if name in pillow.OPEN]  # an older Pillow has no AVIF
    with pillow.open(source, formats=known) as picture:
        return ImageOps.exif_transpose(picture)


def _opaque(picture: Image, background: Colour) -> Image:
    """Return the picture as it is seen on the background."""
    if not picture.has_transparency_data:
        return picture
    below = pillow_image().new("RGBA", picture.size, background)
    return pillow_image().alpha_composite(below, picture.convert("RGBA"))


def _eight_bits(path: Path, picture: Image) -> Image:
    """Return the picture with values from 0 to 255; Pillow itself would cut larger ones off."""
    if picture.mode.startswith("I;16"):
        return pillow_image().fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.mode in ("I", "F"):
        raise DataError(f"{path} has values of more than 8 bits, in an unknown range; save it with 8")
    return picture


def fit(picture: Image, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return the pixels (H, W, C) of the middle of a picture, its smaller side scaled to fit."""
    from PIL import ImageOps

    height, width, _ = shape
    if picture.size != (width, height):
        picture = ImageOps.fit(picture, (width, height), pillow_image().Resampling.BICUBIC)
    return np.asarray(picture).reshape(shape)


def check_channels(path: Path, shape: tuple[int, int, int]) -> None:
    """Raise DataError if no picture has so many channels."""
    if shape[2] not in _MODES:
        raise DataError(f"{path}: the model takes {shape[2]} channels; pass a .npy file of uint8 {shape}")


def pillow_image():  # type: ignore[no-untyped-def]
    """Return Pillow's module ``Image``.

    Raises
    ------
    DataError
        If Pillow is missing, or cannot be loaded.
    """
    try:
        from PIL import Image
    except Exception as error:
        missing = f"pictures are read by Pillow, which is missing; run: {install('images')}"
        raise DataError(why_not("Pillow", error, missing)) from error
    return Image
