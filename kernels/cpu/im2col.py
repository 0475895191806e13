"""Patches as the rows of a matrix, and their adjoint. A row of a patch lies together in the image, too.

Symbols as in `reference.conv`: x (N, H, W, C), columns (N*Ho*Wo, Kh*Kw*C).
"""

import numpy as np

from .. import reference
from ..shapes import output_size
from .calls import not_replayable, replayable
from .emit import clear, copy, floats, kernel, numbers
from .fallback import for_float32
from .memory import address, aligned_empty, contiguous, single
from .parallel import threads_for

__all__ = ["as_matrix", "col2im", "im2col"]

FLOAT = 4  # bytes


def as_matrix(x):
    """``x (..., K) -> (rows, K)``: a view where x is contiguous."""
    return contiguous(x).reshape(-1, x.shape[-1])


@replayable
def im2col(x, kernel_size, stride, padding):
    """Patches of ``x`` (N, H, W, C) as the rows of a matrix (N*Ho*Wo, Kh*Kw*C), in the order of the output pixels."""
    rows, cols = (output_size(s, k, stride, padding) for s, k in zip(x.shape[1:3], kernel_size, strict=True))
    if not single(x):
        not_replayable()
        return np.array(reference.im2col(x, kernel_size, stride, padding))  # which may be a view of x
    (n, *_, channels), (height, width) = x.shape, kernel_size
    columns, x = aligned_empty((n * rows * cols, height * width * channels)), contiguous(x)
    geometry = *x.shape, rows, cols, height, width, stride, padding
    gather(*geometry, address(x), address(columns), threads=threads_for(columns.size))
    return columns


@kernel
def gather(t, threads, arguments):
    """Copy the patches of each row of output pixels; zeros where they reach beyond the image."""
    N, H, W, C, Ho, Wo, Kh, Kw, stride, padding, x, columns = numbers(arguments, 12)
    for line in range(t * N * Ho // threads, (t + 1) * N * Ho // threads):
        n, p = line // Ho, line % Ho
        for q in range(Wo):
            left = stride * q - padding
            first, last = max(0, -left), min(Kw, W - left)  # within the image
            for i in range(Kh):
                h, there = stride * p - padding + i, columns + FLOAT * ((line * Wo + q) * Kh + i) * Kw * C
                if 0 <= h < H and first < last:
                    clear(there, first * C)
                    here = x + FLOAT * ((n * H + h) * W + left + first) * C
                    copy(here, there + FLOAT * first * C, (last - first) * C)
                    clear(there + FLOAT * last * C, (Kw - last) * C)
                else:
                    clear(there, Kw * C)


@for_float32
def col2im(columns, x_shape, kernel_size, stride, padding):
    """Adjoint of :func:`im2col`: every patch entry is added to the pixel that it came from. Returns (N, H, W, C)."""
    rows, cols = (output_size(s, k, stride, padding) for s, k in zip(x_shape[1:3], kernel_size, strict=True))
    dx, columns = aligned_empty(tuple(x_shape)), contiguous(columns)
    geometry = *x_shape, rows, cols, *kernel_size, stride, padding
    add_up(*geometry, address(columns), address(dx), threads=threads_for(columns.size))
    return dx


@kernel
def add_up(t, threads, arguments):
    """Add the patches to the images that they came from, an image a thread at a time: none is added to by two."""
    N, H, W, C, Ho, Wo, Kh, Kw, stride, padding, columns, dx = numbers(arguments, 12)
    for n in range(t * N // threads, (t + 1) * N // threads):
        clear(dx + FLOAT * n * H * W * C, H * W * C)
        for line in range(n * Ho, (n + 1) * Ho):
            for q in range(Wo):
                left = stride * q - padding
                first, last = max(0, -left), min(Kw, W - left)
                for i in range(Kh):
                    h = stride * (line % Ho) - padding + i
                    if 0 <= h < H and first < last:
                        values = floats(columns + FLOAT * (((line * Wo + q) * Kh + i) * Kw + first) * C)
                        pixels = floats(dx + FLOAT * ((n * H + h) * W + left + first) * C)
                        for k in range((last - first) * C):
                            pixels[k] += values[k]
