"""A training step whose batch is shared by several ranks."""

from __future__ import annotations

from typing import Any

import numpy as np

from incnet.backend import Array, issue, ops
from incnet.communicator import Communicator
from incnet.data.shard import Shard
from incnet.graph import Graph
from incnet.layers import BatchNorm2d, Dropout
from incnet.optim import Optimizer
from incnet.parallel.buckets import GradientSum
from incnet.parallel.sync_bn import AverageStatistics, SyncReduction, scale
from incnet.training.step import Step

__all__ = ["ParallelStep"]

TOTALS_BYTES = 16


class ParallelStep(Step):
    """Learn from batches of which every rank has its part, so that all ranks take the same step.

    The loss is the mean over the whole batch, however it is divided: a rank's gradients are weighted by its share of
    the images, and summed over the ranks. Only what is trained is summed: in look-ahead the gradients of the new
    sub-network and the classifier.

    Parameters
    ----------
    graph, optimizer
        As for :class:`Step`; equal on all ranks at every step.
    communicator : Communicator
        Of the ranks.
    sync_bn : bool
        Whether batch normalisation uses the statistics of the whole batch, rather than of the rank's part of it.
    """

    recordable = True

    def __init__(self, graph: Graph, optimizer: Optimizer, communicator: Communicator, *, sync_bn: bool) -> None:
        super().__init__(graph, optimizer)
        self.communicator = communicator
        self.gradient_sum = GradientSum(communicator)
        self.average = None if sync_bn else AverageStatistics(communicator)
        self.reduction = SyncReduction(communicator) if sync_bn else None
        self._placed: Any = None
        # Synchronised batch norm computes in NumPy, between the kernels of a layer.
        self.recordable = communicator.recordable and (ops.on_device or not sync_bn)

    @property
    def bytes(self) -> int:
        own = self.gradient_sum.bytes + TOTALS_BYTES
        return own + (self.average.bytes if self.average else self._statistics_bytes())

    def _statistics_bytes(self) -> int:
        """Of synchronised batch norm: two float64 vectors a layer in forward, and two in backward if it is trained."""
        total = 0
        for layer in self.graph.layers():
            if isinstance(layer, BatchNorm2d) and (not layer.frozen or layer.frozen_statistics == "batch"):
                total += (1 if layer.frozen else 2) * 2 * layer.gamma.data.size * np.dtype(np.float64).itemsize
        return total

    def begin(self, images: int) -> int:
        whole = self.communicator.allreduce_count(images)
        now = (tuple(self.graph.subnetworks), self.graph.classifier, self.graph.boundary, images, whole)
        if now != self._placed:
            self._place(images, whole)
            self._placed = now
        return whole

    def _place(self, own: int, whole: int) -> None:
        """Tell the layers which part of the batch they see."""
        part = Shard(self.communicator.rank, self.communicator.size).of(whole)
        if part.stop - part.start != own:
            raise ValueError(f"rank {self.communicator.rank} has {own} of {whole} images, expected {part}")
        for layer in self.graph.layers():
            if isinstance(layer, Dropout):
                layer.first_row = part.start
            elif isinstance(layer, BatchNorm2d) and self.reduction:
                layer.reduction = self.reduction
        if self.reduction:
            self.reduction.own, self.reduction.whole = own, whole
        if self.average:
            self.average.watch(self.graph)

    def backpropagate(self, images: Array, labels: Array) -> Array:
        share = len(images) / self.images
        forward = self.graph.logits if self.from_features else self.graph.forward
        totals, dlogits = ops.softmax_cross_entropy(forward(images, train=True), labels)
        underway = [self.communicator.allreduce_async(totals)]
        if self.average:
            underway += self.average.start(share)
        issue(scale, dlogits, share)
        self.gradient_sum.begin([parameter for _, parameter in self.graph.trainable_parameters()])
        self.graph.backward(dlogits)
        self.gradient_sum.finish()
        for pending in underway:
            issue(pending.wait)
        return totals
