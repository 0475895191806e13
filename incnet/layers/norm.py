"""Batch normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np

from incnet.backend import Array, asarray, ops
from incnet.inputs import check_batch
from incnet.layer import Layer, Shape, at_least
from incnet.layers.reduction import Reduction
from incnet.parameter import Parameter

__all__ = ["BatchNorm2d", "check_count"]


class BatchNorm2d(Layer):
    """Normalise every channel of a batch of images.

    Parameters
    ----------
    channels : int
        C.
    decay : float
        Weight of the old running statistic in the new one.
    eps : float
        Added to the variance, inside the square root.
    dtype : numpy.dtype or type
        Of the parameters, and of x and y: float32, or float64, for a gradient check say.

    Attributes
    ----------
    frozen_statistics : {"eval", "batch"}
        What a frozen layer normalises with in a training pass: the running statistics, so that it is a fixed function,
        or those of the batch. Either way the running statistics stay as they are.
    reduction : Reduction
        Over which images those of a batch are taken: all that the layer is given.

    Notes
    -----
    Shapes: x, y, dy, dx (N, H, W, C); gamma, beta, mean, var (C,). With m = N*H*W and sums over N, H, W::

        x_hat  = (x - mean) / sqrt(var + eps)
        y      = gamma * x_hat + beta
        dbeta  = sum(dy)
        dgamma = sum(dy * x_hat)
        dx     = gamma / sqrt(var + eps) * (dy - dbeta / m - x_hat * dgamma / m)

    The batch variance is biased, the running one is not. Where mean and var are the running statistics they are
    constants, and the last two terms of dx vanish.

    Source: Ioffe and Szegedy (2015), arXiv:1502.03167.
    """

    recordable = True
    buffers = ("running_mean", "running_var")

    def __init__(
        self, channels: int, *, decay: float = 0.9, eps: float = 1e-5, dtype: np.dtype | type = np.float32
    ) -> None:
        super().__init__()
        at_least(1, channels=channels)
        for name, value in {"decay": decay, "eps": eps}.items():
            if value < 0:
                raise ValueError(f"{name} is {value}: choose at least 0")
        self.decay, self.eps = decay, eps
        self.frozen_statistics = "eval"
        self.reduction = Reduction()
        self.gamma = Parameter(asarray(np.ones(channels), dtype))
        self.beta = Parameter(asarray(np.zeros(channels), dtype))
        self.running_mean = asarray(np.zeros(channels), dtype)
        self.running_var = asarray(np.ones(channels), dtype)
        self._zeros = asarray(np.zeros(channels), dtype)

    def arguments(self) -> dict[str, Any]:
        return {"channels": len(self.running_mean), "decay": self.decay, "eps": self.eps}

    def __repr__(self) -> str:
        return f"BatchNorm2d({len(self.running_mean)})"

    def check(self, x: Array) -> None:
        check_batch("BatchNorm2d", x, dtype=self.gamma.data.dtype, channels=self.gamma.data.size)

    def forward(self, x: Array, train: bool = False) -> Array:
        """See :class:`Layer`. In training a single value per channel, one pixel of one image, raises ValueError."""
        self.check(x)
        of_batch = train and (not self.frozen or self.frozen_statistics == "batch")
        if of_batch:
            mean, var = ops.batch_norm_stats(x)
            mean, var, m = self.reduction.moments(mean, var, x.size // x.shape[-1])
            check_count(m)
        else:
            mean, var, m = self.running_mean, self.running_var, 0
        if of_batch and not self.frozen:
            self.move_statistics(mean, var, m)
        if train:
            self.keep(x if of_batch else None, mean, var, of_batch)
        return ops.batch_norm(x, mean, var, self.gamma.data, self.beta.data, self.eps)

    def move_statistics(self, mean: Array, var: Array, m: int) -> None:
        """Mix a batch's mean and biased variance (C,), over ``m`` values per channel, into the running ones."""
        ops.move_statistics(self.running_mean, self.running_var, mean, var, self.decay, unbiased=m / max(m - 1, 1))

    def backward(self, dy: Array, need_dx: bool = True) -> Array | None:
        x, mean, var, of_batch = self.release()
        if not of_batch:
            # gamma / sqrt(var + eps) * dy: dy as it would be normalised with neither mean nor beta.
            return ops.batch_norm(dy, self._zeros, var, self.gamma.data, self._zeros, self.eps) if need_dx else None
        dx, dgamma, dbeta = self.reduction.gradients(dy, x, mean, var, self.gamma.data, self.eps)
        if not self.frozen:
            self.gamma.grad, self.beta.grad = dgamma, dbeta
        return dx if need_dx else None

    def output_shape(self, shape: Shape) -> Shape:
        if shape[-1:] != self.gamma.data.shape:
            raise ValueError(f"BatchNorm2d expects {self.gamma.data.size} channels, the input has shape {shape}")
        return shape


def check_count(m: int) -> None:
    """Raise ValueError unless there are values enough to have a variance: normalised, a single one is zero, always."""
    if m == 1:
        raise ValueError(
            "batch normalisation has a single value per channel to train with, one pixel of one image, and no "
            "variance: use batches of at least 2 images"
        )
