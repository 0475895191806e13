"""Batch normalisation on the CPU, over all axes but the last, as few passes over memory as it takes.

Every operation is a *recipe*, arithmetic on one pixel, which `run` applies to whole arrays: it reads each input once,
writes the output once, and sums terms on the way, in float32 for a few rows, then in float64.

Symbols: x, y, dy, dz (..., C) are seen as M rows of C channels; mean, var, gamma, beta (C,); var is biased.

Source: Ioffe and Szegedy (2015), arXiv:1502.03167.
"""

import numpy as np

from .calls import issue, not_replayable, opaque, replayable
from .coefficients import gradient_coefficients, moments, norm_coefficients, total
from .emit import LANES, add_to_double, clear, emit, kernel, numbers
from .memory import WORKSPACE, address, aligned_empty
from .parallel import threads_for
from .recipes import (
    BIAS_ADD_RELU,
    BIAS_RELU,
    CENTRED_MOMENTS,
    FIXED_GRADIENT,
    GRADIENT_SUMS,
    MASK_BIAS,
    MASK_BY_NORM,
    MASK_BY_OUTPUT,
    MASK_BY_OUTPUT_ADD,
    NORM,
    NORM_ADD,
    NORM_ADD_RELU,
    NORM_GRADIENT,
    NORM_RELU,
)

__all__ = ["batch_norm", "batch_norm_fixed_grad", "batch_norm_grad", "batch_norm_stats"]

FLOAT, DOUBLE = 4, 8  # bytes
BLOCK = 4096  # floats of an array in a block, whose sums are float32: 16 KiB, so that four arrays stay in the L1 cache

# The kernel knows a recipe by its place here.
PASSES = (
    NORM,
    NORM_RELU,
    NORM_ADD,
    NORM_ADD_RELU,
    NORM_GRADIENT,
    CENTRED_MOMENTS,
    BIAS_RELU,
    BIAS_ADD_RELU,
    GRADIENT_SUMS,
    FIXED_GRADIENT,
    MASK_BIAS,
    MASK_BY_NORM,
    MASK_BY_OUTPUT,
    MASK_BY_OUTPUT_ADD,
)


def pixels(recipe):
    """Apply a recipe to one chunk of count pixels, C floats apart; terms are added to sums.

    Those of the first input are in0_C floats apart, 0 if they are one and the same; those of the results out_C.
    """

    def body(v, in0, in1, in2, in3, out, table, sums, in0_C, C, out_C, count):
        table = [v.load(v.at(table, v.times(i, C))) for i in range(recipe.coefficients)]
        cells = [v.at(sums, v.times(i, C)) for i in range(recipe.terms)]

        def step(p, totals):
            here = v.b.mul(p, C)
            arrays = (in0, v.b.mul(p, in0_C)), (in1, here), (in2, here), (in3, here)
            inputs = [v.load(v.at(array, place)) for array, place in arrays[: recipe.inputs]]
            value, terms = recipe.function(v, inputs, table)
            if recipe.stores:
                v.store(value, v.at(out, v.b.mul(p, out_C)))
            return [v.add(old, term) for old, term in zip(totals, terms, strict=True)]

        for cell, value in zip(cells, v.loop(count, [v.load(cell) for cell in cells], step), strict=True):
            v.store(value, cell)

    return body


run_pixels = emit(*(pixels(recipe) for recipe in PASSES))


@kernel
def run_pass(t, threads, arguments):
    """Apply a recipe to N images of M pixels of C channels; of in0, a pixel for all of an image if in0_C is 0.

    part (threads, 2, C) is scratch, sums (threads, 2, C) is float64.
    """
    N, M, C, recipe, in0_C, in0, in1, in2, in3, out, table, part, sums = numbers(arguments, 13)
    rows = max(1, BLOCK // C)
    in_image = (M + rows - 1) // rows
    mine, total = part + FLOAT * t * 2 * C, sums + DOUBLE * t * 2 * C
    clear(mine, 2 * C)
    clear(total, 4 * C)
    for block in range(t * N * in_image // threads, (t + 1) * N * in_image // threads):
        n, first = block // in_image, block % in_image * rows
        count = min(rows, M - first)
        for c in range(0, C, LANES):
            here, there = FLOAT * ((n * M + first) * C + c), FLOAT * c
            run_pixels(
                recipe, in0 + (here if in0_C else FLOAT * (n * C + c)), in1 + here, in2 + here, in3 + here, out + here,
                table + there, mine + there, in0_C, C, C, count,
            )  # fmt: skip
        add_to_double(mine, total, 2 * C)


def fast(*arrays):
    """Whether the kernels take these arrays: float32, channels in 16s, contiguous (None is skipped)."""
    return all(
        a is None or (a.dtype == np.float32 and a.shape[-1] % LANES == 0 and a.size and a.flags.c_contiguous)
        for a in arrays
    )


def spread(x):
    """Whether an array (N, H, W, C) is one that `run` takes as its first: in each image, one pixel everywhere."""
    return x.dtype == np.float32 and x.shape[-1] % LANES == 0 and x.strides == (FLOAT * x.shape[-1], 0, 0, FLOAT)


def run(recipe, inputs, coefficients=(), out=None):
    """Apply a recipe to arrays (..., C); returns out, made if it is None and the recipe stores, and the sums (2, C)."""
    x, threads = inputs[0], threads_for(inputs[0].size)
    C = x.shape[-1]
    N, in0_C = (len(x), 0) if spread(x) else (1, C)
    if out is None and recipe.stores:
        out = aligned_empty(x.shape)
    coefficients = table(*coefficients)
    part, sums = WORKSPACE.carve(2 * threads * C, 4 * threads * C)
    addresses = [address(array) for array in inputs] + [0] * (4 - len(inputs))
    run_pass(
        N, x.size // (N * C), C, PASSES.index(recipe), in0_C, *addresses, address(out), address(coefficients), part,
        sums, threads=threads,
    )  # fmt: skip
    return out, total(WORKSPACE.doubles(sums, threads, 2, C))


def table(*coefficients):
    """Coefficients (C,) as the rows of one array, None if there are none."""
    if not coefficients:
        return None
    rows = np.empty(len(coefficients) * coefficients[0].size, np.float32)
    issue(np.concatenate, coefficients, 0, rows)
    return rows


@replayable
def batch_norm_stats(x):
    """``x (..., C) -> mean (C,), var (C,)``; the variance is biased."""
    m = x.size // x.shape[-1]
    center = x.reshape(-1, x.shape[-1])[0]
    if fast(x):
        return moments(run(CENTRED_MOMENTS, (x,), (center,))[1], m, center)
    not_replayable()
    centred = x.reshape(-1, x.shape[-1]) - center
    first, second = centred.sum(0, dtype=np.float64), np.einsum("mc,mc->c", centred, centred, dtype=np.float64)
    return moments(np.stack((first, second)), m, center)


@replayable
def batch_norm(x, mean, var, gamma, beta, eps, residual=None, relu=False):
    """``y = [relu](gamma * (x - mean) / sqrt(var + eps) + beta [+ residual])``."""
    scale, shift = norm_coefficients(mean, var, gamma, beta, eps)
    if fast(x, residual):
        recipes = ((NORM, NORM_RELU), (NORM_ADD, NORM_ADD_RELU))
        recipe = recipes[residual is not None][bool(relu)]
        return run(recipe, (x,) if residual is None else (x, residual), (scale, shift))[0]
    not_replayable()
    y = np.multiply(x, scale, out=aligned_empty(x.shape, x.dtype))
    y += shift
    if residual is not None:
        y += residual
    if relu:
        np.maximum(y, 0, out=y)
    return y


@replayable
def batch_norm_grad(dy, x, mean, var, gamma, eps):
    """Return dx, dgamma, dbeta where mean and var are those of x."""
    m = x.size // x.shape[-1]
    if fast(dy, x):
        _, sums = run(GRADIENT_SUMS, (dy, x), (mean,))
        *pqr, dgamma, dbeta = gradient_coefficients(sums, m, mean, var, gamma, eps)
        return run(NORM_GRADIENT, (dy, x), pqr)[0], dgamma, dbeta
    not_replayable()
    p, q, r, dgamma, dbeta = gradient_coefficients(gradient_sums(dy, x, mean), m, mean, var, gamma, eps)
    dx = np.multiply(dy, p, out=aligned_empty(x.shape, x.dtype))
    dx += q * x
    dx += r
    return dx, dgamma, dbeta


@opaque
def batch_norm_fixed_grad(dy, x, mean, var, gamma, eps):
    """Return dx, dgamma, dbeta where mean and var are constants."""
    rstd = 1 / np.sqrt(var + mean.dtype.type(eps))
    if fast(dy, x):
        dx, sums = run(FIXED_GRADIENT, (dy, x), (gamma * rstd, mean))
    else:
        dx = np.multiply(dy, gamma * rstd, out=aligned_empty(x.shape, x.dtype))
        sums = gradient_sums(dy, x, mean)
    return dx, (sums[1] * rstd).astype(x.dtype), sums[0].astype(x.dtype)


def gradient_sums(dy, x, mean):
    """Sums of dy and of dy * (x - mean), (2, C), of any float type."""
    rows, centred = dy.reshape(-1, dy.shape[-1]), (x - mean).reshape(-1, dy.shape[-1])
    return np.stack([rows.sum(0, dtype=np.float64), np.einsum("mc,mc->c", rows, centred, dtype=np.float64)])
