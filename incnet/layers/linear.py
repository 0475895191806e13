"""The dense layer, and what brings an image into its shape."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from incnet.backend import Array, asarray, ops
from incnet.init import he_normal, normal
from incnet.inputs import check_batch
from incnet.kernels import shapes
from incnet.kernels.shapes import Placeholder
from incnet.layer import Layer, Shape, at_least
from incnet.parameter import Parameter

__all__ = ["Flatten", "Linear"]


class Linear(Layer):
    """Multiply each row by a matrix and add a bias.

    Parameters
    ----------
    in_features, out_features : int
        Length of a row of x and of y.
    rng : numpy.random.Generator
        Draws the weights; the bias starts at zero.
    std : float, optional
        Deviation of the weights at the start; He's ``sqrt(2 / in_features)`` without it.
    dtype : numpy.dtype or type
        Of the parameters, and of x and y: float32, or float64, for a gradient check say.

    Notes
    -----
    Shapes: x, dx (N, in_features); weight (in_features, out_features); y, dy (N, out_features); bias (out_features,)::

        y = x @ weight + bias          dx = dy @ weight^T          dw = x^T @ dy          dbias = sum(dy)
    """

    recordable = True

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        rng: np.random.Generator,
        std: float | None = None,
        dtype: np.dtype | type = np.float32,
    ) -> None:
        super().__init__()
        at_least(1, in_features=in_features, out_features=out_features)
        shape = (in_features, out_features)
        weight = he_normal(shape, rng, dtype) if std is None else normal(shape, std, rng, dtype)
        self.weight = Parameter(weight, decay=True)
        self.bias = Parameter(asarray(np.zeros(out_features), dtype))

    def arguments(self) -> dict[str, Any]:
        return dict(zip(("in_features", "out_features"), self.weight.data.shape, strict=True))

    def __repr__(self) -> str:
        return "Linear({}, {})".format(*self.weight.data.shape)

    def check(self, x: Array) -> None:
        weight = self.weight.data
        check_batch("Linear", x, dtype=weight.dtype, axes=2, channels=weight.shape[0])

    def forward(self, x: Array, train: bool = False) -> Array:
        self.check(x)
        if train:
            self.keep(None if self.frozen else x)
        return ops.linear(x, self.weight.data, self.bias.data)

    def backward(self, dy: Array, need_dx: bool = True) -> Array | None:
        (x,) = self.release()
        if not self.frozen:
            self.weight.grad = ops.linear_weight_grad(x, dy)
            self.bias.grad = ops.bias_grad(dy)
        return ops.linear_input_grad(dy, self.weight.data) if need_dx else None

    def output_shape(self, shape: Shape) -> Shape:
        if shape != self.weight.data.shape[:1]:
            raise ValueError(
                f"Linear expects rows of {self.weight.data.shape[0]} features, the input has shape {shape}"
            )
        return shapes.linear(Placeholder((1, *shape)), self.weight.data, None)[1:]

    def macs(self, shape: Shape) -> int:
        return self.weight.data.size


class Flatten(Layer):
    """Lay out each image as a row: (N, H, W, C) to (N, H*W*C)."""

    recordable = True

    def forward(self, x: Array, train: bool = False) -> Array:
        self.check(x)
        if train:
            self.keep(x.shape)
        return x.reshape(len(x), -1)

    def backward(self, dy: Array, need_dx: bool = True) -> Array | None:
        (shape,) = self.release()
        return dy.reshape(shape) if need_dx else None

    def output_shape(self, shape: Shape) -> Shape:
        return (math.prod(shape),)
