"""One epoch of training, and one pass of evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from incnet.backend import Array, asarray, asnumpy, ops
from incnet.graph import Graph
from incnet.optim import Optimizer

__all__ = ["Metrics", "NonFiniteError", "evaluate", "train_epoch"]

# Batches between two looks at the running loss. A look makes a GPU wait, so there is none in between.
INTERVAL = 10


class NonFiniteError(Exception):
    """The loss is no longer a number."""


class Metrics(NamedTuple):
    """Mean loss and accuracy (a fraction) over ``images``."""

    loss: float
    accuracy: float
    images: int


# Called every few batches with the number of batches done and the metrics so far.
Watcher = Callable[[int, Metrics], None]


def train_epoch(
    graph: Graph, optimizer: Optimizer, batches: Iterable[tuple[Array, Array]], watch: Watcher | None = None
) -> Metrics:
    """Take one optimizer step for each batch of images (N, H, W, C) and integer labels (N,).

    Loss and accuracy are those of the network as it was at each step.

    Raises
    ------
    NonFiniteError
        If the loss is NaN or infinite; found within ten batches.
    """
    running = Running()
    for done, (images, labels) in enumerate(batches, start=1):
        images, labels = asarray(images), asarray(labels)
        totals, dlogits = ops.softmax_cross_entropy(graph.forward(images, train=True), labels)
        graph.backward(dlogits)
        running.add(totals, len(images))
        if done % INTERVAL == 1:
            so_far = running.metrics()
            if not np.isfinite(so_far.loss):
                raise NonFiniteError(f"the training loss is {so_far.loss} at batch {done}{_first_nonfinite(graph)}")
            if watch:
                watch(done, so_far)
        optimizer.step(graph.trainable_parameters())
    final = running.metrics()
    if not np.isfinite(final.loss):
        raise NonFiniteError(f"the training loss is {final.loss} at the end of the epoch{_first_nonfinite(graph)}")
    return final


def evaluate(graph: Graph, batches: Iterable[tuple[Array, Array]]) -> Metrics:
    """Loss and accuracy of the network as it is, over all batches."""
    running = Running()
    for images, labels in batches:
        images, labels = asarray(images), asarray(labels)
        totals, _ = ops.softmax_cross_entropy(graph.forward(images), labels)
        running.add(totals, len(images))
    return running.metrics()


class Running:
    """Sums that stay on the device until somebody looks at them."""

    def __init__(self) -> None:
        self.totals: Array | None = None
        self.images = 0

    def add(self, totals: Array, images: int) -> None:
        """Add a batch's sum of losses and number of correct answers."""
        self.totals = totals if self.totals is None else self.totals + totals
        self.images += images

    def metrics(self) -> Metrics:
        """Look at the sums."""
        if self.totals is None:
            raise ValueError("no batches: the data set is empty")
        loss, correct = asnumpy(self.totals)
        return Metrics(float(loss) / self.images, float(correct) / self.images, self.images)


def _first_nonfinite(graph: Graph) -> str:
    """Name the lowest parameter whose values, or gradient, are not all finite."""
    for name, parameter in graph.named_parameters():
        for what, array in (("values", parameter.data), ("gradient", parameter.grad)):
            if array is not None and not np.isfinite(asnumpy(array)).all():
                return f"; the lowest layer with non-finite {what} is {name}"
    return ""
