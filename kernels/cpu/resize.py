"""Images of another size.

The kernels release the GIL and run on the thread that calls them, so that a loader can use them beside a training step.
"""

import numpy as np

from ..reference.resize import neighbours, shares
from .calls import opaque
from .emit import floats, integers, kernel, numbers
from .fallback import for_float32
from .memory import address, address_of_any, aligned_empty

__all__ = ["resize_area", "resize_bilinear"]

FLOAT = 4  # bytes


@for_float32
@opaque
def resize_bilinear(x, size, out=None):
    """Interpolate x (n, H, W, C) between its pixels to (n, Ho, Wo, C); see the reference."""
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


@for_float32
@opaque
def resize_area(x, size, out=None):
    """Average x (n, H, W, C) over the area of each pixel of (n, Ho, Wo, C); see the reference."""
    shape = (len(x), *size, x.shape[3])
    x, target = np.ascontiguousarray(x), out if out is not None and out.flags.c_contiguous else aligned_empty(shape)
    top, down = windows(x.shape[1], size[0])
    left, across = windows(x.shape[2], size[1])
    # A row of pixels is Wo * C values in memory: with as many weights the inner loop is one plain loop.
    channels = np.arange(shape[3])
    places = (left[:, None] * shape[3] + channels).ravel()
    weights = down, np.repeat(across.T, shape[3], axis=1)
    summed = np.empty(x.shape[2] * shape[3], np.float32)
    spans = down.shape[1], across.shape[1]
    average(
        *x.shape,
        *size,
        *spans,
        address(x),
        *map(address_of_any, (top, places)),
        *map(address, (*map(np.ascontiguousarray, weights), summed, target)),
        threads=1,
    )
    if out is None or target is out:
        return target
    out[...] = target
    return out


def windows(before, after):
    """Find the pixels along an axis that each of ``after`` pixels covers, and their shares in it.

    Returns
    -------
    first : int64 (after,)
    weights : float32 (after, span)
        Of as many pixels for each; one that it does not cover has the weight 0.
    """
    whole = shares(before, after)
    span = np.count_nonzero(whole, axis=1).max()
    first = np.minimum(np.argmax(whole > 0, axis=1), before - span)
    return first, np.take_along_axis(whole, first[:, None] + np.arange(span), axis=1).astype(np.float32)


@kernel
def average(t, threads, arguments):
    """Fill `out`; `left` and each row of `across` are (Wo * C,): of every value of a row."""
    N, H, W, C, Ho, Wo, high, wide, x, top, left, down, across, summed, out = numbers(arguments, 15)
    first, before = integers(top), integers(left)
    weight, weights, row = floats(down), floats(across), floats(summed)
    for n in range(N):
        for h in range(Ho):
            for k in range(high):
                line, share = floats(x + FLOAT * (n * H + first[h] + k) * W * C), weight[h * high + k]
                for i in range(W * C):
                    row[i] = line[i] * share if k == 0 else row[i] + line[i] * share
            result = floats(out + FLOAT * (n * Ho + h) * Wo * C)
            for k in range(wide):
                for i in range(Wo * C):
                    value = row[before[i] + k * C] * weights[k * Wo * C + i]
                    result[i] = value if k == 0 else result[i] + value
