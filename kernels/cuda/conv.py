"""Convolution: an implicit matrix product, in own kernels for all three passes; see implicit_gemm.cu."""

from __future__ import annotations

import math

import cupy as cp

from .columns import col2im, im2col, output_size
from .launch import contiguous, vector_width
from .loader import load
from .reduce import add_partial, bias_grad, sum_partial
from .tiles import BK, FILL, FILL_REDUCTION, plan

__all__ = ["bias_grad", "col2im", "conv2d", "conv2d_input_grad", "conv2d_weight_grad", "im2col", "matmul"]

FORWARD, INPUT_GRAD, WEIGHT_GRAD = range(3)


def conv2d(x, weight, bias, stride, padding):
    """X (N, H, W, C), weight (Kh, Kw, C, K), bias (K,) or None -> y (N, Ho, Wo, K)."""
    x, weight, bias = contiguous(x, weight, bias)
    n, *size, channels = x.shape
    *kernel_size, _, channels_out = weight.shape
    rows, cols = (output_size(s, k, stride, padding) for s, k in zip(size, kernel_size, strict=True))
    y = cp.empty((n, rows, cols, channels_out), x.dtype)
    widths = vector_width(channels, x), vector_width(channels_out, weight), vector_width(channels_out, y)
    shape = (n, *size, channels, rows, cols, channels_out, *kernel_size, stride, padding)
    _product(FORWARD, x, weight, bias, y, shape, widths, math.prod((*kernel_size, channels)))
    return y


def conv2d_input_grad(dy, weight, x_shape, stride, padding):
    """Dy (N, Ho, Wo, K), weight (Kh, Kw, C, K) -> dx (N, H, W, C)."""
    dy, weight = contiguous(dy, weight)
    n, *size, channels = x_shape
    *kernel_size, _, channels_out = weight.shape
    dx = cp.empty(x_shape, dy.dtype)
    widths = vector_width(channels_out, dy), vector_width(channels_out, weight), vector_width(channels, dx)
    shape = (n, *size, channels, *dy.shape[1:3], channels_out, *kernel_size, stride, padding)
    _product(INPUT_GRAD, dy, weight, None, dx, shape, widths, math.prod((*kernel_size, channels_out)))
    return dx


def conv2d_weight_grad(x, dy, kernel_size, stride, padding):
    """X (N, H, W, C), dy (N, Ho, Wo, K) -> dw (Kh, Kw, C, K)."""
    x, dy = contiguous(x, dy)
    n, *size, channels = x.shape
    _, rows, cols, channels_out = dy.shape
    dw = cp.empty((*kernel_size, channels, channels_out), x.dtype)
    widths = vector_width(channels, x), vector_width(channels_out, dy), vector_width(channels_out, dw)
    shape = (n, *size, channels, rows, cols, channels_out, *kernel_size, stride, padding)
    _product(WEIGHT_GRAD, x, dy, None, dw, shape, widths, n * rows * cols)
    return dw


def _product(kind, left, right, bias, out, shape, widths, reduction):
    """Compute ``out``, a matrix (M, N) with N its last axis; split over the reduction where M and N are small."""
    columns = out.shape[-1]
    threads = FILL_REDUCTION if kind == WEIGHT_GRAD else FILL
    cut = plan(out.size // columns, columns, reduction, out.dtype, wide=widths[0] > 1, threads=threads)
    split = cut.parts > 1
    kernel = product_kernel(kind, cut.tile, widths, out.dtype)
    target = cp.empty((cut.parts, *out.shape), out.dtype) if split else out
    kernel(cut.grid, (cut.tile.threads,), left, right, None if split else bias, target, *shape, cut.steps)
    if split and kind == WEIGHT_GRAD and cut.parts > 8:
        sum_partial(target, out)
    elif split:
        add_partial(target, bias, out)


def product_kernel(kind, tile, widths, dtype):
    """Kernel of a pass for a tile; ``widths`` are the values moved at once of the left, the right and the result."""
    return load(
        "implicit_gemm.cu", "implicit_gemm", dtype,
        PASS=kind, BM=tile.bm, BN=tile.bn, BK=BK, TM=tile.tm, TN=tile.tn,
        VEC_LEFT=widths[0], VEC_RIGHT=widths[1], VEC_OUT=widths[2],
    )  # fmt: skip


def matmul(a, b):
    """``a @ b`` of two matrices, either of which may be a transposed view: a convolution of images of one pixel.

    How ``a`` (M, R) and ``b`` (R, N) lie in memory decides the pass: both straight is a forward pass, ``b`` transposed
    an input gradient, ``a`` transposed a weight gradient. No library call, so that it can be recorded in a graph.
    """
    if a.flags.c_contiguous or not a.flags.f_contiguous:
        if b.flags.c_contiguous or not b.flags.f_contiguous:
            return conv2d(a[:, None, None], b[None, None], None, 1, 0)[:, 0, 0]
        return conv2d_input_grad(a[:, None, None], b.T[None, None], (len(a), 1, 1, b.shape[1]), 1, 0)[:, 0, 0]
    return conv2d_weight_grad(a.T[:, None, None], cp.ascontiguousarray(b)[:, None, None], (1, 1), 1, 0)[0, 0]
