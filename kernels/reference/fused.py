"""Fused kernels by their definition: compositions of the plain ones. See ``operands`` for what they read.

Sums come as float64 (2, C): of dz, and of dz * (y - mean), which is zero where there is no batch norm below.
"""

import numpy as np

from ..operands import Below, Normalised, NormGradient
from . import conv
from .norm import batch_norm_stats

__all__ = [
    "conv2d_bias_relu",
    "conv2d_moments",
    "fused_input_grad",
    "fused_weight_grad",
    "masked_grads",
    "masked_input_grad",
    "norm_conv2d_moments",
    "norm_gradient",
    "norm_relu",
    "relu_mask",
]


def norm_relu(x: Normalised):
    """``relu(scale * y + shift [+ residual])``."""
    z = x.scale * x.y + x.shift
    return np.maximum(z if x.residual is None else z + x.residual, 0)


def norm_gradient(dy: NormGradient):
    """``p * dz + q * y + r``."""
    return dy.p * dy.dz + dy.q * dy.y + dy.r


def relu_mask(da, below: Below):
    """Gradient behind the ReLU of the layer below, and its sums. Returns dz, sums."""
    a = below.a
    if a is None:
        a = below.scale * below.y + below.shift  # type: ignore[operator]  # without a they are there
    dz = np.where(a > 0, da if below.skip is None else da + below.skip, 0).astype(da.dtype)
    centred = np.zeros_like(dz) if below.y is None else below.y - below.mean
    axes = tuple(range(dz.ndim - 1))
    return dz, np.stack([dz.sum(axes, np.float64), (dz * centred).sum(axes, np.float64)])


def conv2d_bias_relu(x, weight, bias, stride, padding, residual=None, scale=None, overwrite=False):
    """``relu(conv2d(x) [* scale] + bias [+ residual])``; ``overwrite`` lets it take the residual's place."""
    y = conv.conv2d(x, weight if scale is None else weight * scale, bias, stride, padding)
    return np.maximum(y if residual is None else y + residual, 0)


def conv2d_moments(x, weight, stride, padding):
    """Convolution of an array or a ``Normalised``, and the batch statistics of its result. Returns y, mean, var."""
    y = conv.conv2d(_array(x), weight, None, stride, padding)
    return y, *batch_norm_stats(y)


def norm_conv2d_moments(x: Normalised, weight, stride, padding):
    """``conv2d_moments`` that also keeps the activation. Returns a, y, mean, var."""
    a = norm_relu(x)
    return a, *conv2d_moments(a, weight, stride, padding)


def fused_weight_grad(x, dy, kernel_size, stride, padding):
    """``conv2d_weight_grad`` of an array or a ``Normalised`` x, and an array or a ``NormGradient`` dy."""
    return conv.conv2d_weight_grad(_array(x), _array(dy), kernel_size, stride, padding)


def fused_input_grad(dy, weight, x_shape, stride, padding):
    """``conv2d_input_grad`` of an array or a ``NormGradient`` dy."""
    return conv.conv2d_input_grad(_array(dy), weight, x_shape, stride, padding)


def masked_input_grad(dy, weight, x_shape, stride, padding, below: Below):
    """``fused_input_grad``, then ``relu_mask``. Returns dz, sums."""
    return relu_mask(fused_input_grad(dy, weight, x_shape, stride, padding), below)


def masked_grads(x, dy, weight, stride, padding, below: Below):
    """``fused_weight_grad`` and ``masked_input_grad``. Returns dw, dz, sums."""
    dw = fused_weight_grad(x, dy, weight.shape[:2], stride, padding)
    x_shape = x.y.shape if isinstance(x, Normalised) else x.shape
    return dw, *masked_input_grad(dy, weight, x_shape, stride, padding, below)


def _array(operand):
    if isinstance(operand, Normalised):
        return norm_relu(operand)
    return norm_gradient(operand) if isinstance(operand, NormGradient) else operand
