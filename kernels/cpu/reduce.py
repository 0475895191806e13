"""Sums over all axes but the last."""

import numpy as np

from .calls import opaque
from .coefficients import total
from .emit import doubles, floats, kernel, numbers
from .fallback import for_float32
from .memory import address, address_of_any
from .parallel import threads_for

__all__ = ["bias_grad"]

FLOAT, DOUBLE = 4, 8  # bytes


@for_float32
@opaque
def bias_grad(dy):
    """Sum of ``dy`` (..., K) over all axes but the last, accumulated in float64."""
    rows = np.ascontiguousarray(dy).reshape(-1, dy.shape[-1])
    threads = threads_for(rows.size)
    parts = np.empty((threads, rows.shape[1]))
    column_sums(*rows.shape, address(rows), address_of_any(parts), threads=threads)
    return total(parts).astype(np.float32)


@kernel
def column_sums(t, threads, arguments):
    """``rows (N, K) -> parts (threads, K)``, float64."""
    N, K, rows, parts = numbers(arguments, 4)
    sums = doubles(parts + DOUBLE * t * K)
    for k in range(K):
        sums[k] = 0
    for n in range(t * N // threads, (t + 1) * N // threads):
        row = floats(rows + FLOAT * n * K)
        for k in range(K):
            sums[k] += row[k]
