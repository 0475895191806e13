"""Batch normalisation, statistics over all axes but the last.

Every sum over the rows has two stages: up to PARTS partial sums, then their sum in double precision. No atomics, a
fixed order: the same bits in every run, and on every card.
"""

from __future__ import annotations

import cupy as cp

from .launch import contiguous, finish_grid, rows_grid, vector_width
from .loader import load
from .reduce import sum_partial

__all__ = ["batch_norm", "batch_norm_fixed_grad", "batch_norm_grad", "batch_norm_stats"]

FILE = "norm.cu"


def batch_norm_stats(x):
    """``mean`` and biased ``var`` (C,) of every channel of ``x`` (..., C)."""
    (x,) = contiguous(x)
    channels = x.shape[-1]
    rows = x.size // channels
    width = vector_width(channels, x)
    grid, block = rows_grid(rows, channels, width)
    partial = cp.empty((grid[1], 2, channels), x.dtype)
    load(FILE, "moments", x.dtype, VEC=width)(grid, block, x, partial, rows, channels)
    mean, var = cp.empty(channels, x.dtype), cp.empty(channels, x.dtype)
    finish = load(FILE, "finish_moments", x.dtype, VEC=1)
    finish(*finish_grid(channels), x, partial, mean, var, len(partial), rows, channels)
    return mean, var


def merge_moments(partial, part_rows, rows):
    """``mean`` and biased ``var`` (C,) of ``rows`` rows, from sums (parts, 3, C) of ``part_rows`` rows each."""
    parts, _, channels = partial.shape
    mean, var = cp.empty(channels, partial.dtype), cp.empty(channels, partial.dtype)
    kernel = load(FILE, "merge_moments", partial.dtype, VEC=1)
    kernel(*finish_grid(channels), partial, mean, var, parts, part_rows, rows, channels)
    return mean, var


def batch_norm(x, mean, var, gamma, beta, eps, residual=None, relu=False):
    """``gamma * x_hat + beta``, plus ``residual`` if there is one, cut off below zero if ``relu``."""
    x, mean, var, gamma, beta, residual = contiguous(x, mean, var, gamma, beta, residual)
    channels = x.shape[-1]
    rows = x.size // channels
    y = cp.empty_like(x)
    width = vector_width(channels, x, residual, y)
    kernel = load(FILE, "normalise", x.dtype, VEC=width)
    kernel(*rows_grid(rows, channels, width), x, mean, var, gamma, beta, residual, y, eps, relu, rows, channels)
    return y


def batch_norm_grad(dy, x, mean, var, gamma, eps):
    """Gradients where ``mean`` and ``var`` are those of ``x``. Returns dx, dgamma, dbeta."""
    dy, x, mean, var, gamma = contiguous(dy, x, mean, var, gamma)
    dbeta, dgamma = _gradient_sums(dy, x, mean, var, eps)
    channels = x.shape[-1]
    rows = x.size // channels
    dx = cp.empty_like(x)
    width = vector_width(channels, dy, x, dx)
    kernel = load(FILE, "input_grad", x.dtype, VEC=width)
    kernel(*rows_grid(rows, channels, width), dy, x, mean, var, gamma, dgamma, dbeta, dx, eps, rows, channels)
    return dx, dgamma, dbeta


def batch_norm_fixed_grad(dy, x, mean, var, gamma, eps):
    """Gradients where ``mean`` and ``var`` are constants. Returns dx, dgamma, dbeta."""
    dy, x, mean, var, gamma = contiguous(dy, x, mean, var, gamma)
    dbeta, dgamma = _gradient_sums(dy, x, mean, var, eps)
    channels = x.shape[-1]
    rows = x.size // channels
    dx = cp.empty_like(x)
    width = vector_width(channels, dy, dx)
    kernel = load(FILE, "fixed_input_grad", x.dtype, VEC=width)
    kernel(*rows_grid(rows, channels, width), dy, var, gamma, dx, eps, rows, channels)
    return dx, dgamma, dbeta


def _gradient_sums(dy, x, mean, var, eps):
    """Return the rows of one (2, C) array: ``sum(dy)`` and ``sum(dy * x_hat)``."""
    channels = x.shape[-1]
    rows = x.size // channels
    width = vector_width(channels, dy, x)
    grid, block = rows_grid(rows, channels, width)
    partial = cp.empty((grid[1], 2, channels), x.dtype)
    kernel = load(FILE, "gradient_sums", x.dtype, VEC=width)
    kernel(grid, block, dy, x, mean, var, partial, eps, rows, channels)
    sums = sum_partial(partial)
    return sums[0], sums[1]
