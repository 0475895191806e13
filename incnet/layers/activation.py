"""Activations."""

from __future__ import annotations

from incnet.backend import Array, ops
from incnet.layer import Layer

__all__ = ["ReLU"]


class ReLU(Layer):
    """``y = max(x, 0)``, ``dx = dy`` where y > 0; any shape."""

    recordable = True

    def forward(self, x: Array, train: bool = False) -> Array:
        y = ops.relu(x)
        if train:
            self.keep(y)
        return y

    def backward(self, dy: Array, need_dx: bool = True) -> Array | None:
        (y,) = self.release()
        return ops.relu_grad(dy, y) if need_dx else None
