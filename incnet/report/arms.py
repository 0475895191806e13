"""Runs put in order: networks, their arms, and the seeds of an arm, of which mean and deviation are reported."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from incnet.config import MAY_CHANGE
from incnet.report.history import History

__all__ = ["Arm", "MeanCurve", "Network", "Spread", "mean_curve", "networks"]

# How arms are called, in the order in which they are shown; others follow.
NAMES = {
    "baseline": "baseline",
    "lookahead": "look-ahead",
    "random": "random",
    "identity": "identity",
    "lookahead+identity": "look-ahead and identity",
}
DATASETS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "fashion-mnist": "Fashion-MNIST"}
# Options in which the seeds of one arm may differ: the seed, and what changes no step.
NOT_COMPARED = {"seed", "out", *MAY_CHANGE}


@dataclass(frozen=True)
class Spread:
    """Mean of some runs; deviation is the sample's standard deviation, None for a single run."""

    mean: float
    deviation: float | None
    runs: int

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Spread | None:
        """Return that of the values that are not None, or None if all are."""
        known = [value for value in values if value is not None]
        if not known:
            return None
        return cls(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None, len(known))


@dataclass(frozen=True)
class MeanCurve:
    """Mean of some runs' curves, and their deviation (zero for a single run), at the abscissas ``x``."""

    x: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray


def mean_curve(curves: Sequence[tuple[np.ndarray, np.ndarray]]) -> MeanCurve:
    """Average curves where all of them are known, each interpolated between its points.

    Parameters
    ----------
    curves : sequence of (x, y)
        Each with at least one point, and x that rises.
    """
    low, high = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    grid = np.unique(np.concatenate([x[(x >= low) & (x <= high)] for x, _ in curves]))
    values = np.array([np.interp(grid, x, y) for x, y in curves])
    deviation = values.std(axis=0, ddof=1) if len(curves) > 1 else np.zeros_like(grid, dtype=float)
    return MeanCurve(grid, values.mean(axis=0), deviation)


@dataclass(frozen=True)
class Arm:
    """Runs that differ in their seeds only.

    Attributes
    ----------
    label : str
        What tells it from the other arms of its network.
    kind : str
        What a study calls it; else ``baseline``, or how sub-networks are initialised, and when if not by slope angle.
    runs : list of History
        By seed; at least one.
    """

    label: str
    kind: str
    runs: list[History]

    @property
    def grows(self) -> bool:
        """Whether sub-networks come in one by one."""
        return self.runs[0].setup.method != "baseline"

    @property
    def counted(self) -> list[History]:
        """The runs that means are made of: the finished ones, or all if there is none."""
        return [run for run in self.runs if run.finished] or self.runs

    def spread(self, value: Callable[[History], float | None]) -> Spread | None:
        """Mean and deviation of ``value`` over the runs that count."""
        return Spread.of(value(run) for run in self.counted)

    def curve(self, x: Callable[[History], Any], y: Callable[[History], Any]) -> MeanCurve | None:
        """Return the mean of the runs that count and have an epoch, or None if none has."""
        curves = [(np.asarray(x(run), float), np.asarray(y(run), float)) for run in self.counted if run.epochs]
        return mean_curve(curves) if curves else None


@dataclass(frozen=True)
class Network:
    """An architecture on a data set, and the arms in which it was trained."""

    dataset: str
    arch: str
    arms: list[Arm]

    @property
    def title(self) -> str:
        """For a heading: ResNet-20 on CIFAR-10."""
        name = self.arch.replace("resnet", "ResNet-").replace("vgg", "VGG-")
        return f"{name} on {DATASETS.get(self.dataset, self.dataset)}"

    @property
    def name(self) -> str:
        """For file names: resnet20-cifar10."""
        return "".join(c if c.isascii() and c.isalnum() else "-" for c in f"{self.arch}-{self.dataset}")

    @property
    def steps_timed(self) -> bool:
        """Whether all runs recorded the time that they spent in training steps."""
        return all(epoch.seconds_training is not None for run in self.runs for epoch in run.epochs)

    def seconds(self, run: History) -> np.ndarray:
        """Measured time up to each epoch: in training steps where all runs have that, else of everything."""
        return run.seconds_training if self.steps_timed else run.epoch_seconds

    @property
    def runs(self) -> list[History]:
        """Of all arms."""
        return [run for arm in self.arms for run in arm.runs]


def networks(histories: Iterable[History]) -> list[Network]:
    """Group runs by network and arm, in the order in which a report shows them."""
    groups: dict[tuple[str, str], dict[str, list[History]]] = {}
    for run in histories:
        arms = groups.setdefault((run.setup.dataset, run.setup.arch), {})
        arms.setdefault(_identity(run), []).append(run)
    return [Network(*names, _label(list(arms.values()))) for names, arms in sorted(groups.items())]


def _identity(run: History) -> str:
    """All that makes two runs seeds of one arm, as a key."""
    return json.dumps([run.arm, _compared(run)], sort_keys=True)


def _compared(run: History) -> dict[str, Any]:
    return {name: value for name, value in run.options.items() if name not in NOT_COMPARED}


def _kind(run: History) -> str:
    if run.arm is not None or run.setup.method == "baseline":
        return run.arm or "baseline"
    rule = run.setup.growth
    return run.setup.init if rule == "slope-angle" else f"{run.setup.init}, {rule}"


def _label(groups: list[list[History]]) -> list[Arm]:
    """Name groups by kind, and those of one kind by the options in which they differ."""
    order = list(NAMES)
    arms = []
    for group in groups:
        kind = _kind(group[0])
        rivals = [_compared(other[0]) for other in groups if _kind(other[0]) == kind]
        differing = [
            _differing(name, value)
            for name, value in _compared(group[0]).items()
            if any(rival.get(name, value) != value for rival in rivals)  # one that another version lacks tells nothing
        ]
        runs = sorted(group, key=lambda run: (run.setup.seed, run.path))
        name = ", ".join(NAMES.get(part, part) for part in kind.split(", "))
        arms.append(Arm(", ".join([name, *differing]), kind, runs))
    return sorted(arms, key=lambda arm: (order.index(arm.kind) if arm.kind in order else len(order), arm.label))


def _differing(name: str, value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    words = f"no {name}" if value is None else f"{name} {text[:24]}"
    return "".join(character for character in words.replace("_", " ") if character.isprintable())[:60]
