"""Convolutions that normalise what they read, and mask and sum what they write. `reference.fused` defines them.

A training step of a batch-normalised network made of these reads and writes each activation as few times as possible:
forward, `conv2d_moments` reads the output y of the layer below through batch norm and ReLU, and returns its own with
its statistics; backward, `fused_weight_grad` and `masked_input_grad`, or `masked_grads`, which is both, read dz and y
through batch norm's gradient, and leave dz of the layer below with the sums that its batch norm asks for. Activations
without a residual, and gradients dy, are never stored.

All this is what `winograd` does. `direct` convolves with moments, and computes weight gradients from batch norm's; for
the rest, and for other shapes, the passes of `norm` run before and after the convolution, with the same result.

Variances come from sums of y and of y^2. They lose digits where a channel's mean is large beside its deviation: three
remain at a hundred times the deviation. Inputs that are normalised, as they should be, are far from that.
"""

import math

import numpy as np

from ..operands import BackwardEpilogue, Normalised, NormGradient
from ..shapes import output_size
from . import direct, winograd
from .calls import not_replayable, replayable
from .coefficients import moments
from .convolution import algorithm, conv2d, conv2d_input_grad, conv2d_weight_grad
from .memory import aligned_empty, contiguous
from .norm import batch_norm_stats, fast, run, spread, table
from .recipes import (
    BIAS_ADD_RELU,
    BIAS_RELU,
    MASK_BIAS,
    MASK_BY_NORM,
    MASK_BY_OUTPUT,
    MASK_BY_OUTPUT_ADD,
    MOMENTS,
    NORM_ADD_RELU,
    NORM_GRADIENT,
    NORM_RELU,
    NORM_RELU_KEPT,
)
from .winograd import AS_IT_IS, Epilogue, Prologue

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


LARGE = 1 << 19  # floats: fewer are still in the cache when a pass of their own, more accurate for few, sums them up
FEW_CHANNELS = 32  # up to here memory is what both gradients wait for, and computing them in turns saves a part of it


@replayable
def norm_relu(x: Normalised):
    """relu(scale * y + shift [+ residual])."""
    if fast(x.y, x.residual):
        inputs, recipe = ((x.y,), NORM_RELU) if x.residual is None else ((x.y, x.residual), NORM_ADD_RELU)
        return run(recipe, inputs, (x.scale, x.shift))[0]
    not_replayable()
    a = np.multiply(x.y, x.scale, out=aligned_empty(x.y.shape, x.y.dtype))
    a += x.shift
    if x.residual is not None:
        a += x.residual
    return np.maximum(a, 0, out=a)


@replayable
def norm_gradient(dy: NormGradient):
    """``p * dz + q * y + r``."""
    if fast(dy.dz, dy.y):
        return run(NORM_GRADIENT, (dy.dz, dy.y), (dy.p, dy.q, dy.r))[0]
    not_replayable()
    result = np.multiply(dy.dz, dy.p, out=aligned_empty(dy.y.shape, dy.y.dtype))
    result += dy.q * dy.y
    result += dy.r
    return result


@replayable
def relu_mask(da, below: BackwardEpilogue, out=None):
    """Gradient dz behind the ReLU of the layer below, and its sums (2, C), float64. Returns dz, sums."""
    recipe, others, coefficients = mask(below)
    if recipe and fast(*others, out) and (fast(da) or spread(da)):
        return run(recipe, (da, *others), coefficients, out)
    not_replayable()
    a = below.a
    if a is None:
        a = below.scale * below.y + below.shift  # type: ignore[operator]  # without a they are there
    dz = np.where(a > 0, da if below.skip is None else da + below.skip, da.dtype.type(0))
    rows, sums = dz.reshape(-1, dz.shape[-1]), np.zeros((2, dz.shape[-1]))
    sums[0] = rows.sum(0, dtype=np.float64)
    if below.y is not None:
        centred = (below.y - below.mean).reshape(rows.shape)
        sums[1] = np.einsum("mc,mc->c", rows, centred, dtype=np.float64)
    if out is not None:
        out[...] = dz
    return dz if out is None else out, sums


@replayable
def conv2d_bias_relu(x, weight, bias, stride, padding, residual=None, scale=None, overwrite=False):
    """``relu(conv2d(x) [* scale] + bias [+ residual])``; `overwrite` lets it take the residual's place."""
    recipes = ((BIAS_RELU, BIAS_ADD_RELU), (NORM_RELU, NORM_ADD_RELU))
    recipe = recipes[scale is not None][residual is not None]
    coefficients = (bias,) if scale is None else (scale, bias)
    skip = None if residual is None else contiguous(residual)
    out = skip if overwrite else None
    if fuses(x, weight.shape, stride, padding, whole_tiles=skip is not None):
        y = aligned_empty((*x.shape[:3], weight.shape[3])) if out is None else out
        winograd.conv2d(x, contiguous(weight), y, epilogue=Epilogue(recipe, table(*coefficients), skip=skip))
        return y
    y = conv2d(x, weight, None, stride, padding)
    if fast(y, skip):
        return run(recipe, (y,) if skip is None else (y, skip), coefficients, y if out is None else out)[0]
    not_replayable()
    if scale is not None:
        y *= scale
    y += bias
    if skip is not None:
        y += skip
    return np.maximum(y, 0, out=y if out is None else out)


def conv2d_moments(x, weight, stride, padding):
    """Convolve an array or a Normalised; returns y, and its mean and variance over the batch."""
    source = x.y if isinstance(x, Normalised) else x
    if not fuses(source, weight.shape, stride, padding, whole_tiles=True):
        return stored_moments(norm_relu(x) if isinstance(x, Normalised) else x, weight, stride, padding)
    if isinstance(x, Normalised) and x.residual is not None:
        return norm_conv2d_moments(x, weight, stride, padding)[1:]
    return winograd_moments(source, weight, input_prologue(x))


def norm_conv2d_moments(x: Normalised, weight, stride, padding):
    """`conv2d_moments` that also keeps the activation; returns a, y, mean, var."""
    if not fuses(x.y, weight.shape, stride, padding, whole_tiles=True):
        a = norm_relu(x)
        return a, *conv2d_moments(a, weight, stride, padding)
    a, coefficients = aligned_empty(x.y.shape), table(x.scale, x.shift)
    if x.residual is None:
        prologue = Prologue(NORM_RELU_KEPT, None, coefficients, a)
    else:
        prologue = Prologue(NORM_ADD_RELU, contiguous(x.residual), coefficients, a)
    return a, *winograd_moments(x.y, weight, prologue)


def fused_weight_grad(x, dy, kernel_size, stride, padding):
    """Gradient in the weights, of an array or a Normalised x, and an array or a NormGradient dy."""
    source = x.y if isinstance(x, Normalised) else x
    dz = dy.dz if isinstance(dy, NormGradient) else dy
    shape = (*kernel_size, source.shape[3], dz.shape[3])
    if not fuses(source, shape, stride, padding) or (isinstance(x, Normalised) and x.residual is not None):
        x = norm_relu(x) if isinstance(x, Normalised) else x
        if isinstance(dy, NormGradient) and algorithm(x.shape, shape, stride, padding, x.dtype) == "direct":
            x, dz, y = (contiguous(array) for array in (x, dy.dz, dy.y))
            dw = aligned_empty(shape)
            return direct.conv2d_weight_grad(x, dz, stride, padding, dw, y, table(dy.p, dy.q, dy.r))
        dy = norm_gradient(dy) if isinstance(dy, NormGradient) else dy
        return conv2d_weight_grad(x, dy, kernel_size, stride, padding)
    dw = aligned_empty(shape)
    return winograd.conv2d_weight_grad(source, contiguous(dz), dw, input_prologue(x), gradient_prologue(dy))


def fused_input_grad(dy, weight, x_shape, stride, padding):
    """Gradient in the input, of an array or a NormGradient dy."""
    dz = dy.dz if isinstance(dy, NormGradient) else dy
    if not fuses(dz, weight.shape, stride, padding):
        dy = norm_gradient(dy) if isinstance(dy, NormGradient) else dy
        return conv2d_input_grad(dy, weight, x_shape, stride, padding)
    dx = aligned_empty(tuple(x_shape))
    winograd.conv2d_input_grad(dz, contiguous(weight), dx, gradient_prologue(dy))
    return dx


def masked_input_grad(dy, weight, x_shape, stride, padding, below: BackwardEpilogue):
    """`fused_input_grad`, then `relu_mask`; returns dz of the layer below, and its sums (2, C)."""
    dz = dy.dz if isinstance(dy, NormGradient) else dy
    recipe, _, coefficients = mask(below)
    if recipe is None or not fuses(dz, weight.shape, stride, padding, whole_tiles=True):
        dx = fused_input_grad(dy, weight, x_shape, stride, padding)
        return relu_mask(dx, below, dx)
    dx = aligned_empty(tuple(x_shape))
    epilogue = mask_epilogue(recipe, coefficients, below)
    sums = winograd.conv2d_input_grad(dz, contiguous(weight), dx, gradient_prologue(dy), epilogue)
    return dx, sums


def masked_grads(x, dy, weight, stride, padding, below: BackwardEpilogue):
    """`fused_weight_grad` and `masked_input_grad`, in one pass where that saves memory traffic; dw, dz, sums."""
    source = x.y if isinstance(x, Normalised) else x
    if not in_turns(x, weight.shape, stride, padding, below):
        if not fuses(source, weight.shape, stride, padding):  # else each of the two would compute its operand anew
            dy = norm_gradient(dy) if isinstance(dy, NormGradient) else dy
        dw = fused_weight_grad(x, dy, weight.shape[:2], stride, padding)
        return dw, *masked_input_grad(dy, weight, source.shape, stride, padding, below)
    dz, weight = dy.dz if isinstance(dy, NormGradient) else dy, contiguous(weight)
    dw, dx = aligned_empty(weight.shape), aligned_empty(source.shape)
    recipe, _, coefficients = mask(below)
    sums = winograd.conv2d_grads(
        source, contiguous(dz), weight, dw, dx, input_prologue(x), gradient_prologue(dy),
        mask_epilogue(recipe, coefficients, below),
    )  # fmt: skip
    return dw, dx, sums


def in_turns(x, weight_shape, stride, padding, below: BackwardEpilogue):
    """Whether both gradients of a convolution are computed in turns: where images are large beside their weights."""
    source, residual = (x.y, x.residual) if isinstance(x, Normalised) else (x, None)
    return (
        weight_shape[2] * weight_shape[3] <= FEW_CHANNELS**2
        and residual is None
        and mask(below)[0] is not None
        and fuses(source, weight_shape, stride, padding, whole_tiles=True)
    )


def mask_epilogue(recipe, coefficients, below: BackwardEpilogue):
    """Return the epilogue that masks what lies below, and sums it."""
    arrays = (None if array is None else contiguous(array) for array in (below.y, below.a, below.skip))
    return Epilogue(recipe, table(*coefficients), *arrays)


def mask(below: BackwardEpilogue):
    """Return the recipe for what lies below (None if there is none), its inputs beside da, its coefficients."""
    match below:
        case BackwardEpilogue(a=None, skip=None):
            return MASK_BY_NORM, (below.y,), (below.scale, below.shift, below.mean)
        case BackwardEpilogue(y=None, skip=None):
            return MASK_BIAS, (below.a,), ()
        case BackwardEpilogue(a=None) | BackwardEpilogue(y=None):
            return None, (), ()
        case BackwardEpilogue(skip=None):
            return MASK_BY_OUTPUT, (below.y, below.a), (below.mean,)
    return MASK_BY_OUTPUT_ADD, (below.y, below.a, below.skip), (below.mean,)


def fuses(x, weight_shape, stride, padding, whole_tiles=False):
    """Whether winograd convolves x so; whole_tiles: with sums or a kept activation, for which H must divide by 4."""
    if whole_tiles and x.shape[1] % 4:
        return False
    return x.flags.c_contiguous and algorithm(x.shape, weight_shape, stride, padding, x.dtype) == "winograd"


def stored_moments(x, weight, stride, padding):
    """Convolve an array with moments, by another algorithm than winograd; returns y, mean, var."""
    (N, H, W, _), (Kh, Kw, _, K) = x.shape, weight.shape
    shape = (N, output_size(H, Kh, stride, padding), output_size(W, Kw, stride, padding), K)
    if algorithm(x.shape, weight.shape, stride, padding, x.dtype) != "direct" or math.prod(shape) < LARGE:
        y = conv2d(x, weight, None, stride, padding)
        return y, *batch_norm_stats(y)
    y = aligned_empty(shape)
    sums = direct.conv2d(contiguous(x), contiguous(weight), stride, padding, y, moments=True)
    return y, *moments(sums, y.size // K, np.zeros(K, y.dtype))


def winograd_moments(x, weight, prologue):
    """Convolve with moments; returns y, mean, var."""
    y = aligned_empty((*x.shape[:3], weight.shape[3]))
    sums = winograd.conv2d(x, contiguous(weight), y, prologue, Epilogue(MOMENTS))
    return y, *moments(sums, y.size // y.shape[3], np.zeros(y.shape[3], y.dtype))


def input_prologue(x):
    """Return the prologue that reads x, an array or a Normalised without residual."""
    return Prologue(NORM_RELU, table=table(x.scale, x.shift)) if isinstance(x, Normalised) else AS_IT_IS


def gradient_prologue(dy):
    """Return the prologue that reads dy."""
    if isinstance(dy, NormGradient):
        return Prologue(NORM_GRADIENT, contiguous(dy.y), table(dy.p, dy.q, dy.r))
    return AS_IT_IS
