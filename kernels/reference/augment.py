"""Gather, mirror, normalise and shift a batch of images.

Legend: N images in the data set, n images in the batch, H height, W width, C channels.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["augment"]


def augment(
    images: NDArray[np.uint8],
    rows: NDArray[np.int64],
    shifts: NDArray[np.integer],
    flips: NDArray[np.bool_],
    mean: NDArray[np.float32],
    std: NDArray[np.float32],
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Return the images of `rows`, mirrored where `flips` says so, normalised, then moved by `shifts`.

    Parameters
    ----------
    images : uint8 (N, H, W, C)
        Pixels, 0 to 255.
    rows : int64 (n,)
        Which images, 0 to N - 1.
    shifts : integer (n, 2)
        Pixels by which each image moves down and to the right; negative moves up and to the left.
    flips : bool (n,)
        Whether each image is mirrored, left to right, before it is moved.
    mean, std : float32 (C,)
        Of the pixels, in their units.
    out : float32 (n, H, W, C), optional
        Where to write.

    Returns
    -------
    out : float32 (n, H, W, C)
        What an image leaves uncovered is zero, which is the mean colour.

    Raises
    ------
    IndexError
        A row lies outside the data set.

    Notes
    -----
    The quotient is taken as ``(pixel - mean) * (1 / std)``, each operation rounded to float32.
    """
    check_rows(rows, len(images))
    height, width = images.shape[1:3]
    inv_std = np.float32(1) / std
    if out is None:
        out = np.empty((len(rows), *images.shape[1:]), np.float32)
    out[...] = 0
    for i, (row, (down, right), flip) in enumerate(zip(rows, shifts.tolist(), flips, strict=True)):
        image = images[row, :, ::-1] if flip else images[row]
        normalised = (image.astype(np.float32) - mean) * inv_std
        to_y, from_y = _overlap(height, down)
        to_x, from_x = _overlap(width, right)
        out[i, to_y, to_x] = normalised[from_y, from_x]
    return out


def _overlap(size: int, shift: int) -> tuple[slice, slice]:
    """Return where the part that stays visible goes to, and where it comes from, along an axis of `size` pixels."""
    visible = max(size - abs(shift), 0)
    start = max(shift, 0)
    return slice(start, start + visible), slice(start - shift, start - shift + visible)


def check_rows(rows: NDArray[np.int64], count: int) -> None:
    """Raise IndexError unless all rows are in 0 .. count - 1."""
    if rows.size and not 0 <= rows.min() <= rows.max() < count:
        raise IndexError(f"rows {rows.min()} to {rows.max()} of a data set of {count} images")
