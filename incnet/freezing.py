"""Freezing towards the end: the meaning of ``--freeze``.

Lower layers settle first. Frozen once they have, they spare their part of the backward pass for the rest of a run
(Brock et al., 2017, FreezeOut, arXiv:1706.04983).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

__all__ = ["Freezing"]


@dataclass(frozen=True)
class Freezing:
    """From when on sub-networks are frozen for good.

    Attributes
    ----------
    starts : tuple of int
        First epoch of the run, counted from 0, in which S1 is frozen; S2; ...
    budget : int
        Epochs of the run.
    """

    starts: tuple[int, ...] = ()
    budget: int = 0

    @classmethod
    def parse(cls, text: str, budget: int) -> Self:
        """Read ``0.7,0.85``: S1 is frozen when 0.7 of the epochs are over, rounded up, and S2 when 0.85 are.

        Raises
        ------
        ValueError
            If it is spelt otherwise, the fractions do not rise, or one is at the end of ``budget`` epochs.
        """
        try:
            fractions = [float(part) for part in text.split(",")]
        except ValueError:
            raise ValueError(f"{text!r:.80} does not have the form 0.7,0.85") from None
        if not all(0 < fraction < 1 for fraction in fractions):
            raise ValueError(f"{text:.80}: choose fractions between 0 and 1")
        if any(fraction >= later for fraction, later in pairwise(fractions)):
            raise ValueError(f"{text:.80}: choose fractions that rise: S1 is frozen first")
        starts = tuple(math.ceil(round(fraction * budget, 6)) for fraction in fractions)
        if starts[-1] >= budget:
            raise ValueError(
                f"{text:.80}: the last fraction leaves none of {budget} epochs; choose less, or more epochs"
            )
        return cls(starts, budget)

    def at(self, epoch: int) -> int:
        """Number of sub-networks, from the input up, that are to be frozen in an epoch of the run."""
        return bisect_right(self.starts, epoch)

    def epochs(self, epoch: int) -> range:
        """Epochs around this one in which as many are frozen."""
        bounds = (0, *self.starts, self.budget)
        return range(bounds[self.at(epoch)], bounds[self.at(epoch) + 1])
