"""The dense layer: x (N, C), weight, dw (C, K), bias (K,) or None, y, dy (N, K)."""

from ..operands import OuterProduct

__all__ = ["factored_weight_grad", "linear", "linear_input_grad", "linear_weight_grad"]


def linear(x, weight, bias):
    """``y = x @ weight + bias``."""
    y = x @ weight
    return y if bias is None else y + bias


def linear_input_grad(dy, weight):
    """``dx (N, C) = dy @ weight^T``."""
    return dy @ weight.T


def linear_weight_grad(x, dy):
    """``dw = x^T @ dy``."""
    return x.T @ dy


def factored_weight_grad(x, dy):
    """``dw = x^T @ dy`` as it suits the optimizer: in factors, or, where a backend prefers that, as the array."""
    return OuterProduct(x, dy)
