"""Images of another size.

The kernel releases the GIL and runs on the thread that calls it, so that a loader can use it beside a training step.
"""

import numpy as np

from .. import reference
from ..reference.resize import neighbours
from .emit import floats, integers, kernel, numbers
from .memory import address, address_of_any, aligned_empty, single
from .tape import whole

__all__ = ["resize_bilinear"]

FLOAT = 4  # bytes


@whole
def resize_bilinear(x, size, out=None):
    """Interpolate x (n, H, W, C) between its pixels to (n, Ho, Wo, C); see the reference."""
    if not single(x):
        return reference.resize_bilinear(x, size, out)
    shape = (len(x), *size, x.shape[3])
    x, target = np.ascontiguousarray(x), out if out is not None and out.flags.c_contiguous else aligned_empty(shape)
    top, bottom, down = neighbours(x.shape[1], size[0])
    left, right, across = neighbours(x.shape[2], size[1])
    # A row of pixels is Wo * C values in memory: with as many weights the inner loop is one plain loop.
    channels = np.arange(shape[3])
    places = [top, bottom, *((side[:, None] * shape[3] + channels).ravel() for side in (left, right))]
    weights = down.astype(np.float32), np.repeat(across, shape[3]).astype(np.float32)
    blended = np.empty(x.shape[2] * shape[3], np.float32)
    interpolate(
        *x.shape, *size, address(x), *map(address_of_any, places), *map(address, (*weights, blended, target)), threads=1
    )
    if out is None or target is out:
        return target
    out[...] = target
    return out


@kernel
def interpolate(t, threads, arguments):
    """Fill `out`; `left`, `right` and `across` are (Wo * C,): of every value of a row."""
    N, H, W, C, Ho, Wo, x, top, bottom, left, right, down, across, blended, out = numbers(arguments, 15)
    above, below, before, behind = integers(top), integers(bottom), integers(left), integers(right)
    weight, weights, row = floats(down), floats(across), floats(blended)
    for n in range(N):
        for h in range(Ho):
            upper = floats(x + FLOAT * (n * H + above[h]) * W * C)
            lower = floats(x + FLOAT * (n * H + below[h]) * W * C)
            for i in range(W * C):
                row[i] = upper[i] + (lower[i] - upper[i]) * weight[h]
            result = floats(out + FLOAT * (n * Ho + h) * Wo * C)
            for i in range(Wo * C):
                result[i] = row[before[i]] + (row[behind[i]] - row[before[i]]) * weights[i]
