"""Activations."""

from __future__ import annotations

from incnet.backend import Array, ops
from incnet.layer import Layer

__all__ = ["LeakyReLU", "ReLU"]


class ReLU(Layer):
    """``y = max(x, 0)``, ``dx = dy`` where y > 0; any shape."""

    recordable = True

    def forward(self, x: Array, train: bool = False) -> Array:
        self.check(x)
        y = ops.relu(x)
        if train:
            self.keep(y)
        return y

    def backward(self, dy: Array, need_dx: bool = True) -> Array | None:
        (y,) = self.release()
        return ops.relu_grad(dy, y) if need_dx else None


class LeakyReLU(Layer):
    """``y = x`` where x is positive, else ``slope * x``; ``dx = dy`` where y > 0, else ``slope * dy``; any shape.

    Parameters
    ----------
    slope : float
        Below zero; between 0, which would be :class:`ReLU`, and 1, both excluded.

    Notes
    -----
    Source: Maas, Hannun and Ng (2013), Rectifier Nonlinearities Improve Neural Network Acoustic Models.
    """

    recordable = True

    def __init__(self, slope: float = 0.01) -> None:
        super().__init__()
        if not 0 < slope < 1:
            raise ValueError(f"LeakyReLU({slope}): choose a slope between 0 and 1; ReLU() has none below zero")
        self.slope = slope

    def __repr__(self) -> str:
        return f"LeakyReLU({self.slope})"

    def forward(self, x: Array, train: bool = False) -> Array:
        self.check(x)
        y = ops.leaky_relu(x, self.slope)
        if train:
            self.keep(y)
        return y

    def backward(self, dy: Array, need_dx: bool = True) -> Array | None:
        (y,) = self.release()
        return ops.leaky_relu_grad(dy, y, self.slope) if need_dx else None
