"""Convolution of any shape and float type: blocks of im2col, times the weights, by BLAS.

Every function walks over blocks of output rows whose patch matrix stays small, so a whole batch's never exists.

Symbols
-------
N, H, W, C    images, rows, columns, channels of the input x
Ho, Wo, K     rows, columns, channels of the output y
Kh, Kw        rows, columns of the kernel

Source: Chellapilla, Puri and Simard (2006), "High performance convolutional neural networks for document processing".
"""

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import as_strided

from .calls import not_replayable
from .memory import aligned_zeros

BLOCK = 1 << 20  # bytes of a block's patch matrix: it is multiplied while it lies in the L2 cache


def conv2d(x, weight, stride, padding, out):
    """``x (N, H, W, C), weight (Kh, Kw, C, K) -> out (N, Ho, Wo, K)``."""
    not_replayable()
    (_, Ho, Wo, K), (Kh, Kw, C, _) = out.shape, weight.shape
    matrix = weight.reshape(Kh * Kw * C, K)
    for block, columns in patch_blocks(x, Ho, Wo, Kh, Kw, stride, padding):
        out[block] = (columns @ matrix).reshape(out[block].shape)
    return out


def conv2d_input_grad(dy, weight, stride, padding, out):
    """``dy (N, Ho, Wo, K), weight (Kh, Kw, C, K) -> out (N, H, W, C)``."""
    not_replayable()
    (N, H, W, C), (_, Ho, Wo, K), (Kh, Kw, _, _), p = out.shape, dy.shape, weight.shape, padding
    matrix = weight.reshape(Kh * Kw * C, K).T
    rows, images = block_size(N, Ho, Wo * Kh * Kw * C * dy.itemsize)
    for n in range(0, N, images):
        block = dy[n : n + images]
        padded = aligned_zeros((len(block), H + 2 * p, W + 2 * p, C), dy.dtype)
        for h in range(0, Ho, rows):
            part = block[:, h : h + rows]
            columns = part.reshape(-1, K) @ matrix
            add_windows(padded[:, h * stride :], columns.reshape(*part.shape[:3], Kh, Kw, C), stride)
        out[n : n + images] = padded[:, p : p + H, p : p + W]
    return out


def conv2d_weight_grad(x, dy, stride, padding, out):
    """``x (N, H, W, C), dy (N, Ho, Wo, K) -> out (Kh, Kw, C, K)``."""
    not_replayable()
    (_, Ho, Wo, K), (Kh, Kw, _, _) = dy.shape, out.shape
    out[...] = 0
    matrix = out.reshape(-1, K)
    for block, columns in patch_blocks(x, Ho, Wo, Kh, Kw, stride, padding):
        matrix += columns.T @ dy[block].reshape(-1, K)
    return out


def block_size(N, Ho, row_bytes):
    """Output rows of an image, and images, whose patches fill a block."""
    rows = min(Ho, max(1, BLOCK // max(1, row_bytes)))
    return rows, min(N, max(1, BLOCK // max(1, Ho * row_bytes))) if rows == Ho else 1


def patch_blocks(x, Ho, Wo, Kh, Kw, stride, padding) -> Iterator[tuple[tuple[slice, slice], np.ndarray]]:
    """Yield blocks of output rows, as slices over N and Ho, with their patches (n*h*Wo, Kh*Kw*C)."""
    N, H, _, C = x.shape
    rows, images = block_size(N, Ho, Wo * Kh * Kw * C * x.itemsize)
    for n in range(0, N, images):
        for h in range(0, Ho, rows):
            part, high = x[n : n + images], min(h + rows, Ho)
            first, last = h * stride - padding, (high - 1) * stride - padding + Kh  # input rows, some outside
            inside = part[:, max(first, 0) : max(min(last, H), 0)]
            padded = pad(inside, padding, above=min(max(-first, 0), last - first), rows=last - first)
            view = windows(padded, high - h, Wo, Kh, Kw, stride)
            yield (slice(n, n + images), slice(h, high)), view.reshape(-1, Kh * Kw * C)


def pad(x, padding, above=None, rows=None):
    """Surround images with zeros: padding on every side, or above them so many, up to rows in all."""
    N, H, W, C = x.shape
    above, rows = padding if above is None else above, H + 2 * padding if rows is None else rows
    if padding == 0 and rows == H:
        return x
    padded = aligned_zeros((N, rows, W + 2 * padding, C), x.dtype)
    padded[:, above : above + H, padding : padding + W] = x
    return padded


def windows(padded, Ho, Wo, Kh, Kw, stride):
    """View padded images (N, H, W, C) as overlapping patches (N, Ho, Wo, Kh, Kw, C)."""
    n, h, w, c = padded.strides
    shape = (padded.shape[0], Ho, Wo, Kh, Kw, padded.shape[3])
    return as_strided(padded, shape, (n, h * stride, w * stride, h, w, c), writeable=False)


def add_windows(padded, patches, stride):
    """``padded += the patches (N, Ho, Wo, Kh, Kw, C)`` put back where `windows` takes them from, one tap at a time."""
    _, Ho, Wo, Kh, Kw, _ = patches.shape
    for kh in range(Kh):
        for kw in range(Kw):
            rows = slice(kh, kh + (Ho - 1) * stride + 1, stride)
            columns = slice(kw, kw + (Wo - 1) * stride + 1, stride)
            padded[:, rows, columns] += patches[:, :, :, kh, kw]
