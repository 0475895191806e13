"""Pooling over the pixels of x (N, H, W, C), one image a thread at a time."""

import numpy as np

from ..shapes import output_size
from .calls import issue
from .emit import clear, copy, floats, kernel, numbers, octets
from .fallback import for_float32
from .memory import address, address_of_any, aligned_empty, contiguous
from .parallel import threads_for

__all__ = ["avg_pool", "avg_pool_grad", "global_avg_pool", "global_avg_pool_grad", "max_pool", "max_pool_grad"]

FLOAT = 4  # bytes


@for_float32
def max_pool(x, size, stride):
    """Largest value of every ``size`` x ``size`` window, per channel, and its position (uint8) in the window."""
    n, height, width, channels = x.shape
    shape = n, output_size(height, size, stride, 0), output_size(width, size, stride, 0), channels
    x, y, where = contiguous(x), aligned_empty(shape), aligned_empty(shape, np.uint8)
    pool_max(
        *x.shape, *shape[1:3], size, stride, address(x), address(y), address_of_any(where), threads=threads_for(x.size)
    )
    return y, where


@kernel
def pool_max(t, threads, arguments):
    N, H, W, C, Ho, Wo, size, stride, x, y, where = numbers(arguments, 11)
    for n in range(t * N // threads, (t + 1) * N // threads):
        for h in range(Ho):
            for w in range(Wo):
                here, there = ((n * H + h * stride) * W + w * stride) * C, ((n * Ho + h) * Wo + w) * C
                first, largest, places = floats(x + FLOAT * here), floats(y + FLOAT * there), octets(where + there)
                for c in range(C):
                    largest[c] = first[c]
                    places[c] = 0
                for i in range(size):
                    for j in range(size):
                        values = floats(x + FLOAT * (here + (i * W + j) * C))
                        for c in range(C):
                            value, best = values[c], largest[c]
                            # The first NaN wins and stays, as in np.argmax.
                            if value > best or (value != value and best == best):
                                largest[c] = value
                                places[c] = i * size + j


@for_float32
def max_pool_grad(dy, where, x_shape, size, stride):
    """``dx`` (N, H, W, C): each ``dy`` is added to the pixel that held its window's maximum."""
    dx, dy, where = aligned_empty(x_shape), contiguous(dy), contiguous(where)
    spread_max(
        *x_shape, *dy.shape[1:3], size, stride, address(dy), address_of_any(where), address(dx),
        threads=threads_for(dx.size),
    )  # fmt: skip
    return dx


@kernel
def spread_max(t, threads, arguments):
    N, H, W, C, Ho, Wo, size, stride, dy, where, dx = numbers(arguments, 11)
    for n in range(t * N // threads, (t + 1) * N // threads):
        clear(dx + FLOAT * n * H * W * C, H * W * C)
        for h in range(Ho):
            for w in range(Wo):
                here, there = ((n * H + h * stride) * W + w * stride) * C, ((n * Ho + h) * Wo + w) * C
                gradients, places = floats(dy + FLOAT * there), octets(where + there)
                for i in range(size):
                    for j in range(size):
                        target = floats(dx + FLOAT * (here + (i * W + j) * C))
                        for c in range(C):
                            if places[c] == i * size + j:
                                target[c] += gradients[c]


@for_float32
def avg_pool(x, size, stride):
    """Mean over every ``size`` x ``size`` window, per channel: (N, H, W, C) to (N, Ho, Wo, C)."""
    n, height, width, channels = x.shape
    shape = n, output_size(height, size, stride, 0), output_size(width, size, stride, 0), channels
    x, y = contiguous(x), aligned_empty(shape)
    average_windows(*x.shape, *shape[1:3], size, stride, address(x), address(y), threads=threads_for(x.size))
    return y


@kernel
def average_windows(t, threads, arguments):
    N, H, W, C, Ho, Wo, size, stride, x, y = numbers(arguments, 10)
    scale = np.float32(1 / (size * size))
    for n in range(t * N // threads, (t + 1) * N // threads):
        for h in range(Ho):
            for w in range(Wo):
                here, there = ((n * H + h * stride) * W + w * stride) * C, ((n * Ho + h) * Wo + w) * C
                sums = floats(y + FLOAT * there)
                copy(x + FLOAT * here, y + FLOAT * there, C)
                for position in range(1, size * size):
                    values = floats(x + FLOAT * (here + (position // size * W + position % size) * C))
                    for c in range(C):
                        sums[c] += values[c]
                for c in range(C):
                    sums[c] *= scale


@for_float32
def avg_pool_grad(dy, x_shape, size, stride):
    """``dx`` (N, H, W, C): each ``dy / size^2`` is added to all pixels of its window."""
    dx, dy = aligned_empty(x_shape), contiguous(dy)
    spread_evenly(*x_shape, *dy.shape[1:3], size, stride, address(dy), address(dx), threads=threads_for(dx.size))
    return dx


@kernel
def spread_evenly(t, threads, arguments):
    N, H, W, C, Ho, Wo, size, stride, dy, dx = numbers(arguments, 10)
    scale = np.float32(1 / (size * size))
    for n in range(t * N // threads, (t + 1) * N // threads):
        clear(dx + FLOAT * n * H * W * C, H * W * C)
        for h in range(Ho):
            for w in range(Wo):
                here, there = ((n * H + h * stride) * W + w * stride) * C, ((n * Ho + h) * Wo + w) * C
                gradients = floats(dy + FLOAT * there)
                for i in range(size):
                    for j in range(size):
                        target = floats(dx + FLOAT * (here + (i * W + j) * C))
                        for c in range(C):
                            target[c] += gradients[c] * scale


@for_float32
def global_avg_pool(x):
    """Mean over the pixels of every channel: (N, H, W, C) to (N, C)."""
    (N, H, W, C), x, y = x.shape, contiguous(x), aligned_empty((x.shape[0], x.shape[3]))
    average_pixels(N, H * W, C, address(x), address(y), threads=threads_for(x.size))
    return y


@kernel
def average_pixels(t, threads, arguments):
    """``x (N, M, C) -> y (N, C)``."""
    N, M, C, x, y = numbers(arguments, 5)
    scale = np.float32(1 / M)
    for n in range(t * N // threads, (t + 1) * N // threads):
        sums = floats(y + FLOAT * n * C)
        clear(y + FLOAT * n * C, C)
        for m in range(M):
            pixel = floats(x + FLOAT * (n * M + m) * C)
            for c in range(C):
                sums[c] += pixel[c]
        for c in range(C):
            sums[c] *= scale


def global_avg_pool_grad(dy, x_shape):
    """``dx`` (N, H, W, C): ``dy / (H * W)`` at every pixel; a view of N pixels, which nobody can change."""
    pixels = aligned_empty(dy.shape, dy.dtype)
    issue(np.multiply, dy, dy.dtype.type(1 / (x_shape[1] * x_shape[2])), pixels)
    return np.broadcast_to(pixels[:, None, None, :], x_shape)
