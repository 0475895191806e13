"""A whole run: data, network and optimizer, put through the course that the schedule decides."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from copy import deepcopy
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from incnet.backend import asnumpy, free_memory, limit_memory
from incnet.config import Config, ConfigError
from incnet.cost import Ledger
from incnet.data.dataset import Dataset
from incnet.fusion import fuse
from incnet.graph import Graph
from incnet.growth.batch import StagePlan, plan_batches, return_freed_memory
from incnet.growth.criterion import GrowthRule, Verdict, Window, make_rule
from incnet.growth.features import LookaheadFeatures
from incnet.growth.images import RunImages
from incnet.growth.initialise import insert
from incnet.growth.product import save_stage
from incnet.growth.schedule import Decision, Grow, Schedule, Stop, Unfreeze
from incnet.growth.snapshot import restore, snapshot
from incnet.growth.stage import Stage
from incnet.growth.testing import evaluate_stages
from incnet.layer import Layer, Shape
from incnet.models import build, make_classifier
from incnet.optim import SGD, Optimizer, RMSProp
from incnet.parallel.communicator import Communicator
from incnet.parallel.step import ParallelStep
from incnet.sizes import parse_size
from incnet.stopping import Condition, Progress, as_condition, parse, reason_to_stop
from incnet.training import events
from incnet.training.average import WeightAverage
from incnet.training.checkpoint import CheckpointError, save_weights
from incnet.training.evaluation import Evaluation
from incnet.training.files import writing
from incnet.training.finite import NonFiniteError, first_nonfinite
from incnet.training.folder import RunFolder
from incnet.training.loop import Metrics, Running, evaluate, train_epoch
from incnet.training.progress import Display
from incnet.training.recalibration import recalibrate
from incnet.training.room import Room
from incnet.training.signals import StopSignals
from incnet.training.step import TrainStep

__all__ = ["MAX_ROLLBACKS", "Run"]

# Streams of random numbers that one seed gives: each use draws from its own, so that one never shifts another.
WEIGHTS, CLASSIFIER = 1, 2
# Halvings of the learning rate in a run: the last one leaves a 32nd of it, below which training would only look alive.
MAX_ROLLBACKS = 5


class Run:
    """Train one network as a :class:`Config` says.

    Parameters
    ----------
    config : Config
        Resolved.
    dataset : Dataset, optional
        Loaded from disk unless given, by rank 0 for all.
    rule : GrowthRule, optional
        Decides when to grow, instead of the one that ``config`` names; see :mod:`incnet.growth.criterion`.
    stop : Condition or callable, optional
        Ends the run early, instead of the one that ``config`` spells; see :mod:`incnet.stopping`.
    communicator : Communicator, optional
        Of the ranks, if there are several that train the network together. They go through the same course: each has
        the whole network and a part of every batch, and what is decided is decided from sums over all of them.

    Attributes
    ----------
    images : RunImages
        What the network learns from, and is judged by.
    graph, optimizer, schedule
        The network in use, what trains it, and what decides about it.
    stages : list of Stage
        One for each sub-network that has come in; a baseline has one.
    objects : dict of str to str
        Names of the rule and of the condition that were given as Python objects: no option brings them back.

    Notes
    -----
    A checkpoint is taken after an epoch, *before* the schedule sees its accuracy, and every few minutes after a step.
    Whatever follows is a function of that moment, insertions included, so a run that goes on from a checkpoint goes
    the way that it would have gone.
    """

    def __init__(
        self,
        config: Config,
        dataset: Dataset | None = None,
        *,
        rule: GrowthRule | None = None,
        stop: Condition | Callable[[Progress], bool | str | None] | None = None,
        communicator: Communicator | None = None,
    ) -> None:
        self.config, self._rule = config, rule
        self.objects = {} if rule is None else {"rule": type(rule).__name__}
        if stop is not None:
            self.objects["stop"] = str(as_condition(stop))
        if stop is None and config.stop is not None:
            stop = parse(config.stop)
        self._stop = None if stop is None else as_condition(stop)
        if config.batch_size == "auto":
            return_freed_memory()
        self.communicator = communicator or Communicator()
        self.images = RunImages(config, dataset, self.communicator)
        self.begin()
        self.plan = self._plan_batches()
        self.images.train.batch_size = next(iter(self.plan.values())).batch_size

    def begin(self) -> None:
        """Make everything that training changes, as it is before the first epoch."""
        config, shape = self.config, self.images.shape
        assert config.lr is not None
        try:
            rng = np.random.default_rng([config.seed, WEIGHTS])
            subnetworks = build(
                config.arch,
                shape,
                rng=rng,
                split=config.partition,
                shortcut=config.shortcut,
                count=config.subnetworks,
            )
        except ValueError as error:
            raise ConfigError(str(error)) from error
        self.subnetworks = {name: fuse(subnetwork) for name, subnetwork in subnetworks.items()}
        self.graph = Graph(shape, self._classifier, frozen_bn=config.frozen_bn)
        self.optimizer = self._optimizer()
        self.rate = config.rate_schedule()
        self.average = WeightAverage() if config.average else None
        self.step = self._make_step()
        self.schedule = self._schedule(len(self.subnetworks))
        self.stages: list[Stage] = []
        self.seconds_training = 0.0
        self.bytes_communicated = 0
        self.best: Metrics | None = None
        self.best_weights: dict[str, np.ndarray] = {}
        self.running = Running()
        self.accuracy: float | None = None
        self.rollbacks = 0
        self.features: LookaheadFeatures | None = None

    def _plan_batches(self) -> dict[str, StagePlan]:
        """Images in a step, and memory for it, for each sub-network, from when it has come in.

        Raises
        ------
        ConfigError
            If the memory does not even hold a step of one image.
        """
        config = self.config
        if isinstance(config.batch_size, int):
            return dict.fromkeys(self.subnetworks, StagePlan(config.batch_size))
        assert config.memory_limit is not None
        try:
            return plan_batches(
                Graph(self.images.shape, self._classifier),
                self.subnetworks,
                self.optimizer,
                self.images.train,
                self.images.validation,
                limit=parse_size(config.memory_limit),
                most=config.max_batch_size,
                together=self.schedule.inserted,
                average=config.average,
            )
        except ValueError as error:
            raise ConfigError(f"--memory-limit {config.memory_limit}: {error}; allow more") from error

    @property
    def largest_batch(self) -> int:
        """Images in a step, at most."""
        size = self.config.batch_size
        return size if isinstance(size, int) else self.config.max_batch_size

    def keep_pace(self) -> None:
        """Set batch size, memory and learning rate to those of the stage and epoch, less what rollbacks took."""
        size = self.stages[-1].batch_size
        limit_memory(self.plan[self.stages[-1].name].pool)
        self.images.train.batch_size = size
        factor = self.rate.factor(self.schedule.epoch, self.schedule.phase_epochs)
        self.optimizer.lr = self.config.lr_for(size) * factor / 2**self.rollbacks

    def _optimizer(self) -> Optimizer:
        config = self.config
        assert config.lr is not None
        if config.optimizer == "sgd":
            return SGD(config.lr, momentum=config.momentum, weight_decay=config.weight_decay)
        return RMSProp(config.lr, rho=config.rho, momentum=config.momentum, weight_decay=config.weight_decay)

    def _schedule(self, subnetworks: int) -> Schedule:
        config = self.config
        assert config.epochs is not None
        baseline, periodic = config.method == "baseline", self._rule is None and config.growth == "periodic"
        return Schedule(
            subnetworks=subnetworks,
            budget=config.epochs,
            rule=make_rule(config, subnetworks) if self._rule is None else deepcopy(self._rule),
            lookahead=config.lookahead_epochs if config.looks_ahead else 0,
            least=config.min_stage_epochs,
            most=config.epochs if periodic and config.max_stage_epochs is None else config.max_stage_epochs,
            end="budget" if baseline or periodic or config.lr_schedule != "constant" else config.end,
            inserted=subnetworks if baseline else 1,
        )

    def _make_step(self) -> TrainStep:
        if self.communicator.size == 1:
            # A recorded step has memory of its own, which a limit on all memory would have to allow for.
            return TrainStep(self.graph, self.optimizer, record=self.config.memory_limit is None)
        return ParallelStep(self.graph, self.optimizer, self.communicator, sync_bn=self.config.sync_bn)

    def _classifier(self, shape: Shape) -> Layer:
        # A function of the seed and the shape alone, however often the classifier has been rebuilt before.
        rng = np.random.default_rng([self.config.seed, CLASSIFIER, *shape])
        return make_classifier(shape, self.images.dataset.num_classes, rng=rng)

    @property
    def epochs(self) -> int:
        """Complete epochs."""
        return self.schedule.epoch + (self.accuracy is not None)

    @property
    def ledger(self) -> Ledger:
        """Multiply-adds of all training steps in complete epochs."""
        return sum((stage.ledger for stage in self.stages), Ledger())

    # The course of a run.

    def train(
        self,
        folder: RunFolder,
        display: Display | None = None,
        signals: StopSignals | None = None,
        listeners: Sequence[events.Listener] = (),
    ) -> None:
        """Train until the schedule stops, leaving events and checkpoints in ``folder``; ``listeners`` are told events.

        Raises
        ------
        NonFiniteError
            If a loss, gradient or weight is not finite, and no retry is left.
        Interrupted
            If a signal has come; a checkpoint was taken.
        WriteError
            If a checkpoint or an event cannot be written.
        """
        self.folder, self.display, self.signals = folder, display, signals or StopSignals(self.communicator)
        self.listeners = [*([display] if display else []), *listeners]
        self.checkpoints = folder.checkpoints(self.config.keep_checkpoints)
        if not self.graph.subnetworks:
            self._insert_first()
            self._save()
        self.keep_pace()
        self._saved = time.monotonic()
        try:
            while not self.schedule.finished:
                try:
                    if self.accuracy is None:
                        self.accuracy = self._epoch()
                        self._save()
                except NonFiniteError as error:
                    self._roll_back(error)
                self.signals.check()
                self._observe()
        finally:
            self._forget_features()
            free_memory()
            limit_memory(None)

    def _observe(self) -> None:
        """Let the schedule see the accuracy of the last epoch, and carry out what it decides."""
        if self.accuracy is not None:
            accuracy, self.accuracy = self.accuracy, None
            for decision in self.schedule.observe(accuracy, partial(self._trade_off, accuracy)):
                self._carry_out(decision)

    def _trade_off(self, accuracy: float, stage_over: bool) -> str | None:
        """Return why the run is to end after an epoch of this accuracy, or None."""
        stop = self._stop
        if stop is None:
            return None
        follows = stage_over and len(self.stages) > 1
        progress = Progress(
            accuracy=accuracy,
            epochs=self.schedule.epoch,
            seconds=self.folder.seconds,
            macs=self.ledger.total,
            parameters=self.graph.num_parameters(),
            gain=self.stages[-1].gain_over(self.stages[-2]) if follows else None,
        )
        return self.communicator.from_first(lambda: reason_to_stop(stop, progress))  # whose clock counts

    def _insert_first(self) -> None:
        for name in list(self.subnetworks)[: self.schedule.inserted]:
            self.graph.insert(name, self.subnetworks[name])
            self._emit_insertion(name, "random")
        self._begin_stage()
        self.communicator.broadcast(self.graph.state())

    def _carry_out(self, decision: Decision) -> None:
        match decision:
            case Window(grow, reason, slope, angle, ratio):
                self._emit(events.WindowFit(self.schedule.epoch, slope, angle, ratio, grow, reason))
            case Verdict(grow, reason):
                self._emit(events.Verdict(self.schedule.epoch, grow, reason))
            case Unfreeze():
                self._end_lookahead()
            case Grow(reason):
                if self.communicator.first:
                    save_stage(self)
                self._hand_on_average()
                name = list(self.subnetworks)[self.schedule.inserted - 1]
                insert(
                    self.graph,
                    name,
                    self.subnetworks[name],
                    self.optimizer,
                    lookahead=self.schedule.phase == "lookahead",
                    preserve_on=self.images.sample(self.schedule.epoch) if self.config.preserves_output else None,
                )
                self._emit_insertion(name, self.config.init, reason)
                self._begin_stage()
                self.communicator.broadcast(self.graph.state())
            case Stop(reason):
                self._end_lookahead()
                self._emit(events.Stop(self.schedule.epoch, reason))

    def _epoch(self) -> float:
        """Train for an epoch, or what is left of it, and validate. Returns the validation accuracy."""
        schedule, graph, stage = self.schedule, self.graph, self.stages[-1]
        if self.display:
            self.display.stage(schedule.inserted, schedule.phase, len(self.images.train))
        self.keep_pace()
        features = self.features = self.features or self._lookahead_features()
        self.step.from_features = features is not None
        with closing(
            (features.train if features else self.images.train.epoch)(schedule.epoch, self.running.batches)
        ) as batches:
            train = train_epoch(
                self.step,
                batches,
                running=self.running,
                watch=self.display.batch if self.display else None,
                after_step=self._after_step,
            )
        self.seconds_training += self.running.seconds
        self.communicator.check_equal(graph.state(), "weights")
        read = features is not None and not features.computes(schedule.epoch)
        stage.ledger += Ledger.of(graph, train.images, from_features=read)
        with self._averaged():
            stage.ledger += self._recalibrate()
            validation = self._validate()
            if self.best is None or validation.accuracy > self.best.accuracy:
                self._keep_best(validation)
        ledger = self.ledger
        self._emit(
            events.Epoch(
                epoch=schedule.epoch + 1,
                phase=schedule.phase,
                subnetworks=schedule.inserted,
                train_loss=train.loss,
                train_accuracy=train.accuracy,
                val_loss=validation.loss,
                val_accuracy=validation.accuracy,
                images_per_second=train.images / self.running.seconds,
                seconds_training=round(self.seconds_training, 3),
                macs_inference=stage.macs_inference,
                macs_training=ledger.total,
                macs_forward=ledger.forward,
                macs_weight_grad=ledger.weight_grad,
                macs_input_grad=ledger.input_grad,
                macs_skipped=ledger.skipped,
                macs_cached=ledger.cached,
                macs_recalibration=ledger.recalibration,
                bytes_communicated=self.bytes_communicated,
                params=stage.params,
                lr=self.optimizer.lr,
            )
        )
        stage.epochs += 1
        self.running = Running()
        return validation.accuracy

    def _keep_best(self, validation: Metrics) -> None:
        """Copy the network as it was validated."""
        self.best, self.stages[-1].val_accuracy = validation, validation.accuracy
        self.best_weights = {}  # first, since otherwise there would be three sets of weights for a moment
        self.best_weights = {name: asnumpy(array).copy() for name, array in self.graph.state().items()}

    def _recalibrate(self) -> Ledger:
        """Take batch norm's statistics anew, over training images of the epoch in progress; return what it cost."""
        count, epoch = self.config.recalibrate, self.schedule.epoch
        if not count:
            return Ledger()
        serve = self.features.train if self.features else self.images.train.epoch
        with closing(serve(epoch)) as batches:
            images = recalibrate(
                self.graph,
                islice(batches, count),
                from_features=self.features is not None,
                communicator=self.communicator,
            )
        read = self.features is not None and self.features.keeps(epoch)
        return Ledger.of_recalibration(self.graph, images, from_features=read)

    def _averaged(self) -> AbstractContextManager[None]:
        """Let the weights be their average in a ``with`` block, if there is one."""
        return self.average.applied(self.graph) if self.average else nullcontext()

    def _hand_on_average(self) -> None:
        if self.average:
            self.average.hand_on(self.graph)

    def _validate(self) -> Metrics:
        if self.features:
            batches, from_features = self.features.validation(), True
        else:
            batches, from_features = self.images.validation.epoch(0), False
        return evaluate(self.graph, batches, from_features=from_features, communicator=self.communicator)

    # Look-ahead on features that are computed once.

    def _lookahead_features(self) -> LookaheadFeatures | None:
        config, schedule = self.config, self.schedule
        cache = config.cache()
        if cache is None or schedule.phase != "lookahead":
            return None
        return LookaheadFeatures(
            self.graph,
            self.images.train,
            self.images.validation,
            cache,
            dtype=config.cache_dtype,
            first=schedule.epoch - schedule.stage_epochs,
            epochs=schedule.lookahead,
            room=Room(parse_size(config.cache_memory), self.folder.path, f"rank{self.communicator.rank}-array"),
            check=self.signals.check,
            communicator=self.communicator,
        )

    def _forget_features(self) -> None:
        if self.features:
            self.features.close()
            self.features = None

    def _end_lookahead(self) -> None:
        self._forget_features()
        self._hand_on_average()
        self.graph.unfreeze()
        free_memory()  # steps come that need arrays of other sizes

    def _begin_stage(self) -> None:
        name = list(self.graph.subnetworks)[-1]
        macs = self.graph.macs(self.graph.input_shape)
        self.stages.append(Stage(name, self.graph.num_parameters(), macs, self.plan[name].batch_size))
        self.keep_pace()
        free_memory()
        self.best, self.best_weights = None, {}

    def _emit_insertion(self, name: str, init: str, reason: str = "") -> None:
        macs = self.graph.macs(self.graph.input_shape)
        size = self.plan[name].batch_size
        lr = self.config.lr_for(size) / 2**self.rollbacks
        params = self.graph.num_parameters()
        self._emit(events.Insert(self.schedule.epoch, name, init, params, macs, size, lr, reason))

    def _emit(self, event: events.Event) -> None:
        self.folder.log(event)
        for listener in self.listeners:
            listener.event(event)

    # Checkpoints.

    def _after_step(self) -> None:
        self.bytes_communicated += self.step.bytes
        if self.average:
            self.average.observe(self.graph)
        minutes = self.config.checkpoint_minutes
        if self.signals.received or (minutes and time.monotonic() - self._saved > 60 * minutes):
            self._save()
        self.signals.check()

    def _save(self) -> None:
        """Take a checkpoint, unless something in it is not finite.

        Within an epoch that is passed over, so that it comes to light at the same batch in every run, whenever
        checkpoints are taken; at the end of an epoch NonFiniteError is raised.
        """
        checkpoint = snapshot(self)
        if found := first_nonfinite(checkpoint.arrays):
            if self.running.batches:
                return
            raise NonFiniteError(f"at the end of the epoch {found} is not finite")
        self.checkpoints.save(checkpoint, self.epochs, self.running.batches)
        self._saved = time.monotonic()

    def resume(self, folder: RunFolder, *, between_epochs: bool = False) -> tuple[Path | None, list[str]]:
        """Go back to the newest checkpoint in ``folder``, or to the beginning if there is none.

        Parameters
        ----------
        between_epochs : bool
            To the newest one at the end of an epoch.

        Returns
        -------
        path, damaged
            Of the checkpoint; what was wrong with newer ones.

        Raises
        ------
        CheckpointError
            If all are damaged, or the one that is not belongs to another run.
        """
        assert folder.metrics is not None
        checkpoints = folder.checkpoints(self.config.keep_checkpoints)
        newest = self.communicator.from_first(lambda: checkpoints.newest(between_epochs=between_epochs))
        if newest is None:
            self.begin()
            folder.metrics.cut(0)
            return None, []
        path, checkpoint, damaged = newest
        try:
            restore(self, checkpoint, folder)
        except ValueError as error:
            raise CheckpointError(f"checkpoint {path} does not fit this run: {error}") from error
        return path, damaged

    # Retries.

    def _roll_back(self, error: NonFiniteError) -> None:
        """Go back to the end of an epoch, with half the learning rate; raise ``error`` if that is not to be done.

        Not to a checkpoint from within an epoch: those depend on the clock, and the course of a run must not.
        """
        self._forget_features()
        failed, rollbacks = self.schedule.epoch + 1, self.rollbacks + 1
        if self.config.on_nonfinite != "rollback" or rollbacks > MAX_ROLLBACKS:
            raise error
        seconds = self.folder.seconds
        self.resume(self.folder, between_epochs=True)
        self.folder.seconds = seconds  # what was lost has taken its time
        self.slow_down(rollbacks)
        self._emit(events.Rollback(self.epochs, failed, rollbacks, self.optimizer.lr, str(error)))
        self._save()

    def slow_down(self, rollbacks: int) -> None:
        """Halve the configured learning rate so many times.

        Raises
        ------
        ValueError
            If that is too often.
        """
        if not 0 <= rollbacks <= MAX_ROLLBACKS:
            raise ValueError(f"{rollbacks} retries of at most {MAX_ROLLBACKS}")
        self.rollbacks = rollbacks
        self.keep_pace()

    # The end.

    def export(self) -> None:
        """Write ``last.safetensors`` and, once the stage has had an epoch, ``best.safetensors`` and its model."""
        with self._averaged():
            save_weights(self.folder.path / "last.safetensors", self.graph)
        save_stage(self)
        if self.best_weights:
            save_weights(self.folder.path / "best.safetensors", self.best_weights)
        else:
            best = self.folder.path / "best.safetensors"  # of an earlier stage, from when the run was last stopped
            with writing(best):
                best.unlink(missing_ok=True)

    def network_of(self, subnetworks: int) -> Graph:
        """Return the network of the first sub-networks, which are this run's own, with a classifier of its own."""
        graph = Graph(self.images.shape, self._classifier)
        for name in list(self.subnetworks)[:subnetworks]:
            graph.insert(name, self.subnetworks[name])
        return graph

    def test(self) -> Evaluation | None:
        """Test each stage's best weights, see :mod:`incnet.growth.testing`; None if there are no test images.

        To be called when training is over. The graph then holds the last stage's.
        """
        return self.communicator.from_first(lambda: evaluate_stages(self) if len(self.images.dataset.test) else None)

    def summary(self, test: Evaluation | None) -> dict[str, Any]:
        """Content of ``summary.json``; ``test`` is None for a run that was interrupted."""
        tested = {stage.name: stage.accuracy for stage in test.stages} if test else {}
        return {
            "test_accuracy": test.accuracy if test else None,
            "test_images": test.images if test else None,
            "val_accuracy": self.best.accuracy if self.best else None,
            "epochs": self.epochs,
            "seconds": round(self.folder.seconds, 3),
            "seconds_training": round(self.seconds_training, 3),
            "macs_training": self.ledger.total,
            "params": self.graph.num_parameters(),
            "stages": [asdict(stage) | {"test_accuracy": tested.get(stage.name)} for stage in self.stages],
        }
