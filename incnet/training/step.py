"""One training step in two parts, gradients and update, which are recorded once and then replayed."""

from __future__ import annotations

from numbers import Real
from typing import Any

from incnet.backend import Array, asarray, asnumpy, ops, recorder
from incnet.graph import Graph
from incnet.kernels.operands import OuterProduct
from incnet.layer import Layer
from incnet.optim import Optimizer
from incnet.parameter import Parameter
from incnet.training.nonfinite import gradient_sum

__all__ = ["TrainStep"]


class TrainStep:
    """Learn from one batch after the other.

    Parameters
    ----------
    graph, optimizer
        What learns, and how.
    record : bool
        Whether the CPU's steps may be recorded. Their memory is then reserved for them.

    Attributes
    ----------
    from_features : bool
        Whether batches are of features, the output of the frozen prefix, in place of images.
    images : int
        Of the last batch, on all ranks; :class:`incnet.parallel.step.ParallelStep` has several.

    Notes
    -----
    A step is hundreds of kernel calls, and what leads to them takes time: on a device more than computing, on the CPU a
    tenth of the step. They are the same as long as the network, the frozen prefix, the numbers that the optimizer goes
    by and the kind and size of the batch are, so a step is recorded once for each of these and then replayed: as one
    CUDA graph, or as a list of calls. Whatever changes one of them makes new recordings. Those for several kinds and
    sizes of batch share their memory. What is changed by hand, the rate of a dropout layer, say, asks for a new step.

    On the CPU a replay repeats calls of kernels and knows nothing of what NumPy did between them. So steps are recorded
    only if all that takes part in them, layers, optimizer and this class, is incnet's own.
    """

    def __init__(self, graph: Graph, optimizer: Optimizer, *, record: bool = True) -> None:
        self.graph, self.optimizer = graph, optimizer
        self.from_features = False
        self.images = 0
        self._record = record
        self._recorder: Any = None
        self._recordings: dict[tuple, Recording] = {}
        self._recorded_for: Any = None
        self._parts: Any = None
        self._layers: list[Layer] = []
        self._last: Recording | None = None

    def gradients(self, images: Array, labels: Array) -> Array:
        """Go forward and backward with images (N, H, W, C) and labels (N,).

        Returns
        -------
        totals : (2,) float64
            Sum of the losses, and number of correct answers; valid until the next call.
        """
        self.images = self.begin(len(images))
        self._last = self._recording(images, labels) if self.recorded else None
        return self.backpropagate(images, labels) if self._last is None else self._last.gradients(images, labels)

    def update(self) -> None:
        """Let the optimizer step along the gradients."""
        if self._last is None or self._last.gradients_differ:  # from those that were left: somebody clips them, say
            self.move()
        else:
            self._last.update()

    def look(self, totals: Array) -> tuple[float, float, float]:
        """Bring ``totals`` (2,) and the sum of all values of all gradients to the host: on a device in one copy."""
        if self._last is None or not ops.on_device:
            loss, correct = asnumpy(totals)
            return float(loss), float(correct), float(gradient_sum(self.graph))
        loss, correct, gradients = asnumpy(self._last.look(totals))
        return float(loss), float(correct), float(gradients)

    def _recording(self, images: Array, labels: Array) -> Recording | None:
        graph, optimizer = self.graph, self.optimizer
        numbers = {name: value for name, value in vars(optimizer).items() if isinstance(value, Real)}
        parts = (tuple(graph.subnetworks), graph.classifier)
        if parts != self._parts:
            self._parts, self._layers = parts, list(graph.layers())
        now = (*parts, graph.boundary, [layer.frozen for layer in self._layers], numbers)
        if now != self._recorded_for:
            self._last, self._recordings, self._recorded_for = None, {}, now
            self._recorder = recorder() if ops.on_device or self._is_own() else None
        if self._recorder is None:
            return None
        kind = (images.shape, images.dtype, labels.shape, labels.dtype, self.images, self.from_features)
        if kind not in self._recordings:
            self._recordings[kind] = Recording(self, self._recorder, images, labels)
        return self._recordings[kind]

    @property
    def recorded(self) -> bool:
        """Whether steps may be recorded and replayed."""
        return ops.on_device or (self._record and hasattr(ops.kernels, "Recorder"))

    def _is_own(self) -> bool:
        """Whether all that takes part is incnet's own."""
        parts = [self, self.optimizer, self.graph, *self.graph.layers()]
        return all(type(part).__module__.startswith("incnet.") for part in parts)

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

    def __init__(self, step: TrainStep, recorder: Any, images: Array, labels: Array) -> None:
        self._step, self._fill = step, recorder.fill
        self.images, self.labels = (recorder.empty(array.shape, array.dtype) for array in (images, labels))
        self.totals: Array = None
        self._gradients: list[tuple[Parameter, Array | OuterProduct | None]] = []
        self._backpropagate, self.update = recorder(self._run), recorder(step.move)
        if ops.on_device:
            self._looked_at, self._add_up = asarray([0.0, 0.0, 0.0]), recorder(self._sum)

    def _run(self) -> None:
        self.totals = self._step.backpropagate(self.images, self.labels)
        self._gradients = [(parameter, parameter.gradient) for _, parameter in self._step.graph.trainable_parameters()]

    def _sum(self) -> None:
        self._looked_at[2:] = gradient_sum(self._step.graph)

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

    def look(self, totals: Array) -> Array:
        """Return ``totals`` (2,) and the sum of all values of the gradients, (3,)."""
        self._looked_at[:2] = totals
        self._add_up()
        return self._looked_at
