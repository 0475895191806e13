"""One epoch of a run: training, recalibration, validation; on images, or on the frozen prefix's features of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from itertools import islice
from pathlib import Path

from incnet.backend import ops
from incnet.communicator import Communicator
from incnet.config import Config
from incnet.cost import Ledger
from incnet.graph import Graph
from incnet.growth.features import LookaheadFeatures
from incnet.optim import Optimizer
from incnet.parallel.step import ParallelStep
from incnet.parallel.sync_bn import SyncReduction
from incnet.run.images import RunImages
from incnet.run.state import RunState
from incnet.storage.spill import SpillStore
from incnet.training.loop import Metrics, Watcher, evaluate, train_epoch
from incnet.training.recalibration import recalibrate
from incnet.training.replay import Replay
from incnet.training.step import Step
from incnet.units import parse_size

__all__ = ["EpochTrainer", "make_step"]


class EpochTrainer:
    """Carry out the epochs of a run.

    Parameters
    ----------
    config : Config
        Resolved.
    state : RunState
        What is trained.
    images : RunImages
        On what.
    communicator : Communicator
        Of the ranks that train it together.

    Attributes
    ----------
    step : Step or Replay
        Takes the training steps.
    features : LookaheadFeatures or None
        What takes the images' place with a cache, in a look-ahead and above what is frozen for good.
    """

    def __init__(self, config: Config, state: RunState, images: RunImages, communicator: Communicator) -> None:
        self.config, self.state, self.images, self.communicator = config, state, images, communicator
        self.step = make_step(config, state.graph, state.optimizer, communicator if communicator.size > 1 else None)
        self.features: LookaheadFeatures | None = None

    def train(self, watch: Watcher | None, after_step: Callable[[], None]) -> Metrics:
        """Take the steps of the epoch in progress that are left; count their time and multiply-adds.

        Returns
        -------
        Metrics
            Of all training images, as the network was at each step.

        Raises
        ------
        NonFiniteError
            If a loss or a gradient is NaN or infinite.
        """
        state, epoch = self.state, self.state.schedule.epoch
        self.step.from_features = self.features is not None
        serve = self.features.train if self.features else self.images.train.epoch
        with closing(serve(epoch, state.running.batches)) as batches:
            metrics = train_epoch(self.step, batches, running=state.running, watch=watch, after_step=after_step)
        state.seconds_training += state.running.seconds
        self.communicator.check_equal(state.graph.state(), "weights")
        read = self.features is not None and not self.features.computes(epoch)
        shape = self.images.train.image_shape
        state.stage.ledger += Ledger.of(state.graph, metrics.images, shape=shape, from_features=read)
        return metrics

    def validate(self) -> Metrics:
        """Recalibrate batch norm's statistics, and evaluate the network as it is on the validation images.

        Both at full size, whatever was trained on.
        """
        graph, communicator = self.state.graph, self.communicator
        self.state.stage.ledger += self.recalibrate()
        if self.features:
            return evaluate(graph, self.features.validation(), from_features=True, communicator=communicator)
        return evaluate(graph, self.images.validation.epoch(0), communicator=communicator)

    def recalibrate(self) -> Ledger:
        """Take the statistics over the first training batches of the epoch in progress; return what it cost.

        As many as the options say, or none.
        """
        if not self.config.recalibrate:
            return Ledger()
        graph, epoch, from_features = self.state.graph, self.state.schedule.epoch, self.features is not None
        serve = self.features.train if self.features else self.images.train.at_size(None).epoch
        with closing(serve(epoch)) as batches:
            first = islice(batches, self.config.recalibrate)
            alone = self.communicator.size == 1
            reduction = None if alone else SyncReduction(self.communicator)
            images = recalibrate(graph, first, from_features=from_features, reduction=reduction)
        read = self.features is not None and self.features.keeps(epoch)
        return Ledger.of_recalibration(graph, images, from_features=read)

    # Training on features that are computed once.

    def open_cache(self, folder: Path, check: Callable[[], None]) -> None:
        """Serve features from now on, if that is asked for and a prefix is frozen.

        Parameters
        ----------
        folder : Path
            Takes what memory does not hold.
        check : callable
            Called now and then while features are computed once more; what it raises ends that.
        """
        config, epochs, cache = self.config, self.state.frozen_epochs, self.config.cache()
        if self.features or cache is None or not epochs:
            return
        self.features = LookaheadFeatures(
            self.state.graph,
            self.images.train,
            self.images.validation,
            cache,
            dtype=config.cache_dtype,
            first=epochs.start,
            epochs=len(epochs),
            store=SpillStore(parse_size(config.cache_memory), folder, f"rank{self.communicator.rank}-array"),
            check=check,
            communicator=self.communicator,
        )

    def close_cache(self) -> None:
        """Serve images again."""
        if self.features:
            self.features.close()
            self.features = None


def make_step(config: Config, graph: Graph, optimizer: Optimizer, communicator: Communicator | None) -> Step | Replay:
    """Return what takes a run's training steps; ``communicator`` is that of several ranks, None for one."""
    if communicator is not None:
        return Replay(ParallelStep(graph, optimizer, communicator, sync_bn=config.sync_bn))
    step = Step(graph, optimizer)
    # On the CPU a recorded step has memory of its own, which a limit on all memory would have to allow for.
    return Replay(step) if config.memory_limit is None or ops.on_device else step
