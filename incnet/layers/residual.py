"""The residual block and its shortcuts (He et al., 2015, arXiv:1512.03385)."""

from __future__ import annotations

import numpy as np

from incnet.backend import Array, ops
from incnet.kernels import shapes
from incnet.kernels.shapes import Placeholder
from incnet.layer import Cost, Layer, Shape, at_least
from incnet.layers.activation import ReLU
from incnet.layers.conv import Conv2d
from incnet.layers.norm import BatchNorm2d
from incnet.layers.sequential import Sequential

__all__ = ["Identity", "Residual", "Subsample", "residual_block"]


class Identity(Layer):
    """``y = x``."""

    recordable = True

    def forward(self, x: Array, train: bool = False) -> Array:
        self.check(x)
        return x

    def backward(self, dy: Array, need_dx: bool = True) -> Array | None:
        return dy if need_dx else None


class Subsample(Layer):
    """Every ``stride``-th pixel, the channels filled up with zeros: shortcut "A", which has no parameters.

    (N, H, W, C) to (N, ceil(H / stride), ceil(W / stride), channels). Backward writes dy back to the pixels that were
    taken.

    Parameters
    ----------
    stride : int
        Step between the pixels that are taken, in both directions.
    channels : int
        Of the output, at least as many as the input has.
    """

    recordable = True
    input_axes = 4

    def __init__(self, stride: int, channels: int) -> None:
        super().__init__()
        at_least(1, stride=stride, channels=channels)
        self.stride, self.channels = stride, channels

    def __repr__(self) -> str:
        return f"Subsample({self.stride}, {self.channels})"

    def forward(self, x: Array, train: bool = False) -> Array:
        self.check(x)
        if train:
            self.keep(x.shape)
        return ops.subsample(x, self.stride, self.channels)

    def backward(self, dy: Array, need_dx: bool = True) -> Array | None:
        (x_shape,) = self.release()
        return ops.subsample_grad(dy, x_shape, self.stride) if need_dx else None

    def output_shape(self, shape: Shape) -> Shape:
        return shapes.subsample(Placeholder((1, *shape)), self.stride, self.channels)[1:]


class Residual(Layer):
    """``y = relu(body(x) + shortcut(x))``.

    Parameters
    ----------
    body, shortcut : Layer
        Two layers that give outputs of one shape.

    Notes
    -----
    With z the sum and dz = dy where z > 0, both branches get dz and their input gradients add up::

        dx = body.backward(dz) + shortcut.backward(dz)
    """

    recordable = True

    def __init__(self, body: Layer, shortcut: Layer) -> None:
        super().__init__()
        self.body, self.shortcut, self.relu = body, shortcut, ReLU()

    def check(self, x: Array) -> None:
        self.body.check(x)
        self.shortcut.check(x)

    def forward(self, x: Array, train: bool = False) -> Array:
        self.check(x)
        z = ops.add(self.body.forward(x, train), self.shortcut.forward(x, train))
        return self.relu.forward(z, train)

    def recalibrate(self, x: Array) -> Array:
        return self.relu.forward(ops.add(self.body.recalibrate(x), self.shortcut.recalibrate(x)))

    def backward(self, dy: Array, need_dx: bool = True) -> Array | None:
        dz = self.relu.backward(dy)
        through_body = self.body.backward(dz, need_dx)
        through_shortcut = self.shortcut.backward(dz, need_dx)
        return ops.add(through_body, through_shortcut) if need_dx else None

    def output_shape(self, shape: Shape) -> Shape:
        through_body, through_shortcut = self.body.output_shape(shape), self.shortcut.output_shape(shape)
        if through_body != through_shortcut:
            raise ValueError(f"a residual block's body gives {through_body}, its shortcut {through_shortcut}")
        return through_body

    def macs(self, shape: Shape) -> int:
        return self.cost(shape).forward

    def cost(self, shape: Shape, need_dx: bool = True) -> Cost:
        return self.body.cost(shape, need_dx) + self.shortcut.cost(shape, need_dx)


def residual_block(
    in_channels: int,
    out_channels: int,
    *,
    stride: int = 1,
    shortcut: str = "A",
    rng: np.random.Generator,
    dtype: np.dtype | type = np.float32,
) -> Residual:
    """Two 3x3 convolutions with batch normalisation, and a shortcut around them.

    Parameters
    ----------
    in_channels, out_channels : int
        C and K.
    stride : int
        Of the first convolution: 2 halves the image.
    shortcut : {"A", "B"}
        Where the shape changes: subsampling without parameters, or a 1x1 convolution with batch normalisation.
    rng : numpy.random.Generator
        Draws the weights (He).
    dtype : numpy.dtype or type
        Of the parameters.
    """
    body = Sequential(
        {
            "conv1": Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False, rng=rng, dtype=dtype),
            "norm1": BatchNorm2d(out_channels, dtype=dtype),
            "relu1": ReLU(),
            "conv2": Conv2d(out_channels, out_channels, 3, padding=1, bias=False, rng=rng, dtype=dtype),
            "norm2": BatchNorm2d(out_channels, dtype=dtype),
        }
    )
    if stride == 1 and in_channels == out_channels:
        return Residual(body, Identity())
    if shortcut == "A":
        return Residual(body, Subsample(stride, out_channels))
    if shortcut == "B":
        projection = {
            "conv": Conv2d(in_channels, out_channels, 1, stride=stride, bias=False, rng=rng, dtype=dtype),
            "norm": BatchNorm2d(out_channels, dtype=dtype),
        }
        return Residual(body, Sequential(projection))
    raise ValueError(f"shortcut {shortcut!r}: choose 'A' (subsample, no parameters) or 'B' (1x1 convolution)")
