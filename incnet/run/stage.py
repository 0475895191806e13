"""The contribution of each sub-network."""

from __future__ import annotations

from dataclasses import dataclass, field

from incnet.cost import Ledger
from incnet.units import FLOPS_PER_MAC

__all__ = ["Stage"]


@dataclass
class Stage:
    """The network up to one sub-network: its size, the best that it reached, and what its training took.

    ``batch_size`` is that of its training steps.
    """

    name: str
    params: int
    macs_inference: int
    batch_size: int
    val_accuracy: float = 0.0
    epochs: int = 0
    ledger: Ledger = field(default_factory=Ledger)

    def gain_over(self, before: Stage) -> float:
        """Percentage points of validation accuracy more than ``before``, for each TFLOP that this stage took."""
        points = 100 * (self.val_accuracy - before.val_accuracy)
        return points / (FLOPS_PER_MAC * self.ledger.total / 1e12)
