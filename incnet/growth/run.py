"""A whole run: data, network and optimizer, put through the course that the schedule decides."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from incnet.config import Config, ConfigError
from incnet.data.augment import Augmentation
from incnet.data.catalogue import load_dataset
from incnet.data.dataset import Dataset, Normalisation, split_validation
from incnet.data.loader import Loader
from incnet.fusion import fuse
from incnet.graph import Graph
from incnet.growth.criterion import Window
from incnet.growth.initialise import insert
from incnet.growth.schedule import Decision, Grow, Schedule, Stop, Unfreeze
from incnet.layer import Layer, Shape
from incnet.models import build, make_classifier
from incnet.optim import RMSProp
from incnet.training import events
from incnet.training.checkpoint import load_weights, save_weights
from incnet.training.folder import RunFolder
from incnet.training.loop import Metrics, evaluate, train_epoch
from incnet.training.progress import Display

__all__ = ["Run", "Stage"]

EVALUATION_BATCH = 500
# Streams of random numbers that one seed gives: each use draws from its own, so that one never shifts another.
WEIGHTS, CLASSIFIER = 1, 2


@dataclass
class Stage:
    """The network up to one sub-network: its size, and the best that it reached."""

    name: str
    params: int
    macs_inference: int
    val_accuracy: float = 0.0
    epochs: int = 0


class Run:
    """Train one network as a :class:`Config` says.

    Parameters
    ----------
    config : Config
        Resolved.
    dataset : Dataset, optional
        Loaded from disk unless given.

    Attributes
    ----------
    graph, optimizer, schedule
        The network in use, what trains it, and what decides about it.
    stages : list of Stage
        One for each sub-network that has come in; a baseline has one.
    """

    def __init__(self, config: Config, dataset: Dataset | None = None) -> None:
        assert config.epochs is not None and config.batch_size is not None and config.lr is not None
        self.config = config
        self.dataset = dataset or load_dataset(config.dataset, config.data_dir)
        self._prepare_data(config.batch_size)
        shape = self.dataset.image_shape
        try:
            rng = np.random.default_rng([config.seed, WEIGHTS])
            subnetworks = build(config.arch, shape, rng=rng, split=config.partition)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        self.subnetworks = {name: fuse(subnetwork) for name, subnetwork in subnetworks.items()}
        self.graph = Graph(shape, self._classifier, frozen_bn=config.frozen_bn)
        self.optimizer = RMSProp(config.lr, rho=config.rho, momentum=config.momentum, weight_decay=config.weight_decay)
        self.schedule = Schedule(
            subnetworks=len(self.subnetworks),
            budget=config.epochs,
            rule=config.rule(),
            lookahead=config.lookahead_epochs if config.init == "lookahead" else 0,
            most=config.max_stage_epochs,
            end="budget" if config.method == "baseline" else config.end,
            inserted=len(self.subnetworks) if config.method == "baseline" else 1,
        )
        self.stages: list[Stage] = []
        self.macs_training = 0
        self.best: Metrics | None = None

    def _prepare_data(self, batch_size: int) -> None:
        config = self.config
        train = self.dataset.train
        if config.limit is not None and config.limit < len(train):
            train = train.take(np.arange(config.limit))
        train, validation = split_validation(train, config.validation, config.seed)
        normalisation = Normalisation.fit(train)
        augmentation = Augmentation.default_for(config.dataset) if config.augment else None
        self.train_batches = Loader(
            train, normalisation, batch_size, seed=config.seed, augmentation=augmentation, shuffle=True
        )
        self.validation_batches = Loader(validation, normalisation, EVALUATION_BATCH, seed=config.seed)
        self.test_batches = Loader(self.dataset.test, normalisation, EVALUATION_BATCH, seed=config.seed)

    def _classifier(self, shape: Shape) -> Layer:
        # A function of the seed and the shape alone, however often the classifier has been rebuilt before.
        rng = np.random.default_rng([self.config.seed, CLASSIFIER, *shape])
        return make_classifier(shape, self.dataset.num_classes, rng=rng)

    # The course of a run.

    def train(self, folder: RunFolder, display: Display | None = None) -> None:
        """Train until the schedule stops, leaving events, weights and what they reached in ``folder``."""
        self.folder, self.display = folder, display
        self._insert_first()
        while not self.schedule.finished:
            accuracy = self._epoch()
            for decision in self.schedule.observe(accuracy):
                self._carry_out(decision)

    def _insert_first(self) -> None:
        for name in list(self.subnetworks)[: self.schedule.inserted]:
            self.graph.insert(name, self.subnetworks[name])
            self._emit_insertion(name, "random")
        self._begin_stage()

    def _carry_out(self, decision: Decision) -> None:
        match decision:
            case Window(slope, angle, ratio, grow, reason):
                self._emit(events.WindowFit(self.schedule.epoch, slope, angle, ratio, grow, reason))
            case Unfreeze():
                self.graph.unfreeze()
            case Grow():
                name = list(self.subnetworks)[self.schedule.inserted - 1]
                insert(
                    self.graph,
                    name,
                    self.subnetworks[name],
                    self.optimizer,
                    lookahead=self.schedule.phase == "lookahead",
                )
                self._emit_insertion(name, self.config.init)
                self._begin_stage()
            case Stop(reason):
                self.graph.unfreeze()
                self._emit(events.Stop(self.schedule.epoch, reason))

    def _epoch(self) -> float:
        """Train for one epoch and validate. Returns the validation accuracy."""
        schedule, graph, stage = self.schedule, self.graph, self.stages[-1]
        if self.display:
            self.display.stage(schedule.inserted, schedule.phase)
        start = time.perf_counter()
        watch = self.display.batch if self.display else None
        train = train_epoch(graph, self.optimizer, self.train_batches.epoch(schedule.epoch), watch)
        seconds = time.perf_counter() - start
        validation = evaluate(graph, self.validation_batches.epoch(0))
        self.macs_training += train.images * graph.cost(graph.input_shape).total
        self._emit(
            events.Epoch(
                epoch=schedule.epoch + 1,
                phase=schedule.phase,
                subnetworks=schedule.inserted,
                train_loss=train.loss,
                train_accuracy=train.accuracy,
                val_loss=validation.loss,
                val_accuracy=validation.accuracy,
                images_per_second=train.images / seconds,
                macs_inference=stage.macs_inference,
                macs_training=self.macs_training,
                params=stage.params,
            )
        )
        stage.epochs += 1
        save_weights(self.folder.path / "last.safetensors", graph)
        if self.best is None or validation.accuracy > self.best.accuracy:
            self.best, stage.val_accuracy = validation, validation.accuracy
            save_weights(self.folder.path / "best.safetensors", graph)
        return validation.accuracy

    def _begin_stage(self) -> None:
        name = list(self.graph.subnetworks)[-1]
        macs = self.graph.macs(self.graph.input_shape)
        self.stages.append(Stage(name, self.graph.num_parameters(), macs))
        self.best = None

    def _emit_insertion(self, name: str, init: str) -> None:
        macs = self.graph.macs(self.graph.input_shape)
        self._emit(events.Insert(self.schedule.epoch, name, init, self.graph.num_parameters(), macs))

    def _emit(self, event: events.Event) -> None:
        self.folder.log(event)
        if self.display:
            self.display.event(event)

    # The end.

    def test(self) -> Metrics:
        """Accuracy on the test set of the last stage's best weights, which the graph then holds. To be called once."""
        load_weights(self.folder.path / "best.safetensors", self.graph)
        return evaluate(self.graph, self.test_batches.epoch(0))

    def summary(self, test: Metrics | None) -> dict[str, Any]:
        """Content of ``summary.json``; ``test`` is None for a run that was interrupted."""
        return {
            "test_accuracy": test.accuracy if test else None,
            "val_accuracy": self.best.accuracy if self.best else None,
            "epochs": self.schedule.epoch,
            "seconds": round(self.folder.seconds, 3),
            "macs_training": self.macs_training,
            "params": self.graph.num_parameters(),
            "stages": [vars(stage) for stage in self.stages],
        }
