"""Training steps that are recorded once and then replayed, without the Python between their kernels.

A step is hundreds of kernel calls, and what leads to them takes time: on a device more than computing, on the CPU a
tenth of the step. They are the same as long as the network, the frozen prefix, the optimizer's settings and the kind
and size of the batch are, so a step is recorded once for each of these and then replayed: as one CUDA graph, or as a
list of calls. Whatever changes one of them makes new recordings. Those for several kinds and sizes of batch share their
memory.

On the CPU a replay repeats calls of kernels and knows nothing of what NumPy did between them. So a step is recorded
there only if each class that takes part in it, of layers, optimizer and step, says ``recordable = True`` of itself:
everything that it computes on arrays goes through the backend's operations.
"""

from __future__ import annotations

from typing import Any

from incnet.backend import Array, asarray, asnumpy, ops, recorder
from incnet.kernels.operands import OuterProduct
from incnet.layer import Layer
from incnet.parameter import Parameter
from incnet.training.nonfinite import gradient_sum
from incnet.training.step import Step

__all__ = ["Replay"]


class Replay:
    """Take the steps of ``step`` by replaying them, where that can be done; else one by one.

    What is changed by hand between two steps, the rate of a dropout layer, say, asks for a new Replay.

    Parameters
    ----------
    step : Step
        What is recorded. On the CPU memory is then reserved for it.
    """

    def __init__(self, step: Step) -> None:
        self.step, self.graph, self.optimizer = step, step.graph, step.optimizer
        self._recorder: Any = None
        self._recordings: dict[tuple, Recording] = {}
        self._recorded_for: Any = None
        self._parts: Any = None
        self._layers: list[Layer] = []
        self._last: Recording | None = None

    @property
    def images(self) -> int:
        """Of the last batch, on all ranks."""
        return self.step.images

    @property
    def bytes(self) -> int:
        """What a step like the last one gives to sums over the ranks."""
        return self.step.bytes

    @property
    def from_features(self) -> bool:
        """Whether batches are of features in place of images."""
        return self.step.from_features

    @from_features.setter
    def from_features(self, value: bool) -> None:
        self.step.from_features = value

    def gradients(self, images: Array, labels: Array) -> Array:
        """As :meth:`Step.gradients`; the totals are valid until the next call."""
        self.step.check(images, labels)
        self.step.images = self.step.begin(len(images))
        self._last = self._recording(images, labels)
        return self.step.backpropagate(images, labels) if self._last is None else self._last.gradients(images, labels)

    def update(self) -> None:
        """Let the optimizer step along the gradients."""
        if self._last is None or self._last.gradients_differ:  # from those that were left: somebody clips them, say
            self.step.update()
        else:
            self._last.update()

    def fetch_metrics(self, totals: Array) -> tuple[float, float, float]:
        """As :meth:`Step.fetch_metrics`; on a device in one copy."""
        if self._last is None or not ops.on_device:
            return self.step.fetch_metrics(totals)
        loss, correct, gradients = asnumpy(self._last.metrics(totals))
        return float(loss), float(correct), float(gradients)

    def _recording(self, images: Array, labels: Array) -> Recording | None:
        graph = self.graph
        if not self.step.recordable or not hasattr(ops.kernels, "Recorder"):
            return None
        parts = (tuple(graph.subnetworks), graph.classifier)
        if parts != self._parts:
            self._parts, self._layers = parts, list(graph.layers())
        now = (*parts, graph.boundary, [layer.frozen for layer in self._layers], self.optimizer.settings())
        if now != self._recorded_for:
            self._last, self._recordings, self._recorded_for = None, {}, now
            self._recorder = recorder() if ops.on_device or self._all_recordable() else None
        if self._recorder is None:
            return None
        kind = (images.shape, images.dtype, labels.shape, labels.dtype, self.images, self.from_features)
        if kind not in self._recordings:
            self._recordings[kind] = Recording(self.step, self._recorder, images, labels)
        return self._recordings[kind]

    def _all_recordable(self) -> bool:
        """Whether every class that takes part says so of itself: what a class inherits, its own code may undo."""
        parts: list[Any] = [self.step, self.optimizer, *self._layers]
        return all("recordable" in vars(type(part)) and part.recordable for part in parts)


class Recording:
    """A step for one size of batch, on arrays that stay where they are."""

    def __init__(self, step: Step, recorder: Any, images: Array, labels: Array) -> None:
        self._step, self._fill = step, recorder.fill
        self.images, self.labels = (recorder.empty(array.shape, array.dtype) for array in (images, labels))
        self.totals: Array = None
        self._gradients: list[tuple[Parameter, Array | OuterProduct | None]] = []
        self._backpropagate, self.update = recorder(self._run), recorder(step.update)
        if ops.on_device:
            self._metrics, self._sum_gradients = asarray([0.0, 0.0, 0.0]), recorder(self._sum)

    def _run(self) -> None:
        self.totals = self._step.backpropagate(self.images, self.labels)
        self._gradients = [(parameter, parameter.gradient) for _, parameter in self._step.graph.trainable_parameters()]

    def _sum(self) -> None:
        self._metrics[2:] = gradient_sum(self._step.graph)

    def gradients(self, images: Array, labels: Array) -> Array:
        """Copy a batch in, and repeat the recorded calls on it."""
        self._fill(self.images, images)
        self._fill(self.labels, labels)
        self._backpropagate()
        # A replay writes to its own gradients, and the parameters may still have those of a batch of another size.
        for parameter, gradient in self._gradients:
            parameter.grad = gradient
        return self.totals

    @property
    def gradients_differ(self) -> bool:
        """Whether some parameter has another gradient than the last replay's, or has it in another form."""
        return any(parameter.gradient is not gradient for parameter, gradient in self._gradients)

    def metrics(self, totals: Array) -> Array:
        """Return ``totals`` (2,) and the sum of all values of the gradients, (3,)."""
        self._metrics[:2] = totals
        self._sum_gradients()
        return self._metrics
