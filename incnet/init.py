"""Initial weights, drawn from an explicit generator."""

from __future__ import annotations

import math

import numpy as np

from incnet.backend import Array, asarray

__all__ = ["he_normal"]


def he_normal(shape: tuple[int, ...], rng: np.random.Generator, dtype: np.dtype | type = np.float32) -> Array:
    """Draw normal weights of deviation ``sqrt(2 / fan_in)``, which keeps a ReLU network's variance constant over depth.

    ``shape`` ends with the output channels; ``fan_in`` is the product of the other dimensions: (Kh, Kw, C, K) for a
    convolution, (inputs, outputs) for a dense layer. Drawn in float64, so every dtype gets the same values, rounded.

    Source: He et al. (2015), arXiv:1502.01852.
    """
    fan_in = math.prod(shape[:-1])
    return asarray(rng.standard_normal(shape) * math.sqrt(2 / fan_in), dtype)
