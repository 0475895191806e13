"""Initial weights, drawn from an explicit generator."""

from __future__ import annotations

import math

import numpy as np

from incnet.backend import Array, asarray

__all__ = ["Blank", "he_normal", "normal"]


def he_normal(shape: tuple[int, ...], rng: np.random.Generator, dtype: np.dtype | type = np.float32) -> Array:
    """Draw normal weights of deviation ``sqrt(2 / fan_in)``, which keeps a ReLU network's variance constant over depth.

    ``shape`` ends with the output channels; ``fan_in`` is the product of the other dimensions: (Kh, Kw, C, K) for a
    convolution, (inputs, outputs) for a dense layer.

    Source: He et al. (2015), arXiv:1502.01852.
    """
    return normal(shape, math.sqrt(2 / math.prod(shape[:-1])), rng, dtype)


def normal(shape: tuple[int, ...], std: float, rng: np.random.Generator, dtype: np.dtype | type = np.float32) -> Array:
    """Draw normal weights of deviation ``std``; in float64, so every dtype gets the same values, rounded."""
    if not hasattr(rng, "normal"):
        raise TypeError(f"rng is {rng!r:.40}: give a generator of numbers, as numpy.random.default_rng(0)")
    return asarray(rng.normal(0, std, shape), dtype)


class Blank(np.random.Generator):
    """Stands in for a generator where weights are about to be read: its zeros take no memory, and cannot be written."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def normal(self, loc: float, scale: float, size: tuple[int, ...]) -> np.ndarray:  # type: ignore[override]
        """Return zeros of a shape, whatever the distribution."""
        return np.broadcast_to(np.float32(0), size)
