"""Convolution on the CPU: the public functions, and the one place that chooses the algorithm.

Symbols: x (N, H, W, C), weight (Kh, Kw, C, K), y (N, Ho, Wo, K). Every function takes float32 or float64 and returns
the same; inputs are made contiguous, never changed.

Error against float64, relative, for normal data in float32: at most 5e-6 by Winograd, 2e-6 otherwise.
"""

import os

import numpy as np

from ..shapes import output_size
from . import direct, general, panels, winograd
from .calls import issue, replayable
from .emit import LANES
from .memory import aligned_empty, contiguous
from .recipes import BIAS

__all__ = ["conv2d", "conv2d_input_grad", "conv2d_weight_grad"]

USE_WINOGRAD = os.environ.get("INCNET_WINOGRAD", "1") != "0"  # without it: slower, and a little more accurate
NARROW = 64 * 64  # input times output channels up to which the transformed weights are small beside any image
WIDE = 256 * 256  # from here on, transformed weights outgrow the caches: they are made panel by panel
# Tiles of 4x4 pixels: the fewest for which storing transformed weights pays; the most that a panel's products hold; and
# the fewest, of images of 2x2 pixels or one and of larger ones, with which panels do better than direct convolution.
LEAST_FOR_STORED, MOST_FOR_PANELS = 64, 128
LEAST_FOR_PANELS_2X2, LEAST_FOR_PANELS = 8, 32


def algorithm(x_shape, weight_shape, stride: int, padding: int, dtype) -> str:
    """Which of "winograd", "panels", "direct" and "general" convolves these shapes.

    ========  =====================================================================================================
    winograd  3x3, stride 1, padding 1, channels in 16s, and enough tiles to pay for storing the transformed weights
    panels    the same with fewer tiles, or with more weights
    direct    float32, output channels in 16s: strides, 1x1, the stem, wide layers on very few pixels
    general   everything else, and float64
    ========  =====================================================================================================
    """
    (N, H, W, _), (Kh, Kw, C, K) = x_shape, weight_shape
    if dtype != np.float32 or K % LANES or 0 in (N, H, W, C, K):
        return "general"
    if USE_WINOGRAD and (Kh, Kw, stride, padding) == (3, 3, 1, 1) and C % LANES == 0:
        tiles = N * -(-H // 4) * -(-W // 4)
        if C * K <= NARROW:
            return "winograd"
        if (H, W) in ((1, 1), (2, 2)):
            return "panels" if N >= LEAST_FOR_PANELS_2X2 else "direct"
        if tiles >= LEAST_FOR_PANELS:
            by_panels = tiles < LEAST_FOR_STORED or (C * K >= WIDE and tiles <= MOST_FOR_PANELS)
            return "panels" if by_panels else "winograd"
    return "direct"


@replayable
def conv2d(x, weight, bias, stride: int, padding: int):
    """y[n, i, j, k] = sum over h, w, c of x[n, stride*i + h - padding, stride*j + w - padding, c] * weight[h, w, c, k].

    Plus bias (K,), unless it is None.
    """
    x, weight = contiguous(x), contiguous(weight)
    (N, H, W, _), (Kh, Kw, _, K) = x.shape, weight.shape
    shape = (N, output_size(H, Kh, stride, padding), output_size(W, Kw, stride, padding), K)
    y = aligned_empty(shape, x.dtype)
    match algorithm(x.shape, weight.shape, stride, padding, x.dtype):
        case "winograd":
            epilogue = winograd.JUST_STORE if bias is None else winograd.Epilogue(BIAS, contiguous(bias))
            winograd.conv2d(x, weight, y, epilogue=epilogue)
            return y
        case "panels":
            panels.conv2d(x, weight, y)
        case "direct":
            direct.conv2d(x, weight, stride, padding, y)
        case _:
            general.conv2d(x, weight, stride, padding, y)
    if bias is not None:
        issue(np.add, y, bias, y)
    return y


@replayable
def conv2d_input_grad(dy, weight, x_shape, stride: int, padding: int):
    """Gradient of `conv2d` in x: dy (N, Ho, Wo, K) -> dx (N, H, W, C)."""
    dy, weight = contiguous(dy), contiguous(weight)
    dx = aligned_empty(tuple(x_shape), dy.dtype)
    chosen = algorithm(x_shape, weight.shape, stride, padding, dy.dtype)
    if chosen == "winograd":
        winograd.conv2d_input_grad(dy, weight, dx)
    elif chosen == "panels":
        panels.conv2d_input_grad(dy, weight, dx)
    elif chosen == "direct" and x_shape[3] % LANES == 0:
        direct.conv2d_input_grad(dy, weight, stride, padding, dx)
    else:
        general.conv2d_input_grad(dy, weight, stride, padding, dx)
    return dx


@replayable
def conv2d_weight_grad(x, dy, kernel_size, stride: int, padding: int):
    """Gradient of `conv2d` in the weights: x (N, H, W, C), dy (N, Ho, Wo, K) -> dw (Kh, Kw, C, K)."""
    x, dy = contiguous(x), contiguous(dy)
    shape = (*kernel_size, x.shape[3], dy.shape[3])
    dw = aligned_empty(shape, x.dtype)
    match algorithm(x.shape, shape, stride, padding, x.dtype):
        case "winograd":
            winograd.conv2d_weight_grad(x, dy, dw)
        case "panels":
            panels.conv2d_weight_grad(x, dy, dw)
        case "direct":
            direct.conv2d_weight_grad(x, dy, stride, padding, dw)
        case _:
            general.conv2d_weight_grad(x, dy, stride, padding, dw)
    return dw
