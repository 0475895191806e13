"""Dropout."""

from __future__ import annotations

import numpy as np

from incnet.backend import Array, asarray, ops
from incnet.layer import Layer

__all__ = ["Dropout"]


class Dropout(Layer):
    """In training, set each value to zero with probability ``rate`` and divide the others by ``1 - rate``.

    Parameters
    ----------
    rate : float
        Probability in [0, 1).
    rng : numpy.random.Generator
        Draws the seed of the layer's masks.

    Attributes
    ----------
    first_row : int
        Where in the batch the images that the layer is given begin. 0, except where several processes share a batch:
        each then has its part of the mask that one process would draw.

    Notes
    -----
    The mask is a function of a 64-bit seed: backward makes it again, and nothing but the seed is kept. The seed of the
    n-th training pass is the layer's own seed plus n, and both are part of the layer's state, so a restored run
    draws the masks that the uninterrupted one would have drawn.

    Source: Srivastava et al. (2014), https://jmlr.org/papers/v15/srivastava14a.html.
    """

    recordable = True
    buffers = ("seed",)

    def __init__(self, rate: float, *, rng: np.random.Generator) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"Dropout rate {rate}: choose one in [0, 1)")
        self.rate = rate
        self.first_row = 0
        self.seed = asarray(rng.integers(2**63, size=1, dtype=np.uint64))

    def __repr__(self) -> str:
        return f"Dropout({self.rate})"

    def forward(self, x: Array, train: bool = False) -> Array:
        self.check(x)
        if not train:
            return x
        # The seed stays where the backend's arrays are: nothing waits for it.
        seed = ops.draw_seed(self.seed, skipped=self.first_row * (x.size // len(x)))
        self.keep(seed)
        return ops.dropout(x, self.rate, seed)

    def recalibrate(self, x: Array) -> Array:
        return x

    def backward(self, dy: Array, need_dx: bool = True) -> Array | None:
        (seed,) = self.release()
        return ops.dropout(dy, self.rate, seed) if need_dx else None
