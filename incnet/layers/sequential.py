"""A chain of layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from incnet.backend import Array
from incnet.layer import Cost, Layer, Shape, check_layer

__all__ = ["Sequential"]


class Sequential(Layer):
    """Layers applied one after the other.

    Parameters
    ----------
    layers : mapping of str to Layer
        By name, in order.

    Notes
    -----
    Backward never goes further than it must: where dx is not needed it ends at the lowest layer that has something to
    learn, which is asked for no dx either.
    """

    recordable = True

    def __init__(self, layers: Mapping[str, Layer]) -> None:
        super().__init__()
        if not isinstance(layers, Mapping):
            raise TypeError(f"the layers are a {type(layers).__name__}: give them by name, as {{'relu': ReLU()}}")
        for name, layer in layers.items():
            check_layer(name, layer)
        self._layers = dict(layers)

    def arguments(self) -> dict[str, Any]:
        return {"layers": self._layers}

    def children(self) -> dict[str, Layer]:
        return self._layers

    def flattened(self) -> Iterator[Layer]:
        if type(self.unfused()) is not Sequential:  # a class of somebody's own, which may compute something else
            yield self
            return
        for layer in self._layers.values():
            yield from layer.flattened()

    def check(self, x: Array) -> None:
        for layer in list(self._layers.values())[:1]:  # what the others get, layers make
            layer.check(x)

    def forward(self, x: Array, train: bool = False) -> Array:
        for layer in self._layers.values():
            x = layer.forward(x, train)
        return x

    def recalibrate(self, x: Array) -> Array:
        for layer in self._layers.values():
            x = layer.recalibrate(x)
        return x

    def backward(self, dy: Array, need_dx: bool = True) -> Array | None:
        lowest = self._lowest(need_dx)
        gradient: Array | None = dy
        for i, layer in reversed(list(enumerate(self._layers.values()))):
            if i >= lowest:
                gradient = layer.backward(gradient, need_dx or i > lowest)
            else:
                layer.discard()
        return gradient if need_dx else None

    def _lowest(self, need_dx: bool) -> int:
        """Index of the last layer that backward has to reach."""
        if need_dx:
            return 0
        trainable = (i for i, layer in enumerate(self._layers.values()) if layer.trainable)
        return next(trainable, len(self._layers))

    def output_shape(self, shape: Shape) -> Shape:
        for layer in self._layers.values():
            shape = layer.output_shape(shape)
        return shape

    def macs(self, shape: Shape) -> int:
        return self.cost(shape).forward

    def cost(self, shape: Shape, need_dx: bool = True) -> Cost:
        lowest, total = self._lowest(need_dx), Cost()
        for i, layer in enumerate(self._layers.values()):
            cost = layer.cost(shape, need_dx or i > lowest)
            total += cost if i >= lowest else Cost(cost.forward)
            shape = layer.output_shape(shape)
        return total
