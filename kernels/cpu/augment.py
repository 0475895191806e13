"""Gather, mirror, normalise and shift a batch of images, in one pass over the pixels.

The kernel releases the GIL and runs on the thread that calls it, so that a loader can use it beside a training step.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ..reference.augment import check_augment
from .tape import whole

__all__ = ["augment"]


@whole
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

    Equal to `incnet.kernels.reference.augment`, bit for bit; the parameters and errors are described there. Images
    that are not C-contiguous are copied first, all of them.
    """
    check_augment(images, rows, shifts, flips, mean, std, out)
    shape = (len(rows), *images.shape[1:])
    # One memory layout and one type of integer, so that one compiled kernel serves every caller.
    target = out if out is not None and out.flags.c_contiguous else np.empty(shape, np.float32)
    _augment(
        np.ascontiguousarray(images),
        np.ascontiguousarray(rows, np.int64),
        np.ascontiguousarray(shifts, np.int64),
        np.ascontiguousarray(flips),
        # A row of pixels is W * C values in memory: with as many means the inner loop is one plain vector loop.
        np.tile(mean, shape[2]),
        np.tile(np.float32(1) / std, shape[2]),
        target,
    )
    if out is None:
        return target
    if target is not out:
        out[...] = target
    return out


@njit(cache=True, nogil=True)
def _augment(images, rows, shifts, flips, mean, inv_std, out):
    """Fill `out`; `mean` and `inv_std` are (W * C,), one value for every value of a row of pixels."""
    n, height, width, channels = out.shape
    for i in range(n):
        image = images[rows[i]]
        down, right = shifts[i, 0], shifts[i, 1]
        first, last = max(right, 0), min(width + right, width)
        for y in range(height):
            row_out = out[i, y].reshape(width * channels)
            if not (0 <= y - down < height and first < last):
                row_out[:] = 0
                continue
            row_out[: first * channels] = 0
            row_out[last * channels :] = 0
            visible_out = row_out[first * channels : last * channels]
            row = image[y - down].reshape(width * channels)
            if flips[i]:
                visible = row[(width - last + right) * channels : (width - first + right) * channels]
                for x in range(last - first):
                    mirrored = last - first - 1 - x
                    for c in range(channels):
                        pixel = np.float32(visible[mirrored * channels + c])
                        visible_out[x * channels + c] = (pixel - mean[c]) * inv_std[c]
            else:
                visible = row[(first - right) * channels : (last - right) * channels]
                for j in range(len(visible_out)):
                    visible_out[j] = (np.float32(visible[j]) - mean[j]) * inv_std[j]
