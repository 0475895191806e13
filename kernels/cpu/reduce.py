"""Sums over all axes but the last."""

import numpy as np
from numba import njit, prange

from .parallel import run, threads_for
from .tape import whole

__all__ = ["bias_grad"]


@whole
def bias_grad(dy):
    """Sum of ``dy`` (..., K) over all axes but the last, accumulated in float64."""
    rows = np.ascontiguousarray(dy).reshape(-1, dy.shape[-1])
    return run(_column_sums, rows.size, rows, threads_for(rows.size)).astype(dy.dtype)


@njit(parallel=True, cache=True)
def _column_sums(rows, threads):
    parts = np.zeros((threads, rows.shape[1]))
    for t in prange(threads):
        for i in range(t * len(rows) // threads, (t + 1) * len(rows) // threads):
            for k in range(rows.shape[1]):
                parts[t, k] += rows[i, k]
    return parts.sum(axis=0)
