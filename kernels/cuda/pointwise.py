"""Operations on single elements and on whole feature maps."""

from __future__ import annotations

import cupy as cp
import numpy as np

from ..reference.pointwise import cast, draw_seed
from .launch import contiguous, elements, vector_width
from .loader import load

__all__ = [
    "add",
    "cast",
    "draw_seed",
    "dropout",
    "leaky_relu",
    "leaky_relu_grad",
    "relu",
    "relu_grad",
    "subsample",
    "subsample_grad",
]

FILE = "pointwise.cu"


def _flat(kernel, *inputs, numbers=()):
    """Launch a flat kernel over inputs of one shape, with numbers that it takes besides; return its result."""
    inputs = contiguous(*inputs)
    y = cp.empty_like(inputs[0])
    width = vector_width(y.size, y, *inputs)
    load(FILE, kernel, y.dtype, VEC=width)(*elements(y.size // width), *inputs, y, *numbers, y.size // width)
    return y


def add(a, b):
    """``a + b``, of one shape."""
    return _flat("add", a, b)


def relu(x):
    """``max(x, 0)``."""
    return _flat("relu", x)


def relu_grad(dy, y):
    """``dy`` where the output ``y`` of :func:`relu` is positive, else 0."""
    return _flat("relu_grad", dy, y)


def leaky_relu(x, slope):
    """``x`` where it is positive, else ``slope * x``."""
    return _flat("leaky_relu", x, numbers=(slope,))


def leaky_relu_grad(dy, y, slope):
    """``dy`` where the output ``y`` of :func:`leaky_relu` is positive, else ``slope * dy``."""
    return _flat("leaky_relu_grad", dy, y, numbers=(slope,))


def dropout(x, rate, seed):
    """Zero with probability ``rate``, else divided by ``1 - rate``; the reference's mask, bit for bit.

    ``seed`` is an integer in [0, 2^64), or one in device memory: a uint64 array of one element.
    """
    (x,) = contiguous(x)
    if not isinstance(seed, cp.ndarray):
        seed = cp.asarray(np.array([seed], np.uint64))
    y = cp.empty_like(x)
    kernel = load(FILE, "dropout", x.dtype, VEC=1)
    kernel(*elements(x.size), x, y, seed, round(rate * 2**32), 1 / (1 - rate), x.size)
    return y


def subsample(x, stride, channels):
    """Every ``stride``-th pixel of ``x`` (N, H, W, C), its channels filled up with zeros to ``channels``."""
    (x,) = contiguous(x)
    n, height, width, filled = x.shape
    rows, cols = -(-height // stride), -(-width // stride)
    y = cp.empty((n, rows, cols, channels), x.dtype)
    kernel = load(FILE, "subsample", x.dtype, VEC=1)
    kernel(*elements(y.size), x, y, height, width, filled, rows, cols, channels, stride, y.size)
    return y


def subsample_grad(dy, x_shape, stride):
    """Adjoint of :func:`subsample`: ``dx`` (N, H, W, C), zero at the pixels that were left out."""
    (dy,) = contiguous(dy)
    _, height, width, filled = x_shape
    _, rows, cols, channels = dy.shape
    dx = cp.empty(x_shape, dy.dtype)
    kernel = load(FILE, "subsample_grad", dy.dtype, VEC=1)
    kernel(*elements(dx.size), dy, dx, height, width, filled, rows, cols, channels, stride, dx.size)
    return dx
