"""Layers that lie between those of others: what a sub-network is that grows a network from within."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from incnet.layer import Layer, Shape
from incnet.layers.sequential import Sequential

__all__ = ["Interleaved"]


class Interleaved(Layer):
    """Layers at several places of a network.

    It holds them, to be counted, frozen, saved and found by name, and computes nothing itself: what a layer reads is
    what lies below it in the whole network, which is an :class:`incnet.graph.Graph`'s business.

    Parameters
    ----------
    layers : mapping of str to Layer
        By name, in order from the input up.
    after : dict of str to str, optional
        For each of them the layer that it goes right on top of, by its name, in this sub-network or in one that is
        there before; those left out go on top of the whole network.
    """

    recordable = True

    def __init__(self, layers: Mapping[str, Layer], after: dict[str, str] | None = None) -> None:
        super().__init__()
        self._layers, self.after = dict(layers), after or {}

    def arguments(self) -> dict[str, Any]:
        return {"layers": self._layers, "after": self.after}

    def children(self) -> dict[str, Layer]:
        return self._layers

    def output_shape(self, shape: Shape) -> Shape:
        raise NotImplementedError("what the layers lie between is the graph's business: ask that")

    def chain_of(self, names: Iterable[str]) -> Sequential:
        """Return some of the layers as a chain, for where they follow one another."""
        return Sequential({name: self._layers[name] for name in names})
