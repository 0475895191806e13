"""Batch normalisation over a batch that several ranks share.

By default each rank normalises with the statistics of its own images, and the running statistics are *averaged* over
the ranks in every step (:class:`AverageStatistics`): they stay the same everywhere, whoever evaluates or takes a
checkpoint. With :class:`SyncReduction` the layers normalise with the statistics of the whole batch, as one process
would; every layer then waits for all ranks, forward and backward.
"""

from __future__ import annotations

import numpy as np

from incnet.backend import Array, asarray, empty, issue, ops
from incnet.communicator import Communicator, Pending
from incnet.graph import Graph
from incnet.kernels.operands import NormGradient
from incnet.layers.norm import BatchNorm2d
from incnet.layers.reduction import Reduction

__all__ = ["AverageStatistics", "SyncReduction"]


class AverageStatistics:
    """Average the running statistics that a step has moved over the ranks, each with the weight of its images.

    Parameters
    ----------
    communicator : Communicator
        Of the ranks, whose running statistics were equal before the step.
    """

    def __init__(self, communicator: Communicator) -> None:
        self.communicator = communicator
        self._layers: list[BatchNorm2d] = []
        self._arrays: list[Array] = []

    @property
    def bytes(self) -> int:
        """That one step hands to the communicator."""
        return sum(array.nbytes for array in self._arrays)

    def watch(self, graph: Graph) -> None:
        """Average the statistics of layers that are not frozen; they become parts of one array, to travel as one."""
        layers = [layer for layer in graph.layers() if isinstance(layer, BatchNorm2d) and not layer.frozen]
        if len(layers) == len(self._layers) and all(map(same, layers, self._layers)):
            return
        self._layers = layers
        self._arrays = [gather(layers, dtype) for dtype in sorted({layer.running_mean.dtype for layer in layers})]

    def start(self, share: float) -> list[Pending]:
        """Begin to average, this rank having the given share of the images."""
        for array in self._arrays:
            issue(scale, array, share)
        return [self.communicator.allreduce_async(array) for array in self._arrays]


def scale(array: Array, factor: float) -> None:
    """Multiply an array in place."""
    array *= array.dtype.type(factor)


def same(one: object, other: object) -> bool:
    """Whether two names are of one object."""
    return one is other


def gather(layers: list[BatchNorm2d], dtype: np.dtype) -> Array:
    """Move the running statistics of one type into one array, of which the layers' own are views from now on."""
    mine = [layer for layer in layers if layer.running_mean.dtype == dtype]
    whole, end = asarray(np.zeros(2 * sum(layer.running_mean.size for layer in mine), dtype)), 0
    for layer in mine:
        for name in layer.buffers:
            values = getattr(layer, name)
            start, end = end, end + values.size
            whole[start:end] = values
            setattr(layer, name, whole[start:end])
    return whole


class SyncReduction(Reduction):
    """Statistics of the images of all ranks.

    Parameters
    ----------
    communicator : Communicator
        Of the ranks.

    Attributes
    ----------
    own, whole : int
        Images of the step on this rank and on all.

    Notes
    -----
    With m_r values per channel on rank r, of mean mu_r and biased variance v_r, M the sum of m_r::

        mean = sum(m_r * mu_r) / M
        var  = sum(m_r * (v_r + mu_r^2)) / M - mean^2

    in float64, one sum over the ranks for both. Backward needs the sums over all ranks of dy and of dy * (x - mean);
    the gradients of gamma and beta are left as each rank's own, and are summed with all others.
    """

    def __init__(self, communicator: Communicator) -> None:
        self.communicator = communicator
        self.own = self.whole = 1

    def begin(self, images: int) -> int:
        self.own, self.whole = images, self.communicator.allreduce_count(images)
        return self.whole

    def moments(self, mean: Array, var: Array, m: int) -> tuple[Array, Array, int]:
        first, share = mean.astype(np.float64), self.own / self.whole
        both = empty((2, mean.size), np.float64)
        both[0] = share * first
        both[1] = share * (var + first * first)
        self.communicator.allreduce(both)
        variance = both[1] - both[0] * both[0]
        return both[0].astype(mean.dtype), variance.astype(var.dtype), self._whole(m)

    def sums(self, sums: Array, m: int) -> tuple[Array, int]:
        total = sums.copy()
        self.communicator.allreduce(total)
        return total, self._whole(m)

    def gradients(
        self, dy: Array, x: Array, mean: Array, var: Array, gamma: Array, eps: float
    ) -> tuple[Array, Array, Array]:
        _, dgamma, dbeta = ops.batch_norm_fixed_grad(dy, x, mean, var, gamma, eps)
        rstd, _ = ops.norm_coefficients(mean, var, gamma * 0 + 1, gamma * 0, eps)
        sums = empty((2, gamma.size), np.float64)
        sums[0], sums[1] = dbeta, dgamma / rstd
        total, m = self.sums(sums, x.size // x.shape[-1])
        p, q, r, _, _ = ops.gradient_coefficients(total, m, mean, var, gamma, eps)
        return ops.norm_gradient(NormGradient(dy, x, p, q, r)), dgamma, dbeta

    def _whole(self, m: int) -> int:
        """Values a channel on all ranks, where this one has m."""
        return m * self.whole // self.own
