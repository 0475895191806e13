"""Training steps that are timed: of one network whose boundary moves, and of every stage and phase of a run.

::

    for steps in measure_steps(config.resolve(), dataset):
        print(steps.phase, steps.timing.seconds.median)  # S2, look-ahead: 0.031

The seconds of a run are then, for each phase, its steps times their median; validation comes on top.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy, deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import count, repeat
from typing import Any, NamedTuple

from incnet.backend import Array, asarray
from incnet.config import Config
from incnet.cost import Ledger
from incnet.data.dataset import Dataset
from incnet.data.loader import Loader
from incnet.run.run import Run
from incnet.timing.turns import Timing, take_turns, time_steps
from incnet.training.replay import Replay
from incnet.training.step import Step

__all__ = ["Phase", "PhaseSteps", "SteppingNetwork", "measure_steps", "phases"]

# When the boundary has moved, steps are recorded anew: the first one on the CPU, the second one on a device.
WARM_UP = 2


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
    """

    subnetworks: int
    lookahead: bool = False
    cached: bool = False


@dataclass(frozen=True)
class PhaseSteps:
    """Steps of a phase: images in each, multiply-adds of each, and what they took."""

    phase: Phase
    batch_size: int
    ledger: Ledger
    timing: Timing


def phases(config: Config, subnetworks: int) -> list[Phase]:
    """Return the phases that a run may have, in their order."""
    if config.method == "baseline":
        return [Phase(subnetworks)]
    found = [Phase(1)]
    for number in range(2, subnetworks + 1):
        if config.looks_ahead:
            cache = config.cache()
            found.append(Phase(number, lookahead=True))
            if cache is not None and not cache.computes(config.lookahead_epochs - 1):
                found.append(Phase(number, lookahead=True, cached=True))
        found.append(Phase(number))
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
    run = Run(config, dataset)
    names = list(run.state.subnetworks)
    wanted = phases(config, len(names))
    batch_sizes = {phase.subnetworks: run.plan[names[phase.subnetworks - 1]].batch_size for phase in wanted}
    networks = {number: _network_of(run, number, batch_sizes[number]) for number in dict.fromkeys(batch_sizes)}

    def turn(phase: Phase, steps: int) -> list[float]:
        frozen = phase.subnetworks - 1 if phase.lookahead else 0
        return networks[phase.subnetworks].turn(steps, frozen=frozen, cached=phase.cached)

    take_turns({phase: partial(turn, phase, 1) for phase in wanted}, 1, after_turn)
    timings = take_turns({phase: partial(turn, phase, steps) for phase in wanted}, rounds, after_turn)
    found = []
    for phase in wanted:
        graph, size = networks[phase.subnetworks].training_step.graph, batch_sizes[phase.subnetworks]
        graph.freeze_prefix(phase.subnetworks - 1 if phase.lookahead else 0)
        found.append(PhaseSteps(phase, size, Ledger.of(graph, size, from_features=phase.cached), timings[phase]))
    return found


def _network_of(run: Run, subnetworks: int, batch_size: int) -> SteppingNetwork:
    """Return the network that a run trains once so many sub-networks are in."""
    graph = run.networks.graph()
    for name in list(run.state.subnetworks)[:subnetworks]:
        graph.insert(name, run.state.subnetworks[name])
    step = Step(graph, deepcopy(run.state.optimizer))
    loader = copy(run.images.train)
    loader.batch_size = batch_size
    return SteppingNetwork(Replay(step) if run.config.memory_limit is None else step, _endless(loader))


def _endless(loader: Loader) -> Iterator[tuple[Any, Any]]:
    """Batches of one epoch after the other, but those that are shorter."""
    size = min(loader.batch_size, len(loader.split))
    for index in count():
        yield from (batch for batch in loader.epoch(index) if len(batch.labels) == size)
