"""Runs put in order: networks, their arms, and the seeds of an arm, of which mean and deviation are reported."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np

from incnet.config import Config
from incnet.options import described, making_no_other
from incnet.report.history import History
from incnet.report.interval import Interval, wilson
from incnet.user_code import is_place

__all__ = ["Arm", "MeanCurve", "Network", "Spread", "mean_curve", "networks"]

# How arms are called, in the order in which they are shown; others follow.
NAMES = {
    "baseline": "baseline",
    "lookahead": "look-ahead",
    "random": "random",
    "identity": "identity",
    "lookahead+identity": "look-ahead and identity",
    "copy": "copy",
    "lookahead+copy": "look-ahead and copy",
}
DATASETS = {
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "cifar100-coarse": "CIFAR-100, coarse",
    "mnist": "MNIST",
    "fashion-mnist": "Fashion-MNIST",
}
# Options in which the seeds of one arm may differ: the seed, what changes no step, and what the machine may choose.
NOT_COMPARED = {"seed"} | making_no_other(Config)
MACHINE = {name for name, facts in described(Config).items() if facts.by_machine}


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
        By seed; at least one. Of several with one seed, the first is the furthest.
    """

    label: str
    kind: str
    runs: list[History]

    @property
    def grows(self) -> bool:
        """Whether sub-networks are inserted one by one."""
        return self.runs[0].setup.method != "baseline"

    @property
    def counted(self) -> list[History]:
        """The runs that means are made of: one of each seed, the finished ones, or all if there is none."""
        seeds = {run.setup.seed: run for run in reversed(self.runs)}
        runs = [run for run in self.runs if run is seeds[run.setup.seed]]
        return [run for run in runs if run.finished] or runs

    @property
    def repeated(self) -> list[History]:
        """The runs that do not count, since another one has their seed, and says the same again."""
        seeds = {run.setup.seed: run for run in reversed(self.runs)}
        return [run for run in self.runs if run is not seeds[run.setup.seed]]

    @property
    def test_images(self) -> int | None:
        """Number of images in the test set; None where the runs do not say one number."""
        numbers = {run.summary.test_images for run in self.counted if run.finished}
        return numbers.pop() or None if len(numbers) == 1 else None

    def test_interval(self, accuracy: Spread | None) -> Interval | None:
        """Return the interval of a test accuracy: for several seeds of their mean, since they share the images."""
        images = self.test_images
        return None if accuracy is None or images is None else wilson(accuracy.mean, images)

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
        return f"{self.arch_name} on {self.dataset_name}"

    @property
    def arch_name(self) -> str:
        """As people write it: ResNet-20."""
        own = is_place(self.arch)
        return self.arch if own else self.arch.replace("resnet", "ResNet-").replace("vgg", "VGG-")

    @property
    def dataset_name(self) -> str:
        """As people write it: CIFAR-10."""
        return DATASETS.get(self.dataset) or PurePath(self.dataset).stem

    @property
    def name(self) -> str:
        """For file names: resnet20-cifar10."""
        return "".join(c if c.isascii() and c.isalnum() else "-" for c in f"{self.arch}-{PurePath(self.dataset).stem}")

    @property
    def steps_timed(self) -> bool:
        """Whether all runs logged the time that they spent in training steps."""
        return all(epoch.seconds_training is not None for run in self.runs for epoch in run.epochs)

    @property
    def times_incomparable(self) -> str | None:
        """Why the times of the runs that count say nothing about each other, or None where they do."""
        runs = [run for arm in self.arms for run in arm.counted]
        machines = {
            (*(str(run.options.get(name)) for name in sorted(MACHINE)), str(run.environment.get("processor")))
            for run in runs
        }
        if len(machines) > 1:
            return "the runs had different processors, devices or numbers of threads"
        if any(run.summary.seconds_compiling is None for run in runs if run.finished):
            return "some runs did not count compilation apart from training"
        return None

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
    return [
        Network(*names, _label([part for group in arms.values() for part in _by_machine(group)]))
        for names, arms in sorted(groups.items())
    ]


def _by_machine(group: list[History]) -> list[list[History]]:
    """Split a group in which one seed was run with several threads or devices: somebody compares these.

    Seeds that each ran where there was room are one arm, whatever those machines were.
    """
    if len({run.setup.seed for run in group}) == len(group):
        return [group]
    parts: dict[str, list[History]] = {}
    for run in group:
        parts.setdefault(json.dumps([run.options.get(name) for name in sorted(MACHINE)]), []).append(run)
    return list(parts.values())


def _identity(run: History) -> str:
    """All that makes two runs seeds of one arm, as a key."""
    compared = {name: value for name, value in _compared(run).items() if name not in MACHINE}
    return json.dumps([run.arm, compared], sort_keys=True)


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
            # One that another version lacks tells nothing, nor does one in which the arm's own seeds differ.
            if any(rival.get(name, value) != value for rival in rivals) and _agree(group, name)
        ]
        runs = sorted(group, key=lambda run: (run.setup.seed, not run.finished, -len(run.epochs), run.path))
        name = ", ".join(NAMES.get(part, part) for part in kind.split(", "))
        arms.append(Arm(", ".join([name, *differing]), kind, runs))
    return sorted(arms, key=lambda arm: (order.index(arm.kind) if arm.kind in order else len(order), arm.label))


def _agree(group: list[History], name: str) -> bool:
    return all(run.options.get(name) == group[0].options.get(name) for run in group)


def _differing(name: str, value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    none = "all sub-networks" if name == "subnetworks" else f"no {name}"
    words = none if value is None else f"{name} {text[:24]}"
    return "".join(character for character in words.replace("_", " ") if character.isprintable())[:60]
