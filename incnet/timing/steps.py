"""Training steps that are timed: of one network whose boundary moves, and of every stage and phase of a run.

::

    for steps in measure_steps(config.resolve(), dataset):
        print(steps.phase, steps.timing.seconds.median)  # S2, look-ahead: 0.031

The seconds of a run are then, for each phase, its steps times their median; validation comes on top.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, islice, repeat
from typing import Any, NamedTuple

from incnet.backend import Array, asarray
from incnet.config import Config
from incnet.cost import Ledger
from incnet.data.dataset import Dataset
from incnet.data.loader import Loader
from incnet.graph import Graph
from incnet.networks.own import MakeNetwork
from incnet.run.run import Run
from incnet.timing.turns import Timing, take_turns, time_steps
from incnet.training.loop import evaluate
from incnet.training.recalibration import recalibrate
from incnet.training.replay import Replay
from incnet.training.step import Step

__all__ = ["Phase", "PhaseSteps", "SteppingNetwork", "TimedRun", "measure_steps", "phases"]

# When the boundary has moved, steps are recorded anew: the first one on the CPU, the second one on a device.
WARM_UP = 2
HARMLESS = 1e-6  # learning rate


class SteppingNetwork:
    """A network that takes training steps, with whatever part of it frozen.

    Parameters
    ----------
    step : Step or Replay
        Of the network.
    batches : iterator of (images, labels)
        Endless. Waiting for a batch counts as part of the step.
    """

    def __init__(self, step: Step | Replay, batches: Iterator[tuple[Any, Any]]) -> None:
        self.training_step, self.batches = step, batches
        self._features: dict[int, tuple[Array, Array]] = {}

    def turn(self, steps: int, *, frozen: int = 0, cached: bool = False) -> list[float]:
        """Seconds of each of so many steps, after two that do not count.

        Parameters
        ----------
        frozen : int
            Number of sub-networks, from the input up, that are frozen.
        cached : bool
            Whether the step begins with the frozen sub-networks' features, which were computed before.
        """
        graph = self.training_step.graph
        graph.freeze_prefix(frozen)
        self.training_step.from_features = cached
        batches = repeat(self._features_of_a_batch(frozen)) if cached else self.batches
        step = partial(self._step, batches)
        time_steps(step, WARM_UP)
        return time_steps(step, steps)

    def _step(self, batches: Iterator[tuple[Any, Any]]) -> None:
        images, labels = next(batches)
        self.training_step.gradients(asarray(images), asarray(labels))
        self.training_step.update()

    def _features_of_a_batch(self, frozen: int) -> tuple[Array, Array]:
        if frozen not in self._features:
            images, labels = next(self.batches)
            self._features[frozen] = self.training_step.graph.features(asarray(images)), asarray(labels)
        return self._features[frozen]


class Phase(NamedTuple):
    """Steps of a run that take equally long.

    Attributes
    ----------
    subnetworks : int
        Number of sub-networks that are in.
    lookahead : bool
        Whether all but the uppermost one are frozen.
    cached : bool
        Whether the frozen ones' features were computed in an epoch before.
    image_size : int or None
        Height and width of the images while they grow; None when they are whole.
    for_good : int
        Number of sub-networks that are frozen for good.
    """

    subnetworks: int
    lookahead: bool = False
    cached: bool = False
    image_size: int | None = None
    for_good: int = 0

    @property
    def frozen(self) -> int:
        """Number of frozen sub-networks."""
        return self.subnetworks - 1 if self.lookahead else self.for_good


@dataclass(frozen=True)
class PhaseSteps:
    """Steps of a phase: images in each, multiply-adds of each, and what they took."""

    phase: Phase
    batch_size: int
    ledger: Ledger
    timing: Timing


def phases(config: Config, subnetworks: int) -> list[Phase]:
    """Return the phases that a run may have, in their order; those of growing images one size after the other."""
    grow = config.images_grow()
    return [
        phase._replace(image_size=size)
        for size in (*(grow.sizes[:-1] if grow else ()), None)
        for phase in _phases_of_growth(config, subnetworks)
    ]


def _phases_of_growth(config: Config, subnetworks: int) -> list[Phase]:
    cache, starts = config.cache(), config.freezing().starts
    found = []
    for number in range(subnetworks if config.method == "baseline" else 1, subnetworks + 1):
        if config.method != "baseline" and config.looks_ahead and number > 1:
            found.append(Phase(number, lookahead=True))
            if cache is not None and not cache.computes(config.lookahead_epochs - 1):
                found.append(Phase(number, lookahead=True, cached=True))
        found.append(Phase(number))
        for frozen, start in enumerate(starts[: number - 1], start=1):
            found.append(Phase(number, for_good=frozen))
            if cache is not None and not cache.computes(len(config.freezing().epochs(start)) - 1):
                found.append(Phase(number, cached=True, for_good=frozen))
    return found


def measure_steps(
    config: Config,
    dataset: Dataset,
    *,
    rounds: int = 8,
    steps: int = 4,
    after_turn: Callable[[], None] = lambda: None,
) -> list[PhaseSteps]:
    """Time the training steps of every phase of a run, on the backend and the threads in use.

    The steps are those of training: on the run's own images, augmented and loaded ahead on a thread of their own, in
    the batches of each stage. With cached features one batch of them is read again and again.

    Parameters
    ----------
    config : Config
        Resolved.
    rounds, steps : int
        All phases take turns of so many steps, so many times; a round before them, in which kernels are compiled, does
        not count.
    after_turn : callable
        For progress; called ``(rounds + 1) * len(phases)`` times.
    """
    run = TimedRun(config, dataset)
    turns = {phase: partial(run.turn, phase) for phase in run.phases}
    take_turns({phase: partial(turn, 1) for phase, turn in turns.items()}, 1, after_turn)
    timings = take_turns({phase: partial(turn, steps) for phase, turn in turns.items()}, rounds, after_turn)
    return [run.described(phase, timing) for phase, timing in timings.items()]


class TimedRun:
    """A run whose steps, validations and recalibrations are to be timed, in any order.

    They are on the backend and the threads in use, whatever those were that the run asks for.

    Parameters
    ----------
    config : Config
        Resolved.
    dataset : Dataset
        That it is about.
    network : MakeNetwork, optional
        As for :class:`incnet.run.run.Run`.

    Attributes
    ----------
    phases : list of Phase
        That it may have.
    images : int
        That it learns from in an epoch.
    """

    def __init__(self, config: Config, dataset: Dataset, network: MakeNetwork | None = None) -> None:
        # A step takes as long at any rate, and at this one no network diverges, wherever in a run it would be.
        self.run = Run(replace(config, device="auto", threads=None, lr=HARMLESS), dataset, network=network)
        self.images = len(self.run.images.train.split)
        self.phases = phases(config, len(self.run.state.subnetworks))
        self._networks = {place: self._network(*place) for place in dict.fromkeys(map(_place, self.phases))}

    def turn(self, phase: Phase, steps: int) -> list[float]:
        """Seconds of each of so many steps of a phase."""
        network = self._networks[_place(phase)]
        return network.turn(steps, frozen=phase.frozen, cached=phase.cached)

    def evaluate(self, subnetworks: int) -> list[float]:
        """Seconds that recalibration and validation take after an epoch with so many sub-networks, in a list."""
        graph = self._networks[subnetworks, None].training_step.graph
        graph.unfreeze()
        return time_steps(partial(self._evaluate, graph, self._loader(subnetworks, None)), 1)

    def _evaluate(self, graph: Graph, loader: Loader) -> None:
        with closing(loader.epoch(0)) as batches:
            recalibrate(graph, islice(batches, self.run.config.recalibrate))
        evaluate(graph, self.run.images.validation.epoch(0))

    def batch_size(self, phase: Phase) -> int:
        """Images in a step of a phase."""
        return self._loader(*_place(phase)).batch_size

    def described(self, phase: Phase, timing: Timing) -> PhaseSteps:
        """Return what was measured of a phase with what is known of it."""
        graph, loader = self._networks[_place(phase)].training_step.graph, self._loader(*_place(phase))
        graph.freeze_prefix(phase.frozen)
        size, shape = loader.batch_size, loader.image_shape
        return PhaseSteps(phase, size, Ledger.of(graph, size, shape=shape, from_features=phase.cached), timing)

    def _loader(self, subnetworks: int, image_size: int | None) -> Loader:
        loader = self.run.images.train.at_size(image_size)
        loader.batch_size = self.run.plan[list(self.run.state.subnetworks)[subnetworks - 1]].batch_size
        return loader

    def _network(self, subnetworks: int, image_size: int | None) -> SteppingNetwork:
        """Return the network that the run trains once so many sub-networks are in, on images of a size."""
        run = self.run
        graph = run.networks.graph()
        for name in list(run.state.subnetworks)[:subnetworks]:
            graph.insert(name, run.state.subnetworks[name])
        step = Step(graph, deepcopy(run.state.optimizer))
        batches = _endless(self._loader(subnetworks, image_size))
        return SteppingNetwork(Replay(step) if run.config.memory_limit is None else step, batches)


def _place(phase: Phase) -> tuple[int, int | None]:
    return phase.subnetworks, phase.image_size


def _endless(loader: Loader) -> Iterator[tuple[Any, Any]]:
    """Batches of one epoch after the other, but those that are shorter."""
    size = min(loader.batch_size, len(loader.split))
    for index in count():
        yield from (batch for batch in loader.epoch(index) if len(batch.labels) == size)
