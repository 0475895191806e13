"""Batch norm's arithmetic on its channels, one launch each; all arrays (C,) and their results stay on the device."""

from __future__ import annotations

import cupy as cp

from .launch import contiguous, elements
from .loader import load

__all__ = ["gradient_coefficients", "move_statistics", "norm_coefficients"]

FILE = "coefficients.cu"


def norm_coefficients(mean, var, gamma, beta, eps):
    """Batch norm as ``scale * x + shift``. Returns scale, shift (C,)."""
    mean, var, gamma, beta = contiguous(mean, var, gamma, beta)
    scale, shift = cp.empty_like(mean), cp.empty_like(mean)
    kernel = load(FILE, "norm_coefficients", mean.dtype)
    kernel(*elements(mean.size), mean, var, gamma, beta, scale, shift, eps, mean.size)
    return scale, shift


def gradient_coefficients(sums, m, mean, var, gamma, eps):
    """Batch norm's gradient as ``dx = p * dy + q * x + r``. Returns p, q, r, dgamma, dbeta (C,).

    ``sums`` (2, C) float64 are those of dy and of dy * (x - mean), over m rows.
    """
    sums, mean, var, gamma = contiguous(sums, mean, var, gamma)
    results = tuple(cp.empty_like(mean) for _ in range(5))
    kernel = load(FILE, "gradient_coefficients", mean.dtype)
    kernel(*elements(mean.size), sums, mean, var, gamma, *results, eps, m, mean.size)
    return results


def move_statistics(running_mean, running_var, mean, var, decay, unbiased):
    """Mix a batch's mean and biased variance into the running ones, in place."""
    mean, var = contiguous(mean, var)
    kernel = load(FILE, "move_statistics", mean.dtype)
    rest = 1 - decay
    kernel(*elements(mean.size), running_mean, running_var, mean, var, decay, rest, rest * unbiased, mean.size)
