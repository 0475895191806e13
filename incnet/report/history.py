"""What is known about a run: its options, events and stages, as a report needs them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from incnet.training.evaluation import Evaluation
from incnet.training.events import Freeze, Rollback, Stop, Verdict, Window

__all__ = [
    "Epoch",
    "Event",
    "Freeze",
    "History",
    "Insert",
    "Rollback",
    "Setup",
    "StageHistory",
    "StageSummary",
    "Stop",
    "Summary",
    "Timed",
    "Verdict",
    "Window",
]

# Events as far as a report needs them. Other versions of incnet write more, and may not write what has a default.


@dataclass(frozen=True)
class Epoch:
    """See :class:`incnet.training.events.Epoch`; the ledger and seconds are those of the run so far."""

    event: ClassVar[str] = "epoch"
    epoch: int
    phase: str
    subnetworks: int
    train_accuracy: float
    val_accuracy: float
    macs_inference: int
    macs_training: int
    params: int
    macs_forward: int | None = None
    macs_weight_grad: int | None = None
    macs_input_grad: int | None = None
    macs_skipped: int | None = None
    seconds_training: float | None = None
    train_loss: float | None = None
    val_loss: float | None = None
    image_size: int | None = None


@dataclass(frozen=True)
class Insert:
    """See :class:`incnet.training.events.Insert`."""

    event: ClassVar[str] = "insert"
    epoch: int
    subnetwork: str
    init: str
    params: int
    macs_inference: int


Event = Epoch | Window | Verdict | Insert | Freeze | Rollback | Stop


@dataclass(frozen=True)
class Setup:
    """The options of a run that its report depends on; see :class:`incnet.config.Config`."""

    dataset: str
    arch: str
    method: str
    init: str
    epochs: int
    window: int
    angle_unit: str
    seed: int
    growth: str = "slope-angle"
    gamma: float = 0.5
    patience: int = 5
    partition: str = "filters"
    resize: int | None = None
    image_sizes: str | None = None
    freeze: str | None = None
    limit: int | None = None


@dataclass(frozen=True)
class StageSummary:
    """What ``summary.json`` says of a stage."""

    name: str
    test_accuracy: float | None = None


@dataclass(frozen=True)
class Summary:
    """What ``summary.json`` says of a run; see :func:`incnet.run.export.summary`.

    Attributes
    ----------
    test_images : int or None
        0 where there are none; None before the end.
    seconds_compiling : float or None
        Time that compilation took, which is then in no time of the training steps; None where it was not counted apart.
    """

    test_accuracy: float | None = None
    test_images: int | None = None
    seconds_compiling: float | None = None
    stages: list[StageSummary] = field(default_factory=list)


@dataclass(frozen=True)
class Timed:
    """An event, and when it came, in seconds since the run began."""

    seconds: float
    event: Event


@dataclass
class StageHistory:
    """The run from one insertion to the next; a baseline has one.

    Attributes
    ----------
    insert : Insert
        The insertion that began it: the last one, where several came at once.
    start, end : float
        When it was inserted, and when the last epoch was over, in seconds since the run began.
    subnetworks : tuple of str
        Names of all that are in, in the order in which they were inserted.
    epochs : list of Epoch
        Those of the stage.
    """

    insert: Insert
    start: float
    end: float
    subnetworks: tuple[str, ...]
    epochs: list[Epoch] = field(default_factory=list)

    @property
    def lookahead(self) -> int:
        """Number of epochs that were look-ahead."""
        return sum(epoch.phase == "lookahead" for epoch in self.epochs)

    @property
    def image_sizes(self) -> tuple[int, ...]:
        """Heights of the images that were learnt from, one after the other, as far as they were logged."""
        return tuple(dict.fromkeys(epoch.image_size for epoch in self.epochs if epoch.image_size is not None))

    @property
    def val_accuracy(self) -> float | None:
        """Best validation accuracy, a fraction; None before the first epoch."""
        return max((epoch.val_accuracy for epoch in self.epochs), default=None)

    @property
    def seconds(self) -> float:
        """That the stage has taken, with validation, checkpoints and compilation."""
        return self.end - self.start


@dataclass(frozen=True)
class History:
    """One run.

    Attributes
    ----------
    path : Path
        Of its folder.
    setup : Setup
        The options that the report depends on.
    options, environment : dict
        All options, and versions, as config.json has them.
    events : list of Timed
        In order. The number of an epoch is its place among the epochs, from 1.
    summary : Summary
        Empty for a run that has not ended.
    evaluation : Evaluation or None
        How its stages did on the test images, if that was logged.
    arm : str or None
        What a study calls the run's arm.
    """

    path: Path
    setup: Setup
    options: dict[str, Any]
    environment: dict[str, Any]
    events: list[Timed]
    summary: Summary = field(default_factory=Summary)
    evaluation: Evaluation | None = None
    arm: str | None = None

    @cached_property
    def epochs(self) -> list[Epoch]:
        """All complete epochs."""
        return [timed.event for timed in self.events if isinstance(timed.event, Epoch)]

    @cached_property
    def epoch_seconds(self) -> np.ndarray:
        """When each epoch was over, in seconds."""
        return np.array([timed.seconds for timed in self.events if isinstance(timed.event, Epoch)])

    @cached_property
    def seconds_training(self) -> np.ndarray:
        """Time in training steps up to each epoch; NaN where it was not logged."""
        return np.array([epoch.seconds_training for epoch in self.epochs], dtype=float)

    @cached_property
    def accuracy(self) -> np.ndarray:
        """Validation accuracy after each epoch, in percent."""
        return np.array([100 * epoch.val_accuracy for epoch in self.epochs])

    @cached_property
    def stages(self) -> list[StageHistory]:
        """The stages that have begun."""
        stages: list[StageHistory] = []
        names: tuple[str, ...] = ()
        for timed in self.events:
            match timed.event:
                case Insert() as insert:
                    if stages and not stages[-1].epochs:  # a baseline's sub-networks are inserted together
                        stages.pop()
                    names = (*names, insert.subnetwork)
                    stages.append(StageHistory(insert, timed.seconds, timed.seconds, names))
                case Epoch() as epoch if stages:
                    stages[-1].epochs.append(epoch)
                    stages[-1].end = timed.seconds
        return stages

    def first_with(self, accuracy: float) -> Epoch | None:
        """Return the first epoch of at least that validation accuracy, a fraction, whose ledger says what it took."""
        return next((epoch for epoch in self.epochs if epoch.val_accuracy >= accuracy), None)

    @property
    def test_accuracy(self) -> float | None:
        """Of the last stage, a fraction; None for a run that has not ended."""
        return self.summary.test_accuracy

    def tested(self, stage: StageHistory) -> float | None:
        """Test accuracy of a stage, a fraction; None where it was not tested."""
        if stage is self.stages[-1]:
            return self.test_accuracy
        return next((s.test_accuracy for s in self.summary.stages if s.name == stage.insert.subnetwork), None)

    @property
    def val_accuracy(self) -> float | None:
        """Best validation accuracy of the last stage, a fraction."""
        return self.stages[-1].val_accuracy if self.stages else None

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end, and was tested if there are test images."""
        tested = self.test_accuracy is not None or self.summary.test_images == 0
        return bool(self.epochs) and tested and isinstance(self.last, Stop)

    @property
    def last(self) -> Event | None:
        """What happened last."""
        return self.events[-1].event if self.events else None

    @property
    def seconds(self) -> float:
        """That the run has taken, to its last event."""
        return self.events[-1].seconds if self.events else 0.0

    @property
    def macs_training(self) -> int:
        """Multiply-adds of all training steps."""
        return self.epochs[-1].macs_training if self.epochs else 0
