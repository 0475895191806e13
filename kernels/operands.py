"""Operands that kernels take in place of arrays: recipes for an array that is never stored.

Batch norm and ReLU between two convolutions cost passes over memory, each about as long as the convolution itself. A
convolution that reads ``Normalised`` or ``NormGradient`` computes the pixels on the way in; one that is told what lies
``Below`` its input masks and sums its result on the way out.

The weight gradient of a dense layer is as large as the weights, and is written in order to be read once, by the
optimizer. An optimizer that is given the ``OuterProduct`` computes a few rows of it at a time.

Shapes: y, dz, a, skip, residual (N, H, W, C); scale, shift, mean, p, q, r (C,). Of dense layers: x (N, C), dy (N, K).
"""

from typing import Any, NamedTuple

# An array of the backend in use: np.ndarray or cupy.ndarray.
Array = Any


class Normalised(NamedTuple):
    """The activation ``a = relu(scale * y + shift [+ residual])`` of a batch-normalised convolution y."""

    y: Array
    scale: Array
    shift: Array
    residual: Array | None = None


class NormGradient(NamedTuple):
    """The gradient ``dy = p * dz + q * y + r`` that batch norm hands down to its convolution's output y."""

    dz: Array
    y: Array
    p: Array
    q: Array
    r: Array


class Below(NamedTuple):
    """The layer whose activation a convolution reads: how the input gradient da becomes that layer's dz.

    ``dz = da [+ skip]`` where ``a > 0``, if a is given, else where ``scale * y + shift > 0``; 0 elsewhere. The sums are
    those of dz and of dz * (y - mean), or of dz alone (a bias's gradient) where the layer has no y: no batch norm.
    """

    y: Array | None = None
    mean: Array | None = None
    scale: Array | None = None
    shift: Array | None = None
    a: Array | None = None
    skip: Array | None = None


class OuterProduct(NamedTuple):
    """The gradient ``dw = x^T @ dy`` (C, K) of a dense layer's weights: two thin factors of a large matrix."""

    x: Array
    dy: Array
