"""An arm's accuracy and cost, budget by budget and seed by seed, from what run folders hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Literal

from incnet.config import Config
from incnet.report.history import History

__all__ = ["Clock", "Cost", "Curve", "Measure", "Point", "curve_of"]

Cost = Literal["macs", "seconds"]
Measure = Literal["validation", "test"]
# What a run takes by itself, in seconds, up to the end of each epoch; None where that was not measured.
Clock = Callable[[History], Sequence[float] | None]


@dataclass(frozen=True)
class Point:
    """A run of so many epochs.

    Attributes
    ----------
    accuracy : float
        A fraction.
    macs : float
        Multiply-adds of training, recalibration and validation.
    seconds : float or None
        Of training, recalibration and validation, as measured side by side; None where they were not.
    """

    accuracy: float
    macs: float
    seconds: float | None = None


@dataclass(frozen=True)
class Curve:
    """An arm: its points by seed and by epochs."""

    name: str
    points: Mapping[int, Mapping[int, Point]]

    @property
    def seeds(self) -> list[int]:
        """Those of its runs."""
        return sorted(self.points)

    @property
    def budgets(self) -> list[int]:
        """Epochs for which some seed has a point."""
        return sorted({epochs for points in self.points.values() for epochs in points})

    @property
    def timed(self) -> bool:
        """Whether all of its points have seconds."""
        return all(point.seconds is not None for points in self.points.values() for point in points.values())

    def at(self, epochs: int) -> list[Point]:
        """The points of all seeds that have one for so many epochs."""
        return [points[epochs] for points in self.points.values() if epochs in points]


def curve_of(name: str, runs: Iterable[History], budgets: Iterable[int], measure: Measure, clock: Clock) -> Curve:
    """Return the curve of an arm's finished runs.

    A run has one point, at its end: its last epoch's validation accuracy, or its test accuracy. One whose epochs do not
    depend on how many there are has been a run of each budget on its way, and has a point of validation for each.
    """
    points: dict[int, dict[int, Point]] = {}
    budgets = sorted(budgets)
    for run in runs:
        found = points.setdefault(run.setup.seed, {})
        costs, seconds, last = _macs(run), clock(run), len(run.epochs)
        passes = measure == "validation" and Config.from_json(run.options).holds_shorter_runs
        for epochs in [*(epochs for epochs in budgets if passes and epochs < last), last]:
            accuracy = run.epochs[epochs - 1].val_accuracy if measure == "validation" else run.test_accuracy
            if accuracy is not None:
                spent = None if seconds is None else seconds[epochs - 1]
                found.setdefault(epochs, Point(accuracy, costs[epochs - 1], spent))
    return Curve(name, {seed: found for seed, found in points.items() if found})


def _macs(run: History) -> list[float]:
    """Multiply-adds up to each epoch, validation included."""
    images = _validation_images(run)
    validated = accumulate(images * epoch.macs_inference for epoch in run.epochs)
    return [float(epoch.macs_training + macs) for epoch, macs in zip(run.epochs, validated, strict=True)]


def _validation_images(run: History) -> int:
    """Number of images held out: that of those to train on follows from what a forward pass over all of them took.

    Small images take less, so that it is the most that an epoch took; 0 where it was not logged.
    """
    fraction = Config.from_json(run.options).validation
    forward = [epoch.macs_forward or 0 for epoch in run.epochs]
    passes = (after - before for before, after in pairwise([0, *forward]))
    trained = max(macs / epoch.macs_inference for macs, epoch in zip(passes, run.epochs, strict=True))
    return round(trained * fraction / (1 - fraction))
