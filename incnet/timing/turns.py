"""Timing by turns: machines drift, and what is measured within seconds of each other drifts together.

Every setting takes a turn of a few steps in each round. A ratio is taken within each round, and the median of the
rounds is what counts: it suffers less than seconds do from what else the machine does.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from incnet.backend import synchronize

__all__ = ["Quartiles", "Timing", "take_turns", "time_steps"]

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Quartiles:
    """Median of some values, and the bounds of their middle half."""

    median: float
    lower: float
    upper: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Quartiles:
        """Quartiles of at least one value, interpolated linearly."""
        lower, median, upper = np.quantile(values, (0.25, 0.5, 0.75))
        return cls(float(median), float(lower), float(upper))

    def times(self, factor: float) -> Quartiles:
        """All three, in another unit."""
        return Quartiles(self.median * factor, self.lower * factor, self.upper * factor)


@dataclass(frozen=True)
class Timing:
    """Seconds of every step of a setting, in turns."""

    turns: tuple[tuple[float, ...], ...]

    @property
    def seconds(self) -> Quartiles:
        """Of a step."""
        return Quartiles.of([seconds for turn in self.turns for seconds in turn])

    def ratio_to(self, other: Timing) -> Quartiles:
        """Quartiles, over the rounds, of the ratio of the two turns' medians."""
        pairs = zip(self.turns, other.turns, strict=True)
        return Quartiles.of([statistics.median(ours) / statistics.median(theirs) for ours, theirs in pairs])


def take_turns(
    settings: Mapping[Name, Callable[[], Sequence[float]]], rounds: int, after_turn: Callable[[], None] = lambda: None
) -> dict[Name, Timing]:
    """Let every setting take a turn in each round.

    Parameters
    ----------
    settings : mapping to callable
        Each takes its turn, and returns the seconds of its steps.
    rounds : int
        At least 1.
    after_turn : callable
        For progress.
    """
    turns: dict[Name, list[tuple[float, ...]]] = {name: [] for name in settings}
    for _ in range(rounds):
        for name, turn in settings.items():
            turns[name].append(tuple(turn()))
            after_turn()
    return {name: Timing(tuple(taken)) for name, taken in turns.items()}


def time_steps(step: Callable[[], object], steps: int) -> list[float]:
    """Seconds of each of so many calls; a device has then done what was asked of it."""
    seconds = []
    for _ in range(steps):
        synchronize()
        start = time.perf_counter()
        step()
        synchronize()
        seconds.append(time.perf_counter() - start)
    return seconds
