"""What batch norm computes of single channels, between two passes over images: vectors of C numbers.

Compiled, since NumPy needs a call for each operation, and between kernels, which have emptied the caches, such a call
takes as long as all the arithmetic of a layer's channels.

Symbols: mean, var, gamma, beta (C,); var is biased; sums (2, C) are float64.
"""

import numpy as np

from .. import reference
from .calls import opaque
from .emit import bits, doubles, floats, kernel, numbers, real
from .memory import address, address_of_any, contiguous, single

__all__ = ["gradient_coefficients", "move_statistics", "norm_coefficients"]


def compiled_for(*arrays):
    """Whether the kernels take these vectors: float32 and contiguous."""
    return single(*arrays) and all(array.flags.c_contiguous for array in arrays)


def total(parts):
    """Add up the sums of all threads, (threads, ..., C) -> (..., C), in their order."""
    sums = np.empty(parts.shape[1:])
    add_up(len(parts), sums.size, address_of_any(parts), address_of_any(sums), threads=1)
    return sums


@kernel
def add_up(t, threads, arguments):
    P, C, parts, sums = numbers(arguments, 4)
    source, target = doubles(parts), doubles(sums)
    for c in range(C):
        target[c] = 0
    for p in range(P):
        for c in range(C):
            target[c] += source[p * C + c]


def moments(sums, m, center):
    """Mean and variance of m values per channel, from the sums of x - center and of its square."""
    if not compiled_for(center):
        first, second = sums / m
        return (first + center).astype(center.dtype), np.maximum(second - first * first, 0).astype(center.dtype)
    mean, var = np.empty_like(center), np.empty_like(center)
    mean_and_variance(
        center.size, m, address_of_any(contiguous(sums)), address(center), address(mean), address(var), threads=1
    )
    return mean, var


@kernel
def mean_and_variance(t, threads, arguments):
    C, m, sums, center, mean, var = numbers(arguments, 6)
    total, centers, means, variances = doubles(sums), floats(center), floats(mean), floats(var)
    for c in range(C):
        first, second = total[c] / m, total[C + c] / m
        spread = second - first * first
        means[c] = first + centers[c]
        variances[c] = 0 if spread < 0 else spread  # by rounding; a NaN stays


def norm_coefficients(mean, var, gamma, beta, eps):
    """Batch norm as scale * x + shift: returns scale, shift (C,)."""
    arrays = mean, var, gamma, beta
    if not compiled_for(*arrays):
        return opaque(reference.norm_coefficients)(*arrays, eps)
    scale, shift = np.empty_like(mean), np.empty_like(mean)
    scale_and_shift(mean.size, bits(eps), *map(address, (*arrays, scale, shift)), threads=1)
    return scale, shift


@kernel
def scale_and_shift(t, threads, arguments):
    C, eps, mean, var, gamma, beta, scale, shift = numbers(arguments, 8)
    means, variances, gammas, betas = floats(mean), floats(var), floats(gamma), floats(beta)
    scales, shifts, eps = floats(scale), floats(shift), real(eps)
    for c in range(C):
        scales[c] = gammas[c] / np.sqrt(variances[c] + eps)
        shifts[c] = betas[c] - means[c] * scales[c]


def gradient_coefficients(sums, m, mean, var, gamma, eps):
    """Batch norm's gradient as dx = p * dy + q * x + r, from sums of dy and of dy * (x - mean) over its m rows.

    Returns p, q, r, dgamma, dbeta (C,)::

        dbeta  = sum(dy)                                  p = gamma / sqrt(var + eps)
        dgamma = sum(dy * (x - mean)) / sqrt(var + eps)   q = -p * dgamma / (m * sqrt(var + eps))
                                                          r = -p * dbeta / m - q * mean
    """
    if not compiled_for(mean, var, gamma):
        return opaque(reference.gradient_coefficients)(sums, m, mean, var, gamma, eps)
    results = [np.empty_like(mean) for _ in range(5)]
    arrays = map(address, (mean, var, gamma, *results))
    through_norm(mean.size, m, bits(eps), address_of_any(contiguous(sums)), *arrays, threads=1)
    return tuple(results)


@kernel
def through_norm(t, threads, arguments):
    C, m, eps, sums, mean, var, gamma, p, q, r, dgamma, dbeta = numbers(arguments, 12)
    total, means, variances, gammas, eps = doubles(sums), floats(mean), floats(var), floats(gamma), real(eps)
    ps, qs, rs, dgammas, dbetas = floats(p), floats(q), floats(r), floats(dgamma), floats(dbeta)
    for c in range(C):
        rstd = 1 / np.sqrt(np.float64(variances[c]) + eps)
        a, b = gammas[c] * rstd, total[C + c] * rstd
        d = -a * b * rstd / m
        ps[c], qs[c], rs[c] = a, d, -a * total[c] / m - d * means[c]
        dgammas[c], dbetas[c] = b, total[c]


def move_statistics(running_mean, running_var, mean, var, decay, unbiased):
    """Mix a batch's mean and biased variance, made ``unbiased`` by that factor, into the running ones, in place."""
    arrays = running_mean, running_var, mean, var
    if not compiled_for(*arrays):
        opaque(reference.move_statistics)(*arrays, decay, unbiased)
        return
    mix_statistics(mean.size, bits(decay), bits(unbiased), *map(address, arrays), threads=1)


@kernel
def mix_statistics(t, threads, arguments):
    C, decay, unbiased, running_mean, running_var, mean, var = numbers(arguments, 7)
    means, variances, decay, unbiased = floats(running_mean), floats(running_var), real(decay), real(unbiased)
    new_means, new_variances = floats(mean), floats(var)
    for c in range(C):
        means[c] = decay * means[c] + (1 - decay) * new_means[c]
        variances[c] = decay * variances[c] + (1 - decay) * unbiased * new_variances[c]
