"""Pooling."""

from __future__ import annotations

from incnet.backend import Array, ops
from incnet.kernels import shapes
from incnet.kernels.shapes import Placeholder
from incnet.layer import Layer, Shape

__all__ = ["AvgPool2d", "GlobalAvgPool2d", "MaxPool2d"]

LARGEST = 16


def one_pixel(shape: Shape) -> bool:
    """Whether an image of ``shape``, (H, W, C), has one pixel, so that there is nothing to pool."""
    return shape[:2] == (1, 1)


class Pool2d(Layer):
    """What the layers have in common that make a number of every window. An image of one pixel stays as it is."""

    input_axes = 4

    def __init__(self, size: int, stride: int | None = None) -> None:
        super().__init__()
        self.size, self.stride = size, size if stride is None else stride
        if size < 1 or self.stride < 1:
            raise ValueError(f"{self}: choose windows of at least 1 pixel, and as many between them")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.size}, stride={self.stride})"

    def output_shape(self, shape: Shape) -> Shape:
        if one_pixel(shape):
            return shape
        return shapes.avg_pool(Placeholder((1, *shape)), self.size, self.stride)[1:]


class MaxPool2d(Pool2d):
    """Largest value of every window, per channel: (N, H, W, C) to (N, Ho, Wo, C), Ho = (H - size) // stride + 1.

    Parameters
    ----------
    size : int
        Height and width of a window, at most 16: the place of a maximum is kept in a byte.
    stride : int or None
        Step between windows; None for ``size``, windows that touch.

    Notes
    -----
    dy goes to the pixel that held the maximum, the first one of equals. An image of one pixel stays as it is, so that
    networks which pool down to one pixel take smaller images as well.
    """

    recordable = True

    def __init__(self, size: int, stride: int | None = None) -> None:
        super().__init__(size, stride)
        if size > LARGEST:
            raise ValueError(f"{self}: choose windows of at most {LARGEST} pixels")

    def forward(self, x: Array, train: bool = False) -> Array:
        self.check(x)
        y, where = (x, None) if one_pixel(x.shape[1:]) else ops.max_pool(x, self.size, self.stride)
        if train:
            self.keep(where, x.shape)
        return y

    def backward(self, dy: Array, need_dx: bool = True) -> Array | None:
        where, x_shape = self.release()
        if where is None:
            return dy if need_dx else None
        return ops.max_pool_grad(dy, where, x_shape, self.size, self.stride) if need_dx else None


class AvgPool2d(Pool2d):
    """Mean over every window, per channel: (N, H, W, C) to (N, Ho, Wo, C), Ho = (H - size) // stride + 1.

    Parameters
    ----------
    size : int
        Height and width of a window.
    stride : int or None
        Step between windows; None for ``size``, windows that touch.

    Notes
    -----
    dx is the sum of ``dy / size^2`` over the windows in which a pixel lies. An image of one pixel stays as it is.
    """

    recordable = True

    def forward(self, x: Array, train: bool = False) -> Array:
        self.check(x)
        if train:
            self.keep(x.shape)
        return x if one_pixel(x.shape[1:]) else ops.avg_pool(x, self.size, self.stride)

    def backward(self, dy: Array, need_dx: bool = True) -> Array | None:
        (x_shape,) = self.release()
        if one_pixel(x_shape[1:]):
            return dy if need_dx else None
        return ops.avg_pool_grad(dy, x_shape, self.size, self.stride) if need_dx else None


class GlobalAvgPool2d(Layer):
    """Mean over all pixels, per channel: (N, H, W, C) to (N, C); ``dx = dy / (H * W)`` at every pixel."""

    recordable = True
    input_axes = 4

    def forward(self, x: Array, train: bool = False) -> Array:
        self.check(x)
        if train:
            self.keep(x.shape)
        return ops.global_avg_pool(x)

    def backward(self, dy: Array, need_dx: bool = True) -> Array | None:
        (x_shape,) = self.release()
        return ops.global_avg_pool_grad(dy, x_shape) if need_dx else None

    def output_shape(self, shape: Shape) -> Shape:
        return shapes.global_avg_pool(Placeholder((1, *shape)))[1:]
