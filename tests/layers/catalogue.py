"""One registry of layer cases, which drives every test of what all layers have in common.

A new layer is registered here once, and is tested the same day.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from incnet.layer import Layer
from incnet.layers import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Identity,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    Subsample,
    residual_block,
)
from tests.small_networks import randomise


@dataclass(frozen=True)
class Case:
    """A layer, and what is known of it.

    Parameters
    ----------
    build : callable
        Takes a generator and a dtype, returns the layer.
    shape, output : tuple of int
        Of one input and of its output, without the batch axis.
    macs : int
        Multiply-adds of the forward pass, for one input, worked out by hand.
    frozen : None, "eval" or "batch"
        Whether the layer is frozen, and then with which statistics.
    keeps : bool
        Whether backward needs anything from forward.
    """

    name: str
    build: Callable[[np.random.Generator, type], Layer]
    shape: tuple[int, ...]
    output: tuple[int, ...]
    macs: int = 0
    frozen: str | None = None
    keeps: bool = True

    def __str__(self) -> str:
        return self.name if self.frozen is None else f"{self.name}, frozen ({self.frozen})"

    def layer(self, rng, dtype=np.float64):
        """Return the layer, with parameters and statistics that hide nothing."""
        layer = randomise(self.build(rng, dtype), rng)
        if self.frozen:
            layer.freeze()
            for each in layer.layers():
                if isinstance(each, BatchNorm2d):
                    each.frozen_statistics = self.frozen
        return layer

    @property
    def convolves(self):
        """Whether there is a convolution in the layer."""
        return any(isinstance(each, Conv2d) for each in self.layer(np.random.default_rng(0)).layers())

    def input(self, rng, dtype=np.float64, n=3):
        return rng.standard_normal((n, *self.shape)).astype(dtype)

    def upstream(self, rng, dtype=np.float64, n=3):
        """Return a gradient of the output: random, since batch norm's dx vanishes for one that is all ones."""
        return rng.standard_normal((n, *self.output)).astype(dtype)


def _chain(rng, dtype):
    """Every kind of layer in a row, as in a small VGG."""
    return Sequential(
        {
            "conv": Conv2d(2, 4, 3, padding=1, bias=False, rng=rng, dtype=dtype),
            "norm": BatchNorm2d(4, dtype=dtype),
            "relu": ReLU(),
            "pool": MaxPool2d(2),
            "flatten": Flatten(),
            "linear": Linear(24, 5, rng=rng, dtype=dtype),
            "dropout": Dropout(0.4, rng=rng),
        }
    )


def _nested(rng, dtype):
    """Layers without parameters at the bottom, and chains in chains."""
    return Sequential(
        {
            "pool": MaxPool2d(2),
            "inner": Sequential({"relu": ReLU(), "block": residual_block(3, 4, stride=2, rng=rng, dtype=dtype)}),
            "classifier": Sequential({"pool": GlobalAvgPool2d(), "linear": Linear(4, 6, rng=rng, dtype=dtype)}),
        }
    )


def _half_frozen(rng, dtype):
    """The lower half of a chain is fixed, as below the boundary of a growing network."""
    chain = Sequential(
        {
            "below": Sequential({"conv": Conv2d(2, 3, 3, rng=rng, dtype=dtype), "norm": BatchNorm2d(3, dtype=dtype)}),
            "relu": ReLU(),
            "above": Conv2d(3, 4, 1, rng=rng, dtype=dtype),
        }
    )
    chain.children()["below"].freeze()
    return chain


def _block(channels, **options):
    return lambda rng, dtype: residual_block(3, channels, rng=rng, dtype=dtype, **options)


TRAINED = [
    Case("Conv2d 3x3", lambda r, t: Conv2d(3, 4, 3, padding=1, rng=r, dtype=t), (6, 5, 3), (6, 5, 4), 6 * 5 * 4 * 27),
    Case(
        "Conv2d 3x3, no bias, stride 2",
        lambda r, t: Conv2d(2, 5, 3, stride=2, padding=1, bias=False, rng=r, dtype=t),
        (7, 6, 2),
        (4, 3, 5),
        4 * 3 * 5 * 18,
    ),
    Case("Conv2d 1x1, stride 2", lambda r, t: Conv2d(3, 2, 1, stride=2, rng=r, dtype=t), (5, 4, 3), (3, 2, 2), 36),
    Case(
        "Conv2d 5x5, stride 3",
        lambda r, t: Conv2d(1, 3, 5, stride=3, padding=2, rng=r, dtype=t),
        (9, 8, 1),
        (3, 3, 3),
        9 * 3 * 25,
    ),
    # An eps that matters: outside the root it would show.
    Case("BatchNorm2d", lambda r, t: BatchNorm2d(4, eps=0.3, decay=0.7, dtype=t), (5, 3, 4), (5, 3, 4)),
    Case("BatchNorm2d of one pixel", lambda r, t: BatchNorm2d(3, dtype=t), (1, 1, 3), (1, 1, 3)),
    Case("Linear", lambda r, t: Linear(7, 5, rng=r, dtype=t), (7,), (5,), 35),
    Case("Residual, identity", _block(3), (5, 4, 3), (5, 4, 3), 2 * 20 * 81),
    Case("Residual, shortcut A", _block(5, stride=2), (7, 6, 3), (4, 3, 5), 12 * 5 * (27 + 45)),
    Case("Residual, shortcut A, wider", _block(5), (4, 4, 3), (4, 4, 5), 16 * 5 * (27 + 45)),
    Case("Residual, shortcut B", _block(5, stride=2, shortcut="B"), (7, 6, 3), (4, 3, 5), 12 * 5 * (27 + 45 + 3)),
    Case("Sequential", _chain, (6, 5, 2), (5,), 30 * 4 * 18 + 24 * 5),
    Case("Sequential, nested", _nested, (9, 6, 3), (6,), 4 * 4 * (27 + 36) + 24),
    Case("Sequential, lower half frozen", _half_frozen, (6, 5, 2), (4, 3, 4), 12 * 3 * 18 + 12 * 12),
]

FIXED = [
    Case("ReLU", lambda r, t: ReLU(), (4, 3, 2), (4, 3, 2)),
    Case("LeakyReLU", lambda r, t: LeakyReLU(0.2), (4, 3, 2), (4, 3, 2)),
    Case("MaxPool2d", lambda r, t: MaxPool2d(2), (7, 6, 3), (3, 3, 3)),
    Case("MaxPool2d, overlapping", lambda r, t: MaxPool2d(3, 2), (7, 8, 2), (3, 3, 2)),
    Case("MaxPool2d, of one pixel", lambda r, t: MaxPool2d(2), (1, 1, 3), (1, 1, 3)),
    Case("AvgPool2d", lambda r, t: AvgPool2d(2), (7, 6, 3), (3, 3, 3)),
    Case("AvgPool2d, overlapping", lambda r, t: AvgPool2d(3, 2), (7, 8, 2), (3, 3, 2)),
    Case("AvgPool2d, of one pixel", lambda r, t: AvgPool2d(2), (1, 1, 3), (1, 1, 3)),
    Case("GlobalAvgPool2d", lambda r, t: GlobalAvgPool2d(), (5, 3, 4), (4,)),
    Case("Flatten", lambda r, t: Flatten(), (3, 2, 4), (24,)),
    Case("Dropout", lambda r, t: Dropout(0.4, rng=r), (5, 4, 2), (5, 4, 2)),
    Case("Identity", lambda r, t: Identity(), (4, 3, 2), (4, 3, 2), keeps=False),
    Case("Subsample", lambda r, t: Subsample(2, 5), (7, 6, 3), (4, 3, 5)),
]


def _frozen(case):
    return [
        Case(case.name, case.build, case.shape, case.output, case.macs, mode, case.keeps) for mode in ("eval", "batch")
    ]


FROZEN = [variant for case in TRAINED for variant in _frozen(case)]
CASES = [*TRAINED, *FIXED, *FROZEN]
