"""One epoch of training, and one pass of evaluation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from incnet.backend import Array, asarray, asnumpy, ops
from incnet.communicator import ALONE, Communicator
from incnet.graph import Graph
from incnet.training.nonfinite import NonFiniteError, check_gradients, check_loss
from incnet.training.replay import Replay
from incnet.training.step import Step

__all__ = ["MetricAccumulator", "Metrics", "evaluate", "train_epoch"]

# Batches between two checks of the gradients, which take a pass over memory. On a device the running loss is read then,
# too, in the same small copy, since that waits for all steps so far; on the host each batch's loss is checked.
INTERVAL = 10


@dataclass(frozen=True)
class Metrics:
    """Means over images.

    Attributes
    ----------
    loss : float
        Cross-entropy, in nats.
    accuracy : float
        A fraction.
    images : int
        Over how many.
    """

    loss: float
    accuracy: float
    images: int


class MetricAccumulator:
    """Sums over the batches so far, which stay on the device until they are read.

    Attributes
    ----------
    totals : array (2,) or None
        Sum of the losses, and number of correct answers; None before the first batch.
    batches, images : int
        That are in the sums.
    seconds : float
        That they took.
    """

    def __init__(self, totals: Array | None = None, batches: int = 0, images: int = 0, seconds: float = 0.0) -> None:
        self.totals, self.batches, self.images, self.seconds = totals, batches, images, seconds

    def add(self, totals: Array, images: int) -> None:
        """Add a batch's sum of losses and number of correct answers."""
        self.totals = totals.copy() if self.totals is None else self.totals + totals
        self.batches += 1
        self.images += images

    def over_all_ranks(self, communicator: Communicator) -> MetricAccumulator:
        """Sums over the ranks; one of them may have had no batches."""
        if communicator.size == 1:
            return self
        sums = asarray([0.0, 0.0, self.images])
        if self.totals is not None:
            sums[:2] = self.totals
        communicator.allreduce(sums)
        return MetricAccumulator(sums[:2], self.batches, int(sums[2]))

    def metrics(self) -> Metrics:
        """Bring the sums to the host, and divide them by the images."""
        if self.totals is None or not self.images:
            raise ValueError("no batches: the data set is empty")
        return self.mean(*asnumpy(self.totals))

    def mean(self, loss: float, correct: float) -> Metrics:
        """Metrics for sums that are on the host."""
        return Metrics(float(loss) / self.images, float(correct) / self.images, self.images)


# Called every few batches with the number of batches done and the metrics so far.
Watcher = Callable[[int, Metrics], None]


def train_epoch(
    step: Step | Replay,
    batches: Iterable[tuple[Array, Array]],
    *,
    running: MetricAccumulator | None = None,
    watch: Watcher | None = None,
    after_step: Callable[[], None] | None = None,
) -> Metrics:
    """Take one optimizer step for each batch of images (N, H, W, C) and integer labels (N,).

    Loss and accuracy are those of the network as it was at each step.

    Parameters
    ----------
    step : Step or Replay
        Learns from each.
    batches : iterable of (images, labels)
        Images normalised, of the weights' type; or features, as ``step.from_features`` says.
    running : MetricAccumulator, optional
        The sums over the batches of this epoch that came before ``batches``; changed in place.
    watch : callable, optional
        Called every ten batches with their number and the metrics so far.
    after_step : callable, optional
        Called when a batch has been learnt and counted; what it raises ends the epoch there.

    Raises
    ------
    NonFiniteError
        If a loss or a gradient is NaN or infinite: the loss before its step is taken (on a device within ten batches),
        a gradient within ten batches.
    """
    graph, running = step.graph, running or MetricAccumulator()
    start = time.perf_counter() - running.seconds
    for images, labels in batches:
        totals = step.gradients(asarray(images), asarray(labels))
        running.add(totals, step.images)
        if running.batches % INTERVAL == 1:
            loss, correct, gradients = step.fetch_metrics(running.totals)
            metrics = running.mean(loss, correct)
            check_loss(graph, metrics.loss, running.batches)
            check_gradients(graph, running.batches, gradients)
            if watch:
                watch(running.batches, metrics)
        elif not ops.on_device:
            check_loss(graph, running.metrics().loss, running.batches)
        step.update()
        running.seconds = time.perf_counter() - start
        if after_step:
            after_step()
    metrics = running.metrics()  # a device has now done all steps but the last update
    running.seconds = time.perf_counter() - start
    check_loss(graph, metrics.loss, running.batches)
    return metrics


def evaluate(
    graph: Graph,
    batches: Iterable[tuple[Array, Array]],
    *,
    from_features: bool = False,
    communicator: Communicator = ALONE,
) -> Metrics:
    """Loss and accuracy of the network as it is, over the batches of all ranks: the same on every rank.

    Parameters
    ----------
    graph : Graph
        With batch norm's running statistics, and without dropout.
    batches : iterable of (images, labels)
        Of images (N, H, W, C), or of what the network's prefix made of them, and whole numbers (N,).
    from_features : bool
        Which of the two.
    communicator : Communicator
        Of the ranks that share the batches.

    Raises
    ------
    NonFiniteError
        If the loss is NaN or infinite.
    """
    running, forward = MetricAccumulator(), graph.logits if from_features else graph.forward
    for images, labels in batches:
        images, labels = asarray(images), asarray(labels)
        totals, _ = ops.softmax_cross_entropy(forward(images), labels)
        running.add(totals, len(images))
    metrics = running.over_all_ranks(communicator).metrics()
    if not math.isfinite(metrics.loss):
        raise NonFiniteError(f"the loss in evaluation is {metrics.loss}")
    return metrics
