"""The dense layer: a convolution of images of one pixel."""

from __future__ import annotations

from .conv import conv2d, conv2d_input_grad, conv2d_weight_grad

__all__ = ["factored_weight_grad", "linear", "linear_input_grad", "linear_weight_grad"]


def linear(x, weight, bias):
    """``y (N, K) = x @ weight + bias``."""
    return conv2d(x[:, None, None], weight[None, None], bias, 1, 0)[:, 0, 0]


def linear_input_grad(dy, weight):
    """``dx (N, C) = dy @ weight^T``."""
    return conv2d_input_grad(dy[:, None, None], weight[None, None], (len(dy), 1, 1, len(weight)), 1, 0)[:, 0, 0]


def linear_weight_grad(x, dy):
    """``dw (C, K) = x^T @ dy``."""
    return conv2d_weight_grad(x[:, None, None], dy[:, None, None], (1, 1), 1, 0)[0, 0]


def factored_weight_grad(x, dy):
    """``dw (C, K) = x^T @ dy``: the array, for a device's memory is fast enough to write it down."""
    return linear_weight_grad(x, dy)
