"""Batch normalisation (Ioffe and Szegedy, 2015, arXiv:1502.03167), statistics over all axes but the last.

Shapes: x, y, dy, dx, residual (..., C); mean, var, gamma, beta, dgamma, dbeta (C,). The variance is the biased one.
With m the number of rows and sums over them::

    x_hat = (x - mean) / sqrt(var + eps)          y = gamma * x_hat + beta
"""

import numpy as np

__all__ = [
    "batch_norm",
    "batch_norm_fixed_grad",
    "batch_norm_grad",
    "batch_norm_stats",
    "gradient_coefficients",
    "move_statistics",
    "norm_coefficients",
]


def batch_norm_stats(x):
    """``mean`` and biased ``var`` of every channel."""
    rows = x.reshape(-1, x.shape[-1])
    mean = rows.mean(axis=0, dtype=np.float64)
    var = np.square(rows - mean).mean(axis=0)
    return mean.astype(x.dtype), var.astype(x.dtype)


def batch_norm(x, mean, var, gamma, beta, eps, residual=None, relu=False):
    """``gamma * x_hat + beta``, plus ``residual`` if there is one, cut off below zero if ``relu``."""
    y = gamma * ((x - mean) / np.sqrt(var + x.dtype.type(eps))) + beta
    if residual is not None:
        y += residual
    return np.maximum(y, 0) if relu else y


def batch_norm_grad(dy, x, mean, var, gamma, eps):
    """Gradients where ``mean`` and ``var`` are those of ``x``, and so depend on it.

    Returns dx, dgamma, dbeta::

        dbeta = sum(dy)                 dx = gamma / sqrt(var + eps) * (dy - dbeta / m - x_hat * dgamma / m)
        dgamma = sum(dy * x_hat)
    """
    m = x.size // x.shape[-1]
    scale = 1 / np.sqrt(var + x.dtype.type(eps))
    x_hat = (x - mean) * scale
    dbeta = dy.reshape(-1, dy.shape[-1]).sum(axis=0)
    dgamma = (dy * x_hat).reshape(-1, dy.shape[-1]).sum(axis=0)
    return gamma * scale * (dy - dbeta / m - x_hat * (dgamma / m)), dgamma, dbeta


def batch_norm_fixed_grad(dy, x, mean, var, gamma, eps):
    """Gradients where ``mean`` and ``var`` are constants: ``dx = gamma / sqrt(var + eps) * dy``."""
    scale = 1 / np.sqrt(var + x.dtype.type(eps))
    dbeta = dy.reshape(-1, dy.shape[-1]).sum(axis=0)
    dgamma = (dy * ((x - mean) * scale)).reshape(-1, dy.shape[-1]).sum(axis=0)
    return gamma * scale * dy, dgamma, dbeta


def norm_coefficients(mean, var, gamma, beta, eps):
    """Batch norm as ``scale * x + shift``. Returns scale, shift (C,)."""
    scale = gamma / np.sqrt(var + mean.dtype.type(eps))
    return scale, beta - mean * scale


def gradient_coefficients(sums, m, mean, var, gamma, eps):
    """Write the gradient of batch norm as ``dx = p * dy + q * x + r``.

    ``sums`` (2, C) float64 are those of dy and of dy * (x - mean), over m rows. Returns p, q, r, dgamma, dbeta (C,)::

        dbeta  = sum(dy)                                  p = gamma / sqrt(var + eps)
        dgamma = sum(dy * (x - mean)) / sqrt(var + eps)   q = -p * dgamma / (m * sqrt(var + eps))
                                                          r = -p * dbeta / m - q * mean
    """
    dbeta, scale = sums[0], 1 / np.sqrt(np.asarray(var, np.float64) + eps)
    dgamma, p = sums[1] * scale, gamma * scale
    q = -p * dgamma * scale / m
    r = -p * dbeta / m - q * mean
    return tuple(value.astype(mean.dtype) for value in (p, q, r, dgamma, dbeta))


def move_statistics(running_mean, running_var, mean, var, decay, unbiased):
    """Mix a batch's mean and biased variance, made ``unbiased`` by that factor, into the running ones, in place."""
    running_mean *= decay
    running_mean += (1 - decay) * mean
    running_var *= decay
    running_var += (1 - decay) * unbiased * var
