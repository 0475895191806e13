"""Convolutions that normalise what they read, and mask and sum what they write; ``reference.fused`` defines them.

A convolution reads ``Normalised`` and ``NormGradient`` through its prologue, so that neither is ever stored, and its
epilogue writes each block's sums of columns, added up by a second small launch. Where the reduction is split, and so no
block holds a result, a pass over the result does the epilogue's work.

Sums are float64 (2, C) and stay on the device.
"""

from __future__ import annotations

import cupy as cp

from ..operands import BackwardEpilogue, Normalised, NormGradient
from .conv import convolve, input_grad, weight_grad
from .launch import contiguous, rows_grid, vector_width
from .loader import load
from .norm import batch_norm_stats, merge_moments
from .pointwise import add, relu
from .product import BIAS_RELU, MASK, MOMENTS, Source
from .reduce import sum_partial_double

__all__ = [
    "conv2d_bias_relu",
    "conv2d_moments",
    "fused_input_grad",
    "fused_weight_grad",
    "masked_grads",
    "masked_input_grad",
    "norm_conv2d_moments",
    "norm_gradient",
    "norm_relu",
    "relu_mask",
]

FILE = "fused.cu"


def norm_relu(x: Normalised):
    """``relu(scale * y + shift [+ residual])``."""
    return _materialise(Source.of(x._replace(residual=None)), x.residual)


def norm_gradient(dy: NormGradient):
    """``p * dz + q * y + r``."""
    return _materialise(Source.of(dy))


def _materialise(source, residual=None):
    """The array that a source stands for, in one pass."""
    (residual,) = contiguous(residual)
    out = cp.empty_like(source.values)
    channels = out.shape[-1]
    width = min(source.width, vector_width(channels, residual, out))
    rows = out.size // channels
    kernel = load(FILE, "materialise", out.dtype, VEC=width, READS=source.reads)
    kernel(*rows_grid(rows, channels, width), source.structure(), residual, out, rows, channels)
    return out


def relu_mask(da, below: BackwardEpilogue):
    """Gradient behind the ReLU of the layer below, and its sums. Returns dz, sums."""
    da, *arrays = contiguous(da, *below)
    dz = cp.empty_like(da)
    channels = da.shape[-1]
    rows = da.size // channels
    width = vector_width(channels, da, dz, *arrays)
    grid, block = rows_grid(rows, channels, width)
    partial = cp.empty((grid[1], 2, channels), da.dtype)
    kernel = load(FILE, "relu_mask", da.dtype, VEC=width, READS=0)
    kernel(grid, block, da, *arrays, dz, partial, rows, channels)
    return dz, sum_partial_double(partial)


def conv2d_bias_relu(x, weight, bias, stride, padding, residual=None, scale=None, overwrite=False):
    """``relu(conv2d(x) [* scale] + bias [+ residual])``; ``overwrite`` lets it take the residual's place."""
    weight = weight if scale is None else weight * scale
    y, cut, _ = convolve(
        x, weight, stride, padding, bias=bias, epilogue=BIAS_RELU, below=BackwardEpilogue(skip=residual)
    )
    if cut.parts == 1:
        return y
    return relu(y if residual is None else add(y, residual))


def conv2d_moments(x, weight, stride, padding):
    """Convolution of an array or a ``Normalised``, and the batch statistics of its result. Returns y, mean, var."""
    y, cut, partial = convolve(_readable(x), weight, stride, padding, epilogue=MOMENTS)
    if partial is None:
        return y, *batch_norm_stats(y)
    return y, *merge_moments(partial, cut.tile.bm, y.size // y.shape[-1])


def norm_conv2d_moments(x: Normalised, weight, stride, padding):
    """``conv2d_moments`` that also keeps the activation. Returns a, y, mean, var."""
    a = norm_relu(x)
    return a, *conv2d_moments(a, weight, stride, padding)


def fused_weight_grad(x, dy, kernel_size, stride, padding):
    """``conv2d_weight_grad`` of an array or a ``Normalised`` x, and an array or a ``NormGradient`` dy."""
    return weight_grad(_readable(x), dy, kernel_size, stride, padding)


def fused_input_grad(dy, weight, x_shape, stride, padding):
    """``conv2d_input_grad`` of an array or a ``NormGradient`` dy."""
    return input_grad(dy, weight, x_shape, stride, padding)[0]


def masked_input_grad(dy, weight, x_shape, stride, padding, below: BackwardEpilogue):
    """``fused_input_grad``, then ``relu_mask``. Returns dz, sums."""
    dz, _, partial = input_grad(dy, weight, x_shape, stride, padding, epilogue=MASK, below=below)
    return relu_mask(dz, below) if partial is None else (dz, sum_partial_double(partial))


def masked_grads(x, dy, weight, stride, padding, below: BackwardEpilogue):
    """``fused_weight_grad`` and ``masked_input_grad``. Returns dw, dz, sums."""
    dw = fused_weight_grad(x, dy, weight.shape[:2], stride, padding)
    x_shape = x.y.shape if isinstance(x, Normalised) else x.shape
    return dw, *masked_input_grad(dy, weight, x_shape, stride, padding, below)


def _readable(x):
    """What a convolution's prologue takes: a residual would be a second image to gather."""
    return norm_relu(x) if isinstance(x, Normalised) and x.residual is not None else x
