"""Gather, mirror, normalise and shift a batch of images, in one pass over the pixels.

The kernel releases the GIL and runs on the thread that calls it, so that a loader can use it beside a training step.
"""

import numpy as np
from numpy.typing import NDArray

from ..reference.augment import check_rows
from .calls import opaque
from .emit import clear, floats, integers, kernel, numbers, octets
from .memory import address, address_of_any

__all__ = ["augment"]

FLOAT = 4  # bytes


@opaque
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
    check_rows(rows, len(images))
    shape = (len(rows), *images.shape[1:])
    target = out if out is not None and out.flags.c_contiguous else np.empty(shape, np.float32)
    images, flips = np.ascontiguousarray(images), np.ascontiguousarray(flips)
    rows, shifts = np.ascontiguousarray(rows, np.int64), np.ascontiguousarray(shifts, np.int64)
    # A row of pixels is W * C values in memory: with as many means the inner loop is one plain vector loop.
    mean, inv_std = (np.tile(array.astype(np.float32), shape[2]) for array in (mean, np.float32(1) / std))
    given: list[np.ndarray] = [images, rows, shifts, flips]
    gather(*shape, *map(address_of_any, given), *map(address, (mean, inv_std, target)), threads=1)
    if out is None:
        return target
    if target is not out:
        out[...] = target
    return out


@kernel
def gather(t, threads, arguments):
    """Fill `out`; `mean` and `inv_std` are (W * C,), one value for every value of a row of pixels."""
    N, H, W, C, images, rows, shifts, flips, mean, inv_std, out = numbers(arguments, 11)
    row, shift, flip, means, scales = integers(rows), integers(shifts), octets(flips), floats(mean), floats(inv_std)
    for n in range(N):
        down, right = shift[2 * n], shift[2 * n + 1]
        first, last = max(right, 0), min(W + right, W)
        for h in range(H):
            there = out + FLOAT * (n * H + h) * W * C
            if not (0 <= h - down < H and first < last):
                clear(there, W * C)
                continue
            clear(there, first * C)
            clear(there + FLOAT * last * C, (W - last) * C)
            pixels, results = octets(images + (row[n] * H + h - down) * W * C), floats(there + FLOAT * first * C)
            if flip[n]:
                for w in range(last - first):
                    mirrored = (W - 1 - w - first + right) * C
                    for c in range(C):
                        results[w * C + c] = (np.float32(pixels[mirrored + c]) - means[c]) * scales[c]
            else:
                begin = (first - right) * C
                for i in range((last - first) * C):
                    results[i] = (np.float32(pixels[begin + i]) - means[i]) * scales[i]
