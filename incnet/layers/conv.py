"""Convolution."""

from __future__ import annotations

from typing import Any

import numpy as np

from incnet.backend import Array, asarray, ops
from incnet.init import he_normal
from incnet.inputs import check_batch
from incnet.kernels import shapes
from incnet.kernels.shapes import Placeholder
from incnet.layer import Layer, Shape, at_least
from incnet.parameter import Parameter

__all__ = ["Conv2d"]


class Conv2d(Layer):
    """Slide K small filters over a batch of images.

    Parameters
    ----------
    in_channels, out_channels : int
        C and K.
    kernel_size : int
        Height and width of a filter.
    stride, padding : int
        Step between patches, and width of the border of zeros, in pixels, in both directions.
    bias : bool
        Add one number for each output channel. Needless before batch normalisation, which subtracts it again.
    rng : numpy.random.Generator
        Draws the weights (He); the bias starts at zero.
    dtype : numpy.dtype or type
        Of the parameters, and of x and y: float32, or float64, for a gradient check say.

    Notes
    -----
    Shapes: x, dx (N, H, W, C); weight, dw (Kh, Kw, C, K); y, dy (N, Ho, Wo, K). With the patches of x as rows of
    ``columns``::

        y  = columns @ weight + bias          dw      = columns^T @ dy
        dx = col2im(dy @ weight^T)            dbias   = sum(dy)
    """

    recordable = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
        rng: np.random.Generator,
        dtype: np.dtype | type = np.float32,
    ) -> None:
        super().__init__()
        at_least(1, in_channels=in_channels, out_channels=out_channels, kernel_size=kernel_size, stride=stride)
        at_least(0, padding=padding)
        self.kernel_size, self.stride, self.padding = (kernel_size, kernel_size), stride, padding
        self.weight = Parameter(
            he_normal((kernel_size, kernel_size, in_channels, out_channels), rng, dtype), decay=True
        )
        self.bias = Parameter(asarray(np.zeros(out_channels), dtype)) if bias else None

    def arguments(self) -> dict[str, Any]:
        *_, in_channels, out_channels = self.weight.data.shape
        channels = {"in_channels": in_channels, "out_channels": out_channels}
        window = {"kernel_size": self.kernel_size[0], "stride": self.stride, "padding": self.padding}
        return channels | window | {"bias": self.bias is not None}

    def __repr__(self) -> str:
        *_, in_channels, out_channels = self.weight.data.shape
        stride = f", stride={self.stride}" if self.stride > 1 else ""
        padding = f", padding={self.padding}" if self.padding else ""
        return f"Conv2d({in_channels}, {out_channels}, {self.kernel_size[0]}{stride}{padding})"

    def check(self, x: Array) -> None:
        weight = self.weight.data
        check_batch("Conv2d", x, dtype=weight.dtype, axes=4, channels=weight.shape[2])

    def forward(self, x: Array, train: bool = False) -> Array:
        self.check(x)
        if train:
            self.keep(None if self.frozen else x, x.shape)
        bias = None if self.bias is None else self.bias.data
        return ops.conv2d(x, self.weight.data, bias, self.stride, self.padding)

    def backward(self, dy: Array, need_dx: bool = True) -> Array | None:
        x, x_shape = self.release()
        if not self.frozen:
            self.weight.grad = ops.conv2d_weight_grad(x, dy, self.kernel_size, self.stride, self.padding)
            if self.bias is not None:
                self.bias.grad = ops.bias_grad(dy)
        if not need_dx:
            return None
        return ops.conv2d_input_grad(dy, self.weight.data, x_shape, self.stride, self.padding)

    def output_shape(self, shape: Shape) -> Shape:
        in_channels = self.weight.data.shape[2]
        if len(shape) != 3 or shape[2] != in_channels:
            raise ValueError(f"Conv2d expects images of {in_channels} channels, the input has shape {shape}")
        return shapes.conv2d(Placeholder((1, *shape)), self.weight.data, None, self.stride, self.padding)[1:]

    def macs(self, shape: Shape) -> int:
        rows, cols, _ = self.output_shape(shape)
        return rows * cols * self.weight.data.size
