"""Pooling over the pixels of x (N, H, W, C)."""

import numpy as np

from ..shapes import output_size

__all__ = ["avg_pool", "avg_pool_grad", "global_avg_pool", "global_avg_pool_grad", "max_pool", "max_pool_grad"]


def max_pool(x, size, stride):
    """Largest value of every ``size`` x ``size`` window, per channel.

    Returns
    -------
    y : (N, Ho, Wo, C)
    where : (N, Ho, Wo, C) uint8
        Position of the maximum inside its window, counted along rows; the first one where several are equal.
    """
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))[:, ::stride, ::stride]
    windows = windows.reshape(*windows.shape[:4], size * size)
    where = windows.argmax(axis=4)
    return np.take_along_axis(windows, where[..., None], axis=4)[..., 0], where.astype(np.uint8)


def max_pool_grad(dy, where, x_shape, size, stride):
    """``dx`` (N, H, W, C): each ``dy`` is added to the pixel that held its window's maximum."""
    rows, cols = (output_size(s, size, stride, 0) for s in x_shape[1:3])
    dx = np.zeros(x_shape, dy.dtype)
    for position in range(size * size):
        i, j = divmod(position, size)
        dx[:, i : i + stride * rows : stride, j : j + stride * cols : stride] += np.where(where == position, dy, 0)
    return dx


def avg_pool(x, size, stride):
    """Mean over every ``size`` x ``size`` window, per channel: (N, H, W, C) to (N, Ho, Wo, C)."""
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))[:, ::stride, ::stride]
    return windows.mean(axis=(4, 5))


def avg_pool_grad(dy, x_shape, size, stride):
    """``dx`` (N, H, W, C): each ``dy / size^2`` is added to all pixels of its window."""
    rows, cols = (output_size(s, size, stride, 0) for s in x_shape[1:3])
    share, dx = dy / dy.dtype.type(size * size), np.zeros(x_shape, dy.dtype)
    for i in range(size):
        for j in range(size):
            dx[:, i : i + stride * rows : stride, j : j + stride * cols : stride] += share
    return dx


def global_avg_pool(x):
    """Mean over the pixels of every channel: (N, H, W, C) to (N, C)."""
    return x.mean(axis=(1, 2))


def global_avg_pool_grad(dy, x_shape):
    """``dx`` (N, H, W, C): ``dy / (H * W)`` at every pixel."""
    pixels = x_shape[1] * x_shape[2]
    return np.broadcast_to((dy / dy.dtype.type(pixels))[:, None, None, :], x_shape).copy()
