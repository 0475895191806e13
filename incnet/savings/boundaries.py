"""What a training step saves at each boundary of a network: in multiply-adds, in memory, and measured in time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np

from incnet.backend import asarray
from incnet.cost import Ledger
from incnet.graph import Graph
from incnet.memory import step_bytes
from incnet.optim import Optimizer, RMSProp
from incnet.run.memory_plan import not_dry_run
from incnet.timing.steps import SteppingNetwork
from incnet.timing.turns import Quartiles, Timing, take_turns
from incnet.training.replay import Replay
from incnet.training.step import Step

__all__ = ["Expected", "Measured", "Setting", "expect", "measure", "settings", "step_memory"]

FLOAT = 4  # bytes


class Setting(NamedTuple):
    """A step of the whole network with its lowest ``frozen`` sub-networks frozen.

    With ``cached`` their features were computed before, as in a look-ahead with ``--lookahead-cache``.
    """

    frozen: int
    cached: bool = False


@dataclass(frozen=True)
class Expected:
    """What is known of a step before it is taken.

    Attributes
    ----------
    skipped : float
        Part of the whole network's backward pass, in multiply-adds, that is not computed.
    ratio : float
        Multiply-adds of the step, over those of a step with nothing frozen.
    memory : int or None
        Bytes that training takes in such steps, see :func:`incnet.memory.step_bytes`; None where that is not known
        beforehand, with layers of somebody's own.
    feature_bytes : int
        Of one image, that a cache keeps in float32; 0 without one.
    """

    skipped: float
    ratio: float
    memory: int | None
    feature_bytes: int


@dataclass(frozen=True)
class Measured:
    """A setting, what was expected of it, its steps and their ratio to those with nothing frozen."""

    setting: Setting
    expected: Expected
    timing: Timing
    ratio: Quartiles

    def as_json(self) -> dict[str, Any]:
        """Values by name: times in milliseconds, memory in bytes."""
        return {
            "frozen": self.setting.frozen,
            "cached": self.setting.cached,
            "skipped_of_backward": round(self.expected.skipped, 4),
            "predicted_ratio": round(self.expected.ratio, 4),
            "measured_ratio": _rounded(self.ratio),
            "milliseconds": _rounded(self.timing.seconds.times(1e3)),
            "memory_bytes": self.expected.memory,
            "feature_bytes_per_image": self.expected.feature_bytes,
        }


def _rounded(quartiles: Quartiles) -> dict[str, float]:
    return {name: round(value, 4) for name, value in vars(quartiles).items()}


def settings(subnetworks: int, frozen: Iterable[int] | None = None) -> list[Setting]:
    """Return the settings to compare: nothing frozen, then each boundary (or those given) without and with a cache."""
    boundaries = range(1, subnetworks) if frozen is None else frozen
    return [Setting(0), *(Setting(number, cached) for number in boundaries for cached in (False, True))]


def expect(graph: Graph, optimizer: Optimizer, batch_size: int, setting: Setting) -> Expected:
    """Count what a step takes. The graph is left with this setting's boundary."""
    graph.unfreeze()
    whole = Ledger.of(graph, 1)
    graph.freeze_prefix(setting.frozen)
    ledger = Ledger.of(graph, 1, from_features=setting.cached)
    return Expected(
        ledger.share_skipped,
        ledger.total / whole.total,
        step_memory(graph, optimizer, batch_size, from_features=setting.cached),
        FLOAT * math.prod(graph.prefix_shape) if setting.cached else 0,
    )


def step_memory(graph: Graph, optimizer: Optimizer, batch_size: int, *, from_features: bool = False) -> int | None:
    """Bytes that training takes in steps of the graph as it is; None where that is not known beforehand."""
    if not_dry_run(graph) is not None:
        return None
    return step_bytes(graph, optimizer, batch_size, from_features=from_features)


def measure(
    graph: Graph,
    batch_size: int,
    *,
    rounds: int,
    steps: int,
    after_turn: Callable[[], None] = lambda: None,
) -> list[Measured]:
    """Time a training step at every boundary of a network, on random images.

    All settings take turns in one process, on one network whose boundary moves, as it does in a run.

    Parameters
    ----------
    graph : Graph
        With all sub-networks in. It is trained.
    rounds, steps : int
        Every setting takes so many turns of so many steps; a round before them, in which kernels are compiled, does not
        count.
    after_turn : callable
        For progress; called ``(rounds + 1) * (2 * K - 1)`` times for K sub-networks.
    """
    rng = np.random.default_rng(1)
    images = asarray(rng.standard_normal((batch_size, *graph.input_shape), np.float32))
    labels = asarray(rng.integers(0, graph.output_shape(graph.input_shape)[0], batch_size))
    optimizer = RMSProp()
    network = SteppingNetwork(Replay(Step(graph, optimizer)), repeat((images, labels)))
    compared = settings(len(graph.subnetworks))

    def turn(setting: Setting, steps: int) -> list[float]:
        return network.turn(steps, frozen=setting.frozen, cached=setting.cached)

    take_turns({setting: partial(turn, setting, 1) for setting in compared}, 1, after_turn)
    timings = take_turns({setting: partial(turn, setting, steps) for setting in compared}, rounds, after_turn)
    whole = timings[Setting(0)]
    return [
        Measured(setting, expect(graph, optimizer, batch_size, setting), timing, timing.ratio_to(whole))
        for setting, timing in timings.items()
    ]
