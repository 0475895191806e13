"""The learning rate over a run, as a factor of the configured one that changes from epoch to epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["RateSchedule"]


@dataclass(frozen=True)
class RateSchedule:
    """How the rate changes.

    Parameters
    ----------
    kind : {"constant", "linear", "step"}
        In the last part of the budget: not at all; linearly to zero; to a tenth, and from the middle of that part to a
        hundredth.
    budget : int
        Epochs of the run.
    part : float
        That part, a fraction of the budget in (0, 1].
    warmup : int
        Epochs over which the rate rises linearly to its full height, whenever the training of the whole network
        begins: at the start of a run, after an insertion, after a look-ahead.
    """

    kind: Literal["constant", "linear", "step"]
    budget: int
    part: float
    warmup: int = 0

    def factor(self, epoch: int, phase_epoch: int) -> float:
        """Factor for an epoch of the run that is the ``phase_epoch``-th of its phase; both count from 0.

        One number serves a whole epoch. Where the rate falls linearly it is that of the epoch's middle.
        """
        rising = min(1.0, (phase_epoch + 1) / (self.warmup + 1))
        left = self.budget - epoch
        match self.kind:
            case "linear":
                return rising * min(1.0, (left - 0.5) / (self.part * self.budget))
            case "step":
                drops = sum(left <= share * self.part * self.budget for share in (1, 0.5))
                return rising * 0.1**drops
        return rising
