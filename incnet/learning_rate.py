"""The learning rate: how it changes over a run, and with the size of a batch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

__all__ = ["RateSchedule", "scaled_lr"]


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


def scaled_lr(lr: float, how: str, batch_size: int, default: int) -> float:
    """Learning rate for batches of another size than that which ``lr`` is meant for.

    ``linear`` keeps the sum of the steps over an epoch (Goyal et al., 2017, arXiv:1706.02677), as it suits plain
    gradient descent. ``sqrt`` suits RMSProp and its kin, which divide a gradient by its own size (Malladi et al., 2022,
    arXiv:2205.10287). ``off`` changes nothing.
    """
    ratio = batch_size / default
    return lr * {"off": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[how]
