"""What batch norm computes of single channels, between two passes over images: vectors of C numbers.

Compiled, since NumPy needs a call for each operation, and between kernels, which have emptied the caches, such a call
takes as long as all the arithmetic of a layer's channels.

Symbols: mean, var, gamma, beta (C,); var is biased; sums (2, C) are float64.
"""

import numpy as np
from numba import njit

from .tape import issue

__all__ = ["gradient_coefficients", "moments", "move_statistics", "norm_coefficients", "total"]


def total(parts):
    """Add up the sums of all threads, (threads, 2, C) -> (2, C), in their order."""
    sums = np.empty(parts.shape[1:])
    issue(_total, parts, sums)
    return sums


@njit(cache=True)
def _total(parts, sums):
    sums[...] = 0
    for part in parts:
        sums += part


def moments(sums, m, center):
    """Mean and variance of m values a channel, from the sums of x - center and of its square."""
    mean, var = np.empty_like(center), np.empty_like(center)
    issue(_moments, sums, m, center, mean, var)
    return mean, var


@njit(cache=True, error_model="numpy")
def _moments(sums, m, center, mean, var):
    for c in range(center.size):
        first, second = sums[0, c] / m, sums[1, c] / m
        spread = second - first * first
        mean[c] = first + center[c]
        var[c] = 0 if spread < 0 else spread  # by rounding; a NaN stays


def norm_coefficients(mean, var, gamma, beta, eps):
    """Batch norm as scale * x + shift: returns scale, shift (C,)."""
    scale, shift = np.empty_like(mean), np.empty_like(mean)
    issue(_norm_coefficients, mean, var, gamma, beta, eps, scale, shift)
    return scale, shift


@njit(cache=True, error_model="numpy")
def _norm_coefficients(mean, var, gamma, beta, eps, scale, shift):
    for c in range(mean.size):
        scale[c] = gamma[c] / np.sqrt(var[c] + eps)
        shift[c] = beta[c] - mean[c] * scale[c]


def gradient_coefficients(sums, m, mean, var, gamma, eps):
    """Batch norm's gradient as dx = p * dy + q * x + r, from sums of dy and of dy * (x - mean) over its m rows.

    Returns p, q, r, dgamma, dbeta (C,)::

        dbeta  = sum(dy)                                  p = gamma / sqrt(var + eps)
        dgamma = sum(dy * (x - mean)) / sqrt(var + eps)   q = -p * dgamma / (m * sqrt(var + eps))
                                                          r = -p * dbeta / m - q * mean
    """
    results = [np.empty_like(mean) for _ in range(5)]
    issue(_gradient_coefficients, sums, m, mean, var, gamma, eps, *results)
    return tuple(results)


@njit(cache=True, error_model="numpy")
def _gradient_coefficients(sums, m, mean, var, gamma, eps, p, q, r, dgamma, dbeta):
    for c in range(mean.size):
        rstd = 1 / np.sqrt(np.float64(var[c]) + eps)
        a, b = gamma[c] * rstd, sums[1, c] * rstd
        d = -a * b * rstd / m
        p[c], q[c], r[c] = a, d, -a * sums[0, c] / m - d * mean[c]
        dgamma[c], dbeta[c] = b, sums[0, c]


def move_statistics(running_mean, running_var, mean, var, decay, unbiased):
    """Mix a batch's mean and biased variance, made ``unbiased`` by that factor, into the running ones, in place."""
    issue(_move_statistics, running_mean, running_var, mean, var, decay, unbiased)


@njit(cache=True)
def _move_statistics(running_mean, running_var, mean, var, decay, unbiased):
    for c in range(mean.size):
        running_mean[c] = decay * running_mean[c] + (1 - decay) * mean[c]
        running_var[c] = decay * running_var[c] + (1 - decay) * unbiased * var[c]
