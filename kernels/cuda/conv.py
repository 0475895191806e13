"""Convolution: an implicit matrix product, in own kernels for all three passes; see implicit_gemm.cu."""

from __future__ import annotations

import cupy as cp

from ..shapes import output_size
from .launch import contiguous
from .product import FORWARD, INPUT_GRAD, WEIGHT_GRAD, Geometry, Source, product

__all__ = ["conv2d", "conv2d_input_grad", "conv2d_weight_grad"]


def conv2d(x, weight, bias, stride, padding):
    """X (N, H, W, C), weight (Kh, Kw, C, K), bias (K,) or None -> y (N, Ho, Wo, K)."""
    return convolve(x, weight, stride, padding, bias=bias)[0]


def conv2d_input_grad(dy, weight, x_shape, stride, padding):
    """Dy (N, Ho, Wo, K), weight (Kh, Kw, C, K) -> dx (N, H, W, C)."""
    return input_grad(dy, weight, x_shape, stride, padding)[0]


def conv2d_weight_grad(x, dy, kernel_size, stride, padding):
    """X (N, H, W, C), dy (N, Ho, Wo, K) -> dw (Kh, Kw, C, K)."""
    return weight_grad(x, dy, kernel_size, stride, padding)


def convolve(x, weight, stride, padding, *, bias=None, **epilogue):
    """Forward pass of what ``Source`` takes. Returns y, and what ``product`` returns."""
    x, weight = Source.of(x), Source.of(weight)
    n, *size, channels = x.values.shape
    *kernel_size, _, channels_out = weight.values.shape
    rows, cols = (output_size(s, k, stride, padding) for s, k in zip(size, kernel_size, strict=True))
    y = cp.empty((n, rows, cols, channels_out), x.values.dtype)
    geometry = Geometry(n, *size, channels, rows, cols, channels_out, *kernel_size, stride, padding)
    return y, *product(FORWARD, x, weight, y, geometry, bias=contiguous(bias)[0], **epilogue)


def input_grad(dy, weight, x_shape, stride, padding, **epilogue):
    """Input gradient of what ``Source`` takes. Returns dx, and what ``product`` returns."""
    dy, weight = Source.of(dy), Source.of(weight)
    *kernel_size, _, channels_out = weight.values.shape
    dx = cp.empty(x_shape, dy.values.dtype)
    geometry = Geometry(*x_shape, *dy.values.shape[1:3], channels_out, *kernel_size, stride, padding)
    return dx, *product(INPUT_GRAD, dy, weight, dx, geometry, **epilogue)


def weight_grad(x, dy, kernel_size, stride, padding):
    """Weight gradient of what ``Source`` takes."""
    x, dy = Source.of(x), Source.of(dy)
    n, *size, channels = x.values.shape
    _, rows, cols, channels_out = dy.values.shape
    dw = cp.empty((*kernel_size, channels, channels_out), x.values.dtype)
    geometry = Geometry(n, *size, channels, rows, cols, channels_out, *kernel_size, stride, padding)
    product(WEIGHT_GRAD, x, dy, dw, geometry)
    return dw
