"""Pooling over the pixels of x (N, H, W, C), one image a thread at a time."""

import numpy as np
from numba import njit, prange

from .memory import aligned_empty, contiguous
from .parallel import run
from .tape import issue

__all__ = ["global_avg_pool", "global_avg_pool_grad", "max_pool", "max_pool_grad"]


def max_pool(x, size, stride):
    """Largest value of every ``size`` x ``size`` window, per channel, and its position (uint8) in the window."""
    n, height, width, channels = x.shape
    shape = n, (height - size) // stride + 1, (width - size) // stride + 1, channels
    y, where = aligned_empty(shape, x.dtype), aligned_empty(shape, np.uint8)
    run(_max_pool, x.size, contiguous(x), size, stride, y, where)
    return y, where


@njit(parallel=True, cache=True)
def _max_pool(x, size, stride, y, where):
    for n in prange(y.shape[0]):
        for h in range(y.shape[1]):
            for w in range(y.shape[2]):
                for c in range(y.shape[3]):
                    y[n, h, w, c] = x[n, h * stride, w * stride, c]
                    where[n, h, w, c] = 0
                for i in range(size):
                    for j in range(size):
                        for c in range(y.shape[3]):
                            value, best = x[n, h * stride + i, w * stride + j, c], y[n, h, w, c]
                            # The first NaN wins and stays, as in np.argmax.
                            if value > best or (value != value and best == best):
                                y[n, h, w, c] = value
                                where[n, h, w, c] = i * size + j


def max_pool_grad(dy, where, x_shape, size, stride):
    """``dx`` (N, H, W, C): each ``dy`` is added to the pixel that held its window's maximum."""
    dx = aligned_empty(x_shape, dy.dtype)
    run(_max_pool_grad, dx.size, contiguous(dy), where, size, stride, dx)
    return dx


@njit(parallel=True, cache=True)
def _max_pool_grad(dy, where, size, stride, dx):
    for n in prange(dx.shape[0]):
        dx[n] = 0
        for h in range(dy.shape[1]):
            for w in range(dy.shape[2]):
                for i in range(size):
                    for j in range(size):
                        for c in range(dy.shape[3]):
                            if where[n, h, w, c] == i * size + j:
                                dx[n, h * stride + i, w * stride + j, c] += dy[n, h, w, c]


def global_avg_pool(x):
    """Mean over the pixels of every channel: (N, H, W, C) to (N, C)."""
    y = aligned_empty((x.shape[0], x.shape[3]), x.dtype)
    run(_global_avg_pool, x.size, contiguous(x), x.dtype.type(1 / (x.shape[1] * x.shape[2])), y)
    return y


@njit(parallel=True, cache=True)
def _global_avg_pool(x, scale, y):
    for n in prange(x.shape[0]):
        y[n] = 0
        for h in range(x.shape[1]):
            for w in range(x.shape[2]):
                for c in range(x.shape[3]):
                    y[n, c] += x[n, h, w, c]
        for c in range(x.shape[3]):
            y[n, c] *= scale


def global_avg_pool_grad(dy, x_shape):
    """``dx`` (N, H, W, C): ``dy / (H * W)`` at every pixel; a view of N pixels, which nobody can change."""
    pixels = aligned_empty(dy.shape, dy.dtype)
    issue(np.multiply, dy, dy.dtype.type(1 / (x_shape[1] * x_shape[2])), pixels)
    return np.broadcast_to(pixels[:, None, None, :], x_shape)
