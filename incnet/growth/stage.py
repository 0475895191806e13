"""What each sub-network brings."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Stage"]


@dataclass
class Stage:
    """The network up to one sub-network: its size, and the best that it reached."""

    name: str
    params: int
    macs_inference: int
    val_accuracy: float = 0.0
    epochs: int = 0
