"""What batch norm and its neighbours compute of one pixel: the arithmetic that passes and convolutions share.

A recipe turns a pixel's inputs (vectors of 16 channels) and its channels' coefficients into the value to store and the
terms to sum over all pixels. `norm` runs recipes in passes over arrays; `winograd` runs them on the rows that it reads
(prologues) and on those that it writes (epilogues), which saves the passes.

Symbols: y is a convolution's result, a = relu(scale * y + shift) what the next layer reads, da its gradient and dz that
gradient behind the relu; y_below and a_below belong to the layer that an input gradient is about to reach. Batch norm's
gradient is dy = p * dz + q * y + r (see `norm.gradient_coefficients`).
"""

from collections.abc import Callable
from typing import NamedTuple


class Recipe(NamedTuple):
    """A function (v, inputs, coefficients) -> value, terms. v is a VectorBuilder; a value of None is not stored."""

    function: Callable
    inputs: int
    coefficients: int = 0
    terms: int = 0
    stores: bool = True


def same(v, inputs, coefficients):
    """Return the input itself."""
    return inputs[0], ()


def norm(v, inputs, coefficients):
    """``scale * y + shift``."""
    return v.fma(inputs[0], coefficients[0], coefficients[1]), ()


def norm_add(v, inputs, coefficients):
    """``scale * y + shift + residual``."""
    return v.add(norm(v, inputs, coefficients)[0], inputs[1]), ()


def with_relu(function):
    """Cut another recipe's value off below zero."""

    def recipe(v, inputs, coefficients):
        value, terms = function(v, inputs, coefficients)
        return v.relu(value), terms

    return recipe


def norm_gradient(v, inputs, coefficients):
    """``p * dz + q * y + r``."""
    (dz, y), (p, q, r) = inputs, coefficients
    return v.fma(dz, p, v.fma(y, q, r)), ()


def moments(v, inputs, coefficients):
    """Return y; sums of y and y^2."""
    (y,) = inputs
    return y, (y, v.mul(y, y))


def centred_moments(v, inputs, coefficients):
    """Sums of y - center and its square: no cancellation where the mean is large."""
    y = v.sub(inputs[0], coefficients[0])
    return None, (y, v.mul(y, y))


def bias(v, inputs, coefficients):
    """``y + bias``."""
    return v.add(inputs[0], coefficients[0]), ()


def bias_add(v, inputs, coefficients):
    """``y + bias + residual``."""
    return v.add(bias(v, inputs, coefficients)[0], inputs[1]), ()


def gradient_sums(v, inputs, coefficients):
    """Sums of dy and dy * (y - mean)."""
    (dy, y), (mean,) = inputs, coefficients
    return None, (dy, v.mul(dy, v.sub(y, mean)))


def fixed_gradient(v, inputs, coefficients):
    """``scale * dy``; sums of dy and dy * (y - mean)."""
    (dy, y), (scale, mean) = inputs, coefficients
    return v.mul(dy, scale), (dy, v.mul(dy, v.sub(y, mean)))


def mask_by_norm(v, inputs, coefficients):
    """``dz = da`` where scale * y_below + shift > 0; sums of dz and dz * (y_below - mean)."""
    (da, y_below), (scale, shift, mean) = inputs, coefficients
    dz = v.where_positive(v.fma(y_below, scale, shift), da)
    return dz, (dz, v.mul(dz, v.sub(y_below, mean)))


def mask_by_output(v, inputs, coefficients):
    """``dz = da`` where a_below > 0; sums of dz and dz * (y_below - mean)."""
    (da, y_below, a_below), (mean,) = inputs, coefficients
    dz = v.where_positive(a_below, da)
    return dz, (dz, v.mul(dz, v.sub(y_below, mean)))


def mask_by_output_add(v, inputs, coefficients):
    """``dz = da + skip`` where a_below > 0; sums of dz and dz * (y_below - mean)."""
    da, y_below, a_below, skip = inputs
    return mask_by_output(v, (v.add(da, skip), y_below, a_below), coefficients)


def mask_bias(v, inputs, coefficients):
    """``dz = da`` where a_below > 0; its sum, the gradient of a bias."""
    da, a_below = inputs
    dz = v.where_positive(a_below, da)
    return dz, (dz,)


SAME = Recipe(same, 1)
NORM = Recipe(norm, 1, 2)
NORM_RELU = Recipe(with_relu(norm), 1, 2)
NORM_RELU_KEPT = Recipe(with_relu(norm), 1, 2)  # as a prologue that leaves its values in memory, as NORM_ADD_RELU does
NORM_ADD = Recipe(norm_add, 2, 2)
NORM_ADD_RELU = Recipe(with_relu(norm_add), 2, 2)
NORM_GRADIENT = Recipe(norm_gradient, 2, 3)
MOMENTS = Recipe(moments, 1, terms=2)
CENTRED_MOMENTS = Recipe(centred_moments, 1, 1, terms=2, stores=False)
BIAS = Recipe(bias, 1, 1)
BIAS_RELU = Recipe(with_relu(bias), 1, 1)
BIAS_ADD_RELU = Recipe(with_relu(bias_add), 2, 1)
GRADIENT_SUMS = Recipe(gradient_sums, 2, 1, terms=2, stores=False)
FIXED_GRADIENT = Recipe(fixed_gradient, 2, 2, terms=2)
MASK_BY_NORM = Recipe(mask_by_norm, 2, 3, terms=2)
MASK_BY_OUTPUT = Recipe(mask_by_output, 3, 1, terms=2)
MASK_BY_OUTPUT_ADD = Recipe(mask_by_output_add, 4, 1, terms=2)
MASK_BIAS = Recipe(mask_bias, 2, terms=1)
