"""What a run takes by itself, in seconds: each kind of step, validation and recalibration is measured, and counted.

All kinds of all runs that are compared take turns, on one machine that has nothing else to do. The seconds of a run are
then the sum, over its epochs, of the number of steps times their median, and the median of a recalibration with a
validation. A run's own clock would say what else its machine did.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import accumulate
from typing import Any

from incnet.checked_json import from_json, later
from incnet.config import Config
from incnet.data.dataset import Dataset
from incnet.networks.own import MakeNetwork
from incnet.options import described, making_no_other
from incnet.report.history import Epoch, History
from incnet.timing.steps import Phase, TimedRun
from incnet.timing.turns import take_turns

__all__ = ["ROUNDS", "Measurement", "Timings", "kind_of"]

# An evaluation takes as long as many steps: few turns, of more steps.
ROUNDS, STEPS = 4, 8

# Options by which neither a step takes longer nor a recalibration or validation.
RULES = {"window", "gamma", "angle_unit", "period", "patience", "min_delta", "min_stage_epochs", "max_stage_epochs"}
RATES = {"lr", "lr_schedule", "lr_decay", "warmup", "scale_lr", "rho", "momentum", "weight_decay"}
OTHERS = {"seed", "epochs", "growth", "dense_init", "average", "image_sizes", "freeze"} | making_no_other(Config)
IRRELEVANT = RULES | RATES | OTHERS | {name for name, facts in described(Config).items() if facts.by_machine}


@dataclass(frozen=True)
class Step:
    """A kind of step, as :class:`incnet.timing.steps.Phase` names it: images in it, and the median of its seconds."""

    subnetworks: int
    lookahead: bool
    cached: bool
    image_size: int | None
    batch_size: int
    seconds: float
    for_good: int = later(0)

    @property
    def phase(self) -> Phase:
        """What it is a step of."""
        return Phase(self.subnetworks, self.lookahead, self.cached, self.image_size, self.for_good)


@dataclass(frozen=True)
class RunTiming:
    """What was measured for runs of some options.

    Attributes
    ----------
    kind : str
        The options that matter, as JSON.
    images : int
        That are learnt from in an epoch.
    steps : list of Step
        Of each phase.
    evaluations : dict of str to float
        By the number of sub-networks: seconds of a recalibration and a validation.
    """

    kind: str
    images: int
    steps: list[Step]
    evaluations: dict[str, float]


@dataclass(frozen=True)
class Timings:
    """What was measured, side by side, and where.

    Attributes
    ----------
    where : str
        Processor or device, and threads.
    runs : list of RunTiming
        One for each kind of runs.
    """

    where: str
    runs: list[RunTiming]

    def seconds(self, run: History) -> Sequence[float] | None:
        """Return what a run takes by itself up to the end of each epoch; None if it is of a kind not measured."""
        config = Config.from_json(run.options)
        found = next((timing for timing in self.runs if timing.kind == kind_of(config)), None)
        if found is None:
            return None
        steps = {step.phase: -(-found.images // step.batch_size) * step.seconds for step in found.steps}
        phases = list(_phases(run.epochs, config))
        if not all(phase in steps and str(phase.subnetworks) in found.evaluations for phase in phases):
            return None
        return list(accumulate(steps[phase] + found.evaluations[str(phase.subnetworks)] for phase in phases))

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values; :meth:`from_json` reads them."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Any) -> Timings:
        """Read what :meth:`as_json` has written. Raises ValueError if it is something else."""
        timings: Timings = from_json(cls, content, "timings")
        return timings


def kind_of(config: Config) -> str:
    """Return the options on which times depend, as JSON; of growing images and freezing what comes, not when."""
    grow = config.images_grow()
    options = {name: value for name, value in config.as_json().items() if name not in IRRELEVANT}
    frozen = {} if config.freeze is None else {"freeze": len(config.freezing().starts)}
    return json.dumps(options | {"image_sizes": grow and grow.sizes} | frozen, sort_keys=True)


def _phases(epochs: Iterable[Epoch], config: Config) -> Iterator[Phase]:
    """Yield what each epoch's steps were."""
    grow, cache, freezing = config.images_grow(), config.cache(), config.freezing()
    before, within = Phase(0), 0
    for epoch in epochs:
        lookahead = epoch.phase == "lookahead"
        for_good = 0 if lookahead else min(freezing.at(epoch.epoch - 1), epoch.subnetworks - 1)
        phase = Phase(epoch.subnetworks, lookahead, for_good=for_good)
        within = within + 1 if phase == before else 0
        before = phase
        cached = phase.frozen > 0 and cache is not None and not cache.computes(within)
        whole = grow is None or epoch.image_size == grow.sizes[-1]
        yield phase._replace(cached=cached, image_size=None if whole else epoch.image_size)


def _step(phase: Phase, batch_size: int, seconds: float) -> Step:
    known = (phase.subnetworks, phase.lookahead, phase.cached, phase.image_size)
    return Step(*known, batch_size, seconds, phase.for_good)


class Measurement:
    """Every kind of step, recalibration and validation that some runs have, to be timed in turns.

    On the backend and the threads in use.

    Parameters
    ----------
    runs : iterable of (Config, MakeNetwork or None)
        Resolved, and as :class:`incnet.run.run.Run` takes them; of those that take equally long, one is measured.
    dataset : Dataset
        That they are about.

    Attributes
    ----------
    kinds : int
        That take turns.
    """

    def __init__(self, runs: Iterable[tuple[Config, MakeNetwork | None]], dataset: Dataset) -> None:
        of_kind = {kind_of(config): (config, network) for config, network in runs}
        self._runs = {kind: TimedRun(config, dataset, network) for kind, (config, network) in of_kind.items()}
        self._steps = [(kind, phase) for kind, run in self._runs.items() for phase in run.phases]
        self._evaluations = list(dict.fromkeys((kind, phase.subnetworks) for kind, phase in self._steps))
        self.kinds = len(self._steps) + len(self._evaluations)

    def take(
        self, *, rounds: int = ROUNDS, steps: int = STEPS, after_turn: Callable[[], None] = lambda: None
    ) -> list[RunTiming]:
        """Let all kinds take turns of so many steps, so many times, after a round that does not count.

        Parameters
        ----------
        after_turn : callable
            For progress; called ``(rounds + 1) * kinds`` times.
        """
        take_turns(self._turns(1), 1, after_turn)
        timings = take_turns(self._turns(steps), rounds, after_turn)
        seconds = {turn: timing.seconds.median for turn, timing in timings.items()}
        return [
            RunTiming(
                kind,
                run.images,
                [_step(phase, run.batch_size(phase), seconds[kind, phase]) for phase in run.phases],
                {str(count): seconds[kind, count] for other, count in self._evaluations if other == kind},
            )
            for kind, run in self._runs.items()
        ]

    def _turns(self, steps: int) -> dict[tuple[str, Phase | int], Callable[[], Sequence[float]]]:
        """Return what takes a turn: by a kind of run and a phase, its steps; and a number of sub-networks."""
        turns: dict[tuple[str, Phase | int], Callable[[], Sequence[float]]] = {}
        for kind, phase in self._steps:
            turns[kind, phase] = partial(self._runs[kind].turn, phase, steps)
        for kind, count in self._evaluations:
            turns[kind, count] = partial(self._runs[kind].evaluate, count)
        return turns
