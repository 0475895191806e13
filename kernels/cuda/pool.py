"""Pooling over the pixels of x (N, H, W, C)."""

from __future__ import annotations

import cupy as cp
import numpy as np

from ..shapes import output_size
from .launch import contiguous, elements
from .loader import load

__all__ = ["avg_pool", "avg_pool_grad", "global_avg_pool", "global_avg_pool_grad", "max_pool", "max_pool_grad"]

FILE = "pool.cu"


def max_pool(x, size, stride):
    """Largest value of every ``size`` x ``size`` window, per channel, and its position in the window (uint8)."""
    (x,) = contiguous(x)
    n, height, width, channels = x.shape
    rows, cols = output_size(height, size, stride, 0), output_size(width, size, stride, 0)
    y = cp.empty((n, rows, cols, channels), x.dtype)
    where = cp.empty(y.shape, np.uint8)
    kernel = load(FILE, "max_pool", x.dtype)
    kernel(*elements(y.size), x, y, where, height, width, channels, rows, cols, size, stride, y.size)
    return y, where


def max_pool_grad(dy, where, x_shape, size, stride):
    """``dx`` (N, H, W, C): each ``dy`` is added to the pixel that held its window's maximum."""
    dy, where = contiguous(dy, where)
    _, height, width, channels = x_shape
    _, rows, cols, _ = dy.shape
    dx = cp.empty(x_shape, dy.dtype)
    kernel = load(FILE, "max_pool_grad", dy.dtype)
    kernel(*elements(dx.size), dy, where, dx, height, width, channels, rows, cols, size, stride, dx.size)
    return dx


def avg_pool(x, size, stride):
    """Mean over every ``size`` x ``size`` window, per channel: (N, H, W, C) to (N, Ho, Wo, C)."""
    (x,) = contiguous(x)
    n, height, width, channels = x.shape
    rows, cols = output_size(height, size, stride, 0), output_size(width, size, stride, 0)
    y = cp.empty((n, rows, cols, channels), x.dtype)
    kernel = load(FILE, "avg_pool", x.dtype)
    kernel(*elements(y.size), x, y, height, width, channels, rows, cols, size, stride, y.size)
    return y


def avg_pool_grad(dy, x_shape, size, stride):
    """``dx`` (N, H, W, C): each ``dy / size^2`` is added to all pixels of its window."""
    (dy,) = contiguous(dy)
    _, height, width, channels = x_shape
    _, rows, cols, _ = dy.shape
    dx = cp.empty(x_shape, dy.dtype)
    kernel = load(FILE, "avg_pool_grad", dy.dtype)
    kernel(*elements(dx.size), dy, dx, height, width, channels, rows, cols, size, stride, dx.size)
    return dx


def global_avg_pool(x):
    """Mean over the pixels of every channel: (N, H, W, C) to (N, C)."""
    (x,) = contiguous(x)
    n, height, width, channels = x.shape
    y = cp.empty((n, channels), x.dtype)
    load(FILE, "global_avg_pool", x.dtype)(*elements(y.size), x, y, height * width, channels, y.size)
    return y


def global_avg_pool_grad(dy, x_shape):
    """``dx`` (N, H, W, C): ``dy / (H * W)`` at every pixel."""
    (dy,) = contiguous(dy)
    _, height, width, channels = x_shape
    dx = cp.empty(x_shape, dy.dtype)
    load(FILE, "global_avg_pool_grad", dy.dtype)(*elements(dx.size), dy, dx, height * width, channels, dx.size)
    return dx
