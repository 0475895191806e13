"""Batch normalisation (Ioffe and Szegedy, 2015, arXiv:1502.03167), statistics over all axes but the last.

Shapes: x, y, dy, dx, residual (..., C); mean, var, gamma, beta, dgamma, dbeta (C,). The variance is the biased one.
With m the number of rows and sums over them::

    x_hat = (x - mean) / sqrt(var + eps)          y = gamma * x_hat + beta
"""

import numpy as np

__all__ = ["batch_norm", "batch_norm_fixed_grad", "batch_norm_grad", "batch_norm_stats"]


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
    """Gradients where ``mean`` and ``var`` are those of ``x``, and so depend on it. Returns dx, dgamma, dbeta::

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
