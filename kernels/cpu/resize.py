"""Images of another size.

The kernel releases the GIL and runs on the thread that calls it, so that a loader can use it beside a training step.
"""

import numpy as np
from numba import njit

from ..reference.resize import neighbours
from .memory import aligned_empty
from .tape import whole

__all__ = ["resize_bilinear"]


@whole
def resize_bilinear(x, size, out=None):
    """Interpolate x (n, H, W, C) between its pixels to (n, Ho, Wo, C); see the reference."""
    shape = (len(x), *size, x.shape[3])
    target = out if out is not None and out.flags.c_contiguous else aligned_empty(shape, x.dtype)
    top, bottom, down = neighbours(x.shape[1], size[0])
    left, right, across = neighbours(x.shape[2], size[1])
    rows = top, bottom, down.astype(x.dtype)
    # A row of pixels is Wo * C values in memory: with as many weights the inner loop is one plain loop.
    channels = np.arange(shape[3])
    columns = [(side[:, None] * shape[3] + channels).ravel() for side in (left, right)]
    _resize_bilinear(np.ascontiguousarray(x), *rows, *columns, np.repeat(across, shape[3]).astype(x.dtype), target)
    if out is None or target is out:
        return target
    out[...] = target
    return out


@njit(cache=True, nogil=True)
def _resize_bilinear(x, top, bottom, down, left, right, across, out):
    """Fill `out`; `left`, `right` and `across` are (Wo * C,): of every value of a row."""
    n, rows, cols, channels = out.shape
    width = x.shape[2] * channels
    blended = np.empty(width, x.dtype)
    for i in range(n):
        for p in range(rows):
            upper, lower = x[i, top[p]].reshape(width), x[i, bottom[p]].reshape(width)
            for j in range(width):
                blended[j] = upper[j] + (lower[j] - upper[j]) * down[p]
            row = out[i, p].reshape(cols * channels)
            for j in range(cols * channels):
                row[j] = blended[left[j]] + (blended[right[j]] - blended[left[j]]) * across[j]
