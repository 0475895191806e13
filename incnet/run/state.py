"""Everything that training changes, in one place: what a checkpoint holds, no more and no less."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import Self

import numpy as np

from incnet.backend import Array, asarray, asnumpy
from incnet.checked_json import from_json, later
from incnet.config import Config
from incnet.cost import Ledger
from incnet.freezing import Freezing
from incnet.graph import Graph
from incnet.growth.criterion import GrowthRule, Periodic, Plateau, SlopeAngle
from incnet.growth.schedule import Schedule, ScheduleState
from incnet.layer import Layer
from incnet.optim import SGD, Optimizer, RMSProp
from incnet.run.network import NetworkFactory
from incnet.run.stage import Stage
from incnet.run.start import Start
from incnet.storage.checkpoint import Checkpoint
from incnet.training.average import WeightAverage
from incnet.training.loop import MetricAccumulator, Metrics

__all__ = ["MAX_ROLLBACKS", "Position", "RunState"]

# What the arrays' names begin with in a checkpoint: the network's state, the optimizer's, the best weights, the average
# of the weights, and the sums of the epoch.
NETWORK, OPTIMIZER, BEST, AVERAGE, TOTALS = "network/", "optimizer/", "best/", "average/", "epoch/totals"
# Halvings of the learning rate in a run: the last one leaves a 32nd of it, below which training would only look alive.
MAX_ROLLBACKS = 5


@dataclass(frozen=True)
class Position:
    """Where a run is: the part of a :class:`RunState` that is no array, and how far its folder has come.

    Attributes
    ----------
    schedule : ScheduleState
        What decides about the run.
    boundary : int
        Number of frozen sub-networks.
    batches, images : int
        Of the epoch in progress that are learnt.
    seconds, seconds_epoch : float
        That the run has taken; in training steps of the epoch in progress.
    metrics_bytes : int
        Length of ``metrics.jsonl``.
    average_steps : int
        Training steps that the average of the weights has seen.

    All others are as in :class:`RunState`.
    """

    schedule: ScheduleState
    boundary: int
    stages: list[Stage]
    bytes_communicated: int
    best: Metrics | None
    accuracy: float | None
    batches: int
    images: int
    rollbacks: int
    seconds: float
    seconds_training: float
    seconds_epoch: float
    metrics_bytes: int
    average_steps: int = later(0)
    seconds_compiling: float = later(0.0)


@dataclass
class RunState:
    """A run in progress.

    Attributes
    ----------
    subnetworks : dict of str to Layer
        All of the network's, in order; those that are not in the graph yet have their first weights.
    graph, optimizer, schedule
        The network in use, what trains it, and what decides about it.
    average : WeightAverage or None
        Of the weights, if it is to be kept.
    freezing : Freezing
        From when on sub-networks are frozen for good.
    stages : list of Stage
        One for each sub-network that was inserted; a baseline has one.
    best, best_weights
        Metrics of the stage's best epoch on the validation images, and the network as it was then; None and empty
        before its first.
    running : MetricAccumulator
        Sums over the batches of the epoch in progress.
    accuracy : float or None
        Validation accuracy, a fraction, of an epoch that the schedule has not seen yet.
    rollbacks : int
        How often the learning rate was halved.
    bytes_communicated : int
        What each rank has given to sums over the ranks, in all training steps.
    seconds_training : float
        That training steps of complete epochs took.
    seconds_compiling : float
        That it took, before the first step of each session, to compile kernels or to find those compiled before.
    """

    subnetworks: dict[str, Layer]
    graph: Graph
    optimizer: Optimizer
    schedule: Schedule
    average: WeightAverage | None
    freezing: Freezing
    stages: list[Stage] = field(default_factory=list)
    best: Metrics | None = None
    best_weights: dict[str, np.ndarray] = field(default_factory=dict)
    running: MetricAccumulator = field(default_factory=MetricAccumulator)
    accuracy: float | None = None
    rollbacks: int = 0
    bytes_communicated: int = 0
    seconds_training: float = 0.0
    seconds_compiling: float = 0.0

    @classmethod
    def initial(
        cls, config: Config, networks: NetworkFactory, rule: GrowthRule | None = None, start: Start | None = None
    ) -> Self:
        """Return the state before the first epoch.

        Parameters
        ----------
        rule : GrowthRule, optional
            Decides when to grow, instead of the one that ``config`` names.
        start : Start, optional
            Trained weights that are taken over.
        """
        subnetworks = networks.subnetworks()
        if start is not None:
            start.fill(subnetworks)
        return cls(
            subnetworks,
            networks.graph(),
            _optimizer(config),
            _schedule(config, len(subnetworks), rule, start),
            WeightAverage() if config.average else None,
            config.freezing(),
        )

    @property
    def stage(self) -> Stage:
        """The one in progress."""
        return self.stages[-1]

    @property
    def epochs(self) -> int:
        """Complete epochs."""
        return self.schedule.epoch + (self.accuracy is not None)

    @property
    def ledger(self) -> Ledger:
        """Multiply-adds of complete epochs."""
        return sum((stage.ledger for stage in self.stages), Ledger())

    @property
    def frozen_for_good(self) -> int:
        """Number of sub-networks that do not learn in the coming epoch, whatever its phase; the last one always may."""
        return min(self.freezing.at(self.schedule.epoch), self.schedule.inserted - 1)

    @property
    def frozen_epochs(self) -> range:
        """Epochs, around the coming one, in which the frozen prefix stays as it is, as far as can be said; or none."""
        schedule = self.schedule
        began = schedule.epoch - schedule.phase_epochs
        if schedule.phase == "lookahead":
            return range(began, began + schedule.lookahead)
        if not self.frozen_for_good:
            return range(schedule.epoch, schedule.epoch)
        planned = self.freezing.epochs(schedule.epoch)
        return range(max(began, planned.start), planned.stop)

    def averaged(self) -> AbstractContextManager[None]:
        """Let the weights be their average in a ``with`` block, if it is kept."""
        return self.average.applied(self.graph) if self.average else nullcontext()

    def hand_on_average(self) -> None:
        """Go on from the average of the weights, if it is kept."""
        if self.average:
            self.average.hand_on(self.graph)

    def begin_stage(self, batch_size: int) -> None:
        """Begin the stage of the sub-network that was inserted last."""
        name = list(self.graph.subnetworks)[-1]
        macs = self.graph.macs(self.graph.input_shape)
        self.stages.append(Stage(name, self.graph.num_parameters(), macs, batch_size))
        self.best, self.best_weights = None, {}

    def keep_if_best(self, validation: Metrics) -> None:
        """Copy the network as it was validated, if the stage has none better.

        Of epochs of one accuracy, which are many where the validation images are few, the one of the lowest loss.
        """
        if self.best is None or (validation.accuracy, -validation.loss) > (self.best.accuracy, -self.best.loss):
            self.best, self.stage.val_accuracy = validation, validation.accuracy
            self.best_weights = {}  # first, since otherwise there would be three sets of weights for a moment
            self.best_weights = {name: asnumpy(array).copy() for name, array in self.graph.state().items()}

    def end_epoch(self) -> None:
        """Count the epoch; the sums of the next one begin anew."""
        self.stage.epochs += 1
        self.running = MetricAccumulator()

    # As a checkpoint, and back.

    def checkpoint(self, seconds: float, metrics_bytes: int) -> Checkpoint:
        """Describe this moment. On the host the arrays are the state's own, not copies."""
        position = Position(
            schedule=self.schedule.state(),
            boundary=self.graph.boundary,
            stages=self.stages,
            bytes_communicated=self.bytes_communicated,
            best=self.best,
            accuracy=self.accuracy,
            batches=self.running.batches,
            images=self.running.images,
            rollbacks=self.rollbacks,
            seconds=seconds,
            seconds_training=self.seconds_training,
            seconds_epoch=self.running.seconds,
            metrics_bytes=metrics_bytes,
            average_steps=self.average.steps if self.average else 0,
            seconds_compiling=self.seconds_compiling,
        )
        arrays = {
            **_named(NETWORK, self.graph.state()),
            **_named(OPTIMIZER, self.optimizer.arrays()),
            **_named(BEST, self.best_weights),
            **(_named(AVERAGE, self.average.arrays) if self.average else {}),
            **({} if self.running.totals is None else {TOTALS: self.running.totals}),
        }
        return Checkpoint(asdict(position), {name: asnumpy(array) for name, array in arrays.items()})

    def load(self, checkpoint: Checkpoint, *, images: int, largest_batch: int) -> Position:
        """Go on from ``checkpoint``; this state is an :meth:`initial` one.

        Parameters
        ----------
        images : int
            To train on, in an epoch.
        largest_batch : int
            Images in a step, at most.

        Raises
        ------
        ValueError
            If the checkpoint does not belong to such a run. The state is then of no more use.
        """
        position, arrays = from_json(Position, checkpoint.state, "state"), checkpoint.arrays
        if not position.stages:
            raise ValueError("it has no stages")
        if not all(1 <= stage.batch_size <= largest_batch for stage in position.stages):
            raise ValueError(f"batches of {[stage.batch_size for stage in position.stages]} images, of {largest_batch}")
        if not 0 <= position.rollbacks <= MAX_ROLLBACKS:
            raise ValueError(f"{position.rollbacks} retries of at most {MAX_ROLLBACKS}")
        self.schedule.restore(position.schedule)
        for name in list(self.subnetworks)[: self.schedule.inserted]:
            self.graph.insert(name, self.subnetworks[name])
        self.graph.freeze_prefix(position.boundary)
        self._load_arrays(position, arrays)
        self.stages, self.best, self.accuracy = position.stages, position.best, position.accuracy
        self.rollbacks, self.bytes_communicated = position.rollbacks, position.bytes_communicated
        self.seconds_training, self.seconds_compiling = position.seconds_training, position.seconds_compiling
        self.running = _running(position, arrays.get(TOTALS), -(-images // self.stage.batch_size))
        return position

    def _load_arrays(self, position: Position, arrays: Mapping[str, np.ndarray]) -> None:
        network, best = _below(NETWORK, arrays), _below(BEST, arrays)
        _check(network, self.graph.state())
        if position.best is not None:
            _check(best, self.graph.state())
            self.best_weights = best
        self.optimizer.load_arrays(_below(OPTIMIZER, arrays), dict(self.graph.named_parameters()))
        self.graph.load_state(network)
        if self.average:
            self.average.load(_below(AVERAGE, arrays), position.average_steps, self.graph)


def _optimizer(config: Config) -> Optimizer:
    assert config.lr is not None and config.momentum is not None
    if config.optimizer == "sgd":
        return SGD(config.lr, momentum=config.momentum, weight_decay=config.weight_decay)
    return RMSProp(config.lr, rho=config.rho, momentum=config.momentum, weight_decay=config.weight_decay)


def _growth_rule(config: Config, subnetworks: int) -> GrowthRule:
    match config.growth:
        case "slope-angle":
            return SlopeAngle(config.window, config.gamma, config.angle_unit)
        case "plateau":
            return Plateau(config.patience, config.min_delta)
        case "periodic":
            assert config.epochs is not None
            return Periodic(config.period or max(1, config.epochs // subnetworks))


def _schedule(config: Config, subnetworks: int, rule: GrowthRule | None, start: Start | None) -> Schedule:
    assert config.epochs is not None
    trained, lookahead = len(start.taken) if start else 0, config.lookahead_epochs if config.looks_ahead else 0
    baseline, periodic = config.method == "baseline", rule is None and config.growth == "periodic"
    return Schedule(
        subnetworks=subnetworks,
        budget=config.epochs,
        rule=_growth_rule(config, subnetworks) if rule is None else deepcopy(rule),
        lookahead=lookahead,
        min_stage_epochs=config.min_stage_epochs,
        max_stage_epochs=config.epochs if periodic and config.max_stage_epochs is None else config.max_stage_epochs,
        end="budget" if baseline or periodic or config.ends_by_budget else "rule",
        inserted=subnetworks if baseline else max(1, trained),
        first_frozen=trained if start and not start.classifier and lookahead else 0,
    )


def _named(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {prefix + name: array for name, array in arrays.items()}


def _below(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _check(arrays: Mapping[str, np.ndarray], expected: Mapping[str, Array]) -> None:
    if different := sorted(arrays.keys() ^ expected.keys()):
        raise ValueError(f"{different[0]:.120} is in it or in the network, but not in both")
    for name, array in arrays.items():
        if (array.shape, array.dtype) != (expected[name].shape, expected[name].dtype):
            found = f"{array.dtype} {array.shape}"
            raise ValueError(f"{name} is {found}, in the network {expected[name].dtype} {expected[name].shape}")


def _running(position: Position, totals: np.ndarray | None, batches: int) -> MetricAccumulator:
    """Sums of the epoch in progress."""
    if (position.batches, position.images, totals) == (0, 0, None):
        return MetricAccumulator()
    within = 0 < position.batches <= min(batches, position.images) and position.accuracy is None
    if not within or totals is None or (totals.shape, totals.dtype) != ((2,), np.float64):
        raise ValueError(f"{position.images} images in {position.batches} batches of {batches}")
    return MetricAccumulator(asarray(totals), position.batches, position.images, position.seconds_epoch)
