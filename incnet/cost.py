"""What training costs: multiply-adds, step after step.

Multiply-adds (MACs) follow from shapes; :class:`incnet.layer.Cost` holds those of one training step and
:meth:`incnet.graph.Graph.cost` counts them, as far as they are computed, for any frozen prefix. A :class:`Ledger` adds
them up. FLOPs are MACs times :data:`incnet.units.FLOPS_PER_MAC`. Seconds are measured, never inferred from either.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

from incnet.checked_json import later
from incnet.graph import Graph
from incnet.layer import Cost, Shape

__all__ = ["Ledger"]


@dataclass(frozen=True)
class Ledger:
    """Multiply-adds of training steps: those that ran, and those that were spared.

    Attributes
    ----------
    forward, weight_grad, input_grad : int
        That ran, over all images and steps.
    skipped : int
        Of the backward pass: what the same steps would have computed besides, had nothing been frozen.
    cached : int
        Of the forward pass: the frozen prefix, where its features were computed before.
    recalibration : int
        That ran besides, forward, to take batch norm's statistics anew.
    """

    forward: int = 0
    weight_grad: int = 0
    input_grad: int = 0
    skipped: int = 0
    cached: int = 0
    recalibration: int = later(0)

    @classmethod
    def of(cls, graph: Graph, images: int, *, shape: Shape | None = None, from_features: bool = False) -> Ledger:
        """Return what it takes to learn from so many images with the graph as it is, in steps of any size.

        The images have a ``shape`` (H, W, C), that of the graph's input unless given. With ``from_features`` the output
        of the frozen prefix is there already, of images of the graph's own shape.
        """
        shape = shape or graph.input_shape
        cost, whole = graph.cost(shape), unfrozen_cost(graph, shape)
        skipped = whole.weight_grad + whole.input_grad - cost.weight_grad - cost.input_grad
        cached = graph.prefix_macs if from_features else 0
        per_image = (cost.forward - cached, cost.weight_grad, cost.input_grad, skipped, cached)
        return cls(*(images * macs for macs in per_image))

    @classmethod
    def of_recalibration(cls, graph: Graph, images: int, *, from_features: bool = False) -> Ledger:
        """Return what it takes to recalibrate batch norm's statistics on so many images, in one forward pass."""
        macs = graph.cost(graph.input_shape).forward - (graph.prefix_macs if from_features else 0)
        return cls(recalibration=images * macs)

    def __add__(self, other: Ledger) -> Ledger:
        return Ledger(*(ours + theirs for ours, theirs in zip(astuple(self), astuple(other), strict=True)))

    @property
    def backward(self) -> int:
        """Multiply-adds of the backward pass that ran."""
        return self.weight_grad + self.input_grad

    @property
    def total(self) -> int:
        """All multiply-adds that ran."""
        return self.forward + self.backward + self.recalibration

    @property
    def share_skipped(self) -> float:
        """Skipped part of the backward pass of the unfrozen network, in [0, 1]; 0 before the first step."""
        return self.skipped / (self.backward + self.skipped) if self.skipped else 0.0


def unfrozen_cost(graph: Graph, shape: Shape) -> Cost:
    """Return the multiply-adds of a training step, per image of that shape, if nothing were frozen."""
    boundary, frozen = graph.boundary, [(layer, layer.frozen) for layer in graph.layers()]
    graph.unfreeze()
    try:
        return graph.cost(shape)
    finally:
        graph.boundary = boundary
        for layer, was_frozen in frozen:
            layer.frozen = was_frozen
