"""Sums over the rows of a matrix, and of partial results, in a fixed order."""

from __future__ import annotations

import cupy as cp
import numpy as np

from .launch import contiguous, elements, finish_grid, rows_grid, vector_width
from .loader import load

__all__ = ["bias_grad"]

FILE = "reduce.cu"


def bias_grad(dy):
    """Sum of ``dy`` (..., K) over all axes but the last."""
    (dy,) = contiguous(dy)
    channels = dy.shape[-1]
    rows = dy.size // channels
    width = vector_width(channels, dy)
    grid, block = rows_grid(rows, channels, width)
    partial = cp.empty((grid[1], channels), dy.dtype)
    load(FILE, "column_sums", dy.dtype, VEC=width)(grid, block, dy, partial, rows, channels)
    return sum_partial(partial)


def sum_partial(partial, y=None):
    """Sum of ``partial`` (parts, ...) over its first axis, in double precision; written into ``y`` if that is given."""
    if y is None:
        y = cp.empty(partial.shape[1:], partial.dtype)
    load(FILE, "sum_partial", y.dtype, VEC=1)(*finish_grid(y.size), partial, y, len(partial), y.size)
    return y


def sum_partial_double(partial):
    """Sum of ``partial`` (parts, ...) over its first axis, in float64 whatever its dtype."""
    y = cp.empty(partial.shape[1:], np.float64)
    load(FILE, "sum_partial_double", partial.dtype, VEC=1)(*finish_grid(y.size), partial, y, len(partial), y.size)
    return y


def add_partial(partial, bias, y):
    """Write the sum of ``partial`` (parts, ..., K) over its first axis, plus ``bias`` (K,) or None, into ``y``."""
    kernel = load(FILE, "sum_few", y.dtype, VEC=1)
    kernel(*elements(y.size), partial, bias, y, len(partial), y.shape[-1], y.size)
