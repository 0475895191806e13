"""One training step in two parts, gradients and update; on a device, each replayed as one CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from incnet.backend import Array, asarray, asnumpy, ops, recorder
from incnet.graph import Graph
from incnet.optim import Optimizer
from incnet.parameter import Parameter
from incnet.training.finite import gradient_sum

__all__ = ["TrainStep"]


class TrainStep:
    """Learn from one batch after the other.

    Attributes
    ----------
    from_features : bool
        Whether batches are of features, the output of the frozen prefix, in place of images.
    images : int
        Of the last batch, on all ranks; :class:`incnet.parallel.step.ParallelStep` has several.

    Notes
    -----
    On a device a step is hundreds of launches, and launching costs more than computing. They are the same as long as
    the network, the frozen prefix, the learning rate and the kind and size of the batch are, so a step is recorded once
    for each of these and then replayed. Whatever changes one of them makes new recordings. Those for several sizes of
    batch share their memory.
    """

    def __init__(self, graph: Graph, optimizer: Optimizer) -> None:
        self.graph, self.optimizer = graph, optimizer
        self.from_features = False
        self._recorder = recorder()
        self.images = 0
        self._recordings: dict[tuple[int, int], Recording] = {}
        self._recorded_for: Any = None
        self._last: Recording | None = None

    def gradients(self, images: Array, labels: Array) -> Array:
        """Go forward and backward with images (N, H, W, C) and labels (N,).

        Returns
        -------
        totals : (2,) float64
            Sum of the losses, and number of correct answers; on a device, valid until the next call.
        """
        self.images = self.begin(len(images))
        if not self.recorded:
            return self.backpropagate(images, labels)
        self._last = self._recording(images, labels)
        return self._last.gradients(images, labels)

    def update(self) -> None:
        """Let the optimizer step along the gradients."""
        if self._last is None:
            self.move()
        else:
            self._last.update()

    def look(self, totals: Array) -> tuple[float, float, float]:
        """Bring ``totals`` (2,) and the sum of all values of all gradients to the host: on a device in one copy."""
        if self._last is None:
            loss, correct = asnumpy(totals)
            return float(loss), float(correct), float(gradient_sum(self.graph))
        loss, correct, gradients = asnumpy(self._last.look(totals))
        return float(loss), float(correct), float(gradients)

    def _recording(self, images: Array, labels: Array) -> Recording:
        graph = self.graph
        now = (tuple(graph.subnetworks), graph.classifier, graph.boundary, self.optimizer.lr, self.from_features)
        if now != self._recorded_for:
            self._recorder, self._recordings = recorder(), {}
            self._last, self._recorded_for = None, now
        sizes = (len(images), self.images)
        if sizes not in self._recordings:
            self._recordings[sizes] = Recording(self, self._recorder, images, labels)
        return self._recordings[sizes]

    @property
    def recorded(self) -> bool:
        """Whether steps are recorded and replayed."""
        return ops.on_device

    @property
    def bytes(self) -> int:
        """What a step like the last one gives to sums over the ranks."""
        return 0

    def begin(self, own: int) -> int:
        """Prepare for a batch of ``own`` images here; return how many it has on all ranks."""
        return own

    # The two parts, launch by launch.

    def backpropagate(self, images: Array, labels: Array) -> Array:
        """Assign the gradients; return the batch's totals."""
        forward = self.graph.logits if self.from_features else self.graph.forward
        totals, dlogits = ops.softmax_cross_entropy(forward(images, train=True), labels)
        self.graph.backward(dlogits)
        return totals

    def move(self) -> None:
        """Change what is trainable."""
        self.optimizer.step(self.graph.trainable_parameters())


class Recording:
    """A step for one size of batch, on arrays that stay where they are."""

    def __init__(self, step: TrainStep, record: Callable, images: Array, labels: Array) -> None:
        self.images, self.labels = images.copy(), labels.copy()
        self.totals = asarray([0.0, 0.0])
        self._looked_at = asarray([0.0, 0.0, 0.0])
        self._gradients: list[tuple[Parameter, Array | None]] = []

        def backpropagate() -> None:
            self.totals[...] = step.backpropagate(self.images, self.labels)
            self._gradients = [(parameter, parameter.grad) for _, parameter in step.graph.trainable_parameters()]

        def add_up() -> None:
            self._looked_at[2:] = gradient_sum(step.graph)

        self._backpropagate, self.update, self._add_up = record(backpropagate), record(step.move), record(add_up)

    def gradients(self, images: Array, labels: Array) -> Array:
        """Copy a batch in, and repeat the recorded launches on it."""
        self.images[...] = images
        self.labels[...] = labels
        self._backpropagate()
        # A replay writes to its own gradients, and the parameters may still have those of a batch of another size.
        for parameter, gradient in self._gradients:
            parameter.grad = gradient
        return self.totals

    def look(self, totals: Array) -> Array:
        """Return ``totals`` (2,) and the sum of all values of the gradients, (3,)."""
        self._looked_at[:2] = totals
        self._add_up()
        return self._looked_at
