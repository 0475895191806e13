"""Patches as the rows of a matrix, and their adjoint."""

from __future__ import annotations

import cupy as cp

from ..shapes import output_size
from .launch import contiguous, elements, vector_width
from .loader import load

__all__ = ["as_matrix", "col2im", "im2col"]

FILE = "im2col.cu"


def as_matrix(x):
    """``x (..., K) -> (rows, K)``: a view where x is contiguous."""
    return contiguous(x)[0].reshape(-1, x.shape[-1])


def im2col(x, kernel_size, stride, padding):
    """Patches of ``x`` (N, H, W, C) as the rows of a matrix (N*Ho*Wo, Kh*Kw*C)."""
    (x,) = contiguous(x)
    n, *size, channels = x.shape
    rows, cols = (output_size(s, k, stride, padding) for s, k in zip(size, kernel_size, strict=True))
    columns = cp.empty((n * rows * cols, kernel_size[0] * kernel_size[1] * channels), x.dtype)
    width = vector_width(channels, x, columns)
    count = columns.size // width
    kernel = load(FILE, "im2col", x.dtype, VEC=width)
    kernel(*elements(count), x, columns, *size, channels, rows, cols, *kernel_size, stride, padding, count)
    return columns


def col2im(columns, x_shape, kernel_size, stride, padding):
    """Adjoint of :func:`im2col`: every pixel of the result (N, H, W, C) gathers the patch entries that came from it."""
    (columns,) = contiguous(columns)
    _, *size, channels = x_shape
    rows, cols = (output_size(s, k, stride, padding) for s, k in zip(size, kernel_size, strict=True))
    dx = cp.empty(x_shape, columns.dtype)
    width = vector_width(channels, columns, dx)
    count = dx.size // width
    kernel = load(FILE, "col2im", dx.dtype, VEC=width)
    kernel(*elements(count), columns, dx, *size, channels, rows, cols, *kernel_size, stride, padding, count)
    return dx
