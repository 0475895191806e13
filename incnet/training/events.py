"""What happens in a run, typed; each event is one line of ``metrics.jsonl`` and one line on the screen.

docs/metrics.md has a table of all fields.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol

from incnet.growth.criterion import Verdict, Window

__all__ = ["Epoch", "Event", "Freeze", "Insert", "Listener", "Rollback", "Stop", "Verdict", "Window", "as_json"]


@dataclass(frozen=True)
class Epoch:
    """One epoch is over. Accuracies are fractions; MACs are multiply-adds.

    ``macs_inference`` is for one image, ``macs_training`` for all training steps of the run so far: the sum of
    ``macs_forward``, ``macs_weight_grad``, ``macs_input_grad`` and ``macs_recalibration``, as far as each was computed;
    validation is not counted. ``macs_skipped`` is what freezing spared the backward passes of those steps,
    ``macs_cached`` what was read and not computed of their forward passes, ``macs_recalibration`` what it took to
    recalibrate batch norm's statistics. ``bytes_communicated`` is what each rank gave to sums over the ranks in those
    steps; 0 for a process by itself. ``seconds_training`` is the time that they took, data loading included, validation
    and recalibration not; ``seconds_compiling`` is what it took, before the first step of each session, to compile
    kernels or to find those compiled before. ``params`` counts the whole network in use. ``lr`` is the learning rate of
    the epoch's steps, ``image_size`` the height of their images in pixels.
    """

    event: ClassVar[str] = "epoch"
    epoch: int
    phase: str
    subnetworks: int
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    images_per_second: float
    seconds_training: float
    seconds_compiling: float
    macs_inference: int
    macs_training: int
    macs_forward: int
    macs_weight_grad: int
    macs_input_grad: int
    macs_skipped: int
    macs_cached: int
    macs_recalibration: int
    bytes_communicated: int
    params: int
    lr: float
    image_size: int


@dataclass(frozen=True)
class Insert:
    """A sub-network was inserted; the steps that follow learn from ``batch_size`` images, at the rate ``lr``.

    ``reason`` is why the stage before had ended; empty where there was none.
    """

    event: ClassVar[str] = "insert"
    epoch: int
    subnetwork: str
    init: str
    params: int
    macs_inference: int
    batch_size: int
    lr: float
    reason: str = ""


@dataclass(frozen=True)
class Freeze:
    """So many sub-networks, from the input up, are frozen for good."""

    event: ClassVar[str] = "freeze"
    epoch: int
    subnetworks: int


@dataclass(frozen=True)
class Stop:
    """The run is over."""

    event: ClassVar[str] = "stop"
    epoch: int
    reason: str


@dataclass(frozen=True)
class Rollback:
    """A loss, gradient or weight was not finite: the run went back to the end of ``epoch``, with learning rate ``lr``.

    ``failed_epoch`` is the one that went wrong, counted from 1 as in :class:`Epoch`; ``retry`` counts from 1.
    """

    event: ClassVar[str] = "rollback"
    epoch: int
    failed_epoch: int
    retry: int
    lr: float
    reason: str


# A verdict of the growth rule, a window of the slope-angle rule among them, is logged as the rule gave it.
Event = Epoch | Window | Verdict | Insert | Freeze | Stop | Rollback


class Listener(Protocol):
    """Is told what happens in a run, once it is in ``metrics.jsonl``."""

    def event(self, event: Event) -> None:
        """Take note of ``event``."""


def as_json(event: Event) -> dict[str, Any]:
    """``event`` as a JSON object, with its name."""
    return {"event": event.event, **asdict(event)}
