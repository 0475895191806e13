"""Convolution by the definition: gather the patches (im2col), then multiply.

Symbols, here and in every other convolution file::

    N          images                      C, K       input and output channels
    H, W       height, width of x          Ho, Wo     height, width of y
    Kh, Kw     height, width of a kernel   S, P       stride, zero padding (the same in both directions)

    Ho = (H + 2P - Kh) // S + 1            Wo = (W + 2P - Kw) // S + 1

Arrays are x (N, H, W, C), y (N, Ho, Wo, K), weight (Kh, Kw, C, K), columns (N*Ho*Wo, Kh*Kw*C): a patch's channels lie
together in memory, so a convolution *is* ``columns @ weight`` and nothing has to be transposed.
"""

import numpy as np

from ..shapes import output_size

__all__ = [
    "as_matrix",
    "bias_grad",
    "col2im",
    "conv2d",
    "conv2d_input_grad",
    "conv2d_weight_grad",
    "im2col",
]


def _windows(padded, kernel_size, stride):
    """View (N, Ho, Wo, Kh, Kw, C) of all patches of an already padded image."""
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel_size, axis=(1, 2))[:, ::stride, ::stride]
    return windows.transpose(0, 1, 2, 4, 5, 3)


def im2col(x, kernel_size, stride, padding):
    """Patches of ``x`` (N, H, W, C) as the rows of a matrix (N*Ho*Wo, Kh*Kw*C), in the order of the output pixels."""
    windows = _windows(np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0))), kernel_size, stride)
    return windows.reshape(-1, kernel_size[0] * kernel_size[1] * x.shape[3])


def col2im(columns, x_shape, kernel_size, stride, padding):
    """Adjoint of :func:`im2col`: every patch entry is added to the pixel that it came from. Returns (N, H, W, C)."""
    n, height, width, channels = x_shape
    rows, cols = (output_size(s, k, stride, padding) for s, k in zip((height, width), kernel_size, strict=True))
    patches = columns.reshape(n, rows, cols, *kernel_size, channels)
    padded = np.zeros((n, height + 2 * padding, width + 2 * padding, channels), columns.dtype)
    for i in range(kernel_size[0]):
        for j in range(kernel_size[1]):
            padded[:, i : i + stride * rows : stride, j : j + stride * cols : stride] += patches[:, :, :, i, j]
    return np.ascontiguousarray(padded[:, padding : padding + height, padding : padding + width])


def conv2d(x, weight, bias, stride, padding):
    """``y[n, p, q, k] = sum over i, j, c of x[n, S*p+i-P, S*q+j-P, c] * weight[i, j, c, k] (+ bias[k])``.

    ``bias`` is (K,) or None. It is a cross-correlation, as everywhere in deep learning.
    """
    kernel_size, channels_out = weight.shape[:2], weight.shape[3]
    rows, cols = (output_size(s, k, stride, padding) for s, k in zip(x.shape[1:3], kernel_size, strict=True))
    y = im2col(x, kernel_size, stride, padding) @ weight.reshape(-1, channels_out)
    if bias is not None:
        y += bias
    return y.reshape(len(x), rows, cols, channels_out)


def conv2d_input_grad(dy, weight, x_shape, stride, padding):
    """``dx`` (N, H, W, C) of :func:`conv2d`: the patches' gradients ``dy @ weight^T``, added up by :func:`col2im`."""
    channels_out = weight.shape[3]
    columns = dy.reshape(-1, channels_out) @ weight.reshape(-1, channels_out).T
    return col2im(columns, x_shape, weight.shape[:2], stride, padding)


def conv2d_weight_grad(x, dy, kernel_size, stride, padding):
    """``dw`` (Kh, Kw, C, K) of :func:`conv2d`: ``columns^T @ dy``."""
    columns = im2col(x, kernel_size, stride, padding)
    return (columns.T @ dy.reshape(len(columns), -1)).reshape(*kernel_size, x.shape[3], dy.shape[3])


def as_matrix(x):
    """``x (..., K) -> (rows, K)``: output pixels as the rows of dy, patch entries as those of the weights."""
    return x.reshape(-1, x.shape[-1])


def bias_grad(dy):
    """Sum of ``dy`` (..., K) over all axes but the last: the gradient of a bias that was added to every row."""
    return dy.reshape(-1, dy.shape[-1]).sum(axis=0)
