"""What runs would take, before they are made.

The multiply-adds follow from the run's own schedule if the learning curve rises steadily all the way: then the
slope-angle rule never fires, and every stage has its share of the epochs. Seconds come from finished runs of the same
network and arm; where there is none, from measured steps of the whole network, in proportion to the multiply-adds.
"""

from __future__ import annotations

import statistics
import time
from functools import cached_property
from itertools import islice

from incnet import backend
from incnet.config import Config
from incnet.cost import Ledger
from incnet.data.dataset import Dataset
from incnet.growth.insertion import insert
from incnet.growth.schedule import Grow, Unfreeze
from incnet.networks.own import MakeNetwork
from incnet.run.run import Run
from incnet.training.recalibration import recalibrated_layers

__all__ = ["Estimator"]

WARM_UP, MEASURED = 2, 5  # steps


class Estimator:
    """Estimate what a run would take, in training steps.

    Parameters
    ----------
    config : Config
        Of the run.
    dataset : Dataset
        That it is about.
    network : MakeNetwork, optional
        As for :class:`incnet.run.run.Run`.
    """

    def __init__(self, config: Config, dataset: Dataset, network: MakeNetwork | None = None) -> None:
        self.run = Run(config, dataset, network=network)

    @cached_property
    def ledger(self) -> Ledger:
        """Multiply-adds, if the learning curve rises steadily."""
        run, images, ledger = self.run, len(self.run.images.train.split), Ledger()
        schedule, names = run.state.schedule, list(run.state.subnetworks)
        for name in names[: schedule.inserted]:
            run.state.graph.insert(name, run.state.subnetworks[name])
        if trained := schedule.frozen(schedule.inserted):
            run.state.graph.freeze_prefix(trained)
        cache = run.config.cache()
        while not schedule.finished:
            if schedule.phase == "train":
                run.state.graph.freeze_prefix(run.state.frozen_for_good)
            frozen = run.state.frozen_epochs
            since = schedule.epoch - frozen.start
            read = cache and frozen and not cache.computes(since)
            run.images.begin_epoch(schedule.epoch)
            shape = run.images.train.image_shape
            ledger += Ledger.of(run.state.graph, images, shape=shape, from_features=bool(read))
            if recalibrated_layers(run.state.graph):
                seen = min(images, run.config.recalibrate * run.plan[names[schedule.inserted - 1]].batch_size)
                kept = cache and frozen and cache.keeps(since, len(frozen))
                ledger += Ledger.of_recalibration(run.state.graph, seen, from_features=bool(kept))
            for decision in schedule.observe(schedule.epoch / schedule.budget):
                match decision:
                    case Grow():
                        name, ahead = names[schedule.inserted - 1], schedule.phase == "lookahead"
                        insert(run.state.graph, name, run.state.subnetworks[name], run.state.optimizer, lookahead=ahead)
                    case Unfreeze():
                        run.state.graph.unfreeze()
        run.state.graph.unfreeze()
        return ledger

    def seconds_per_mac(self) -> float:
        """Measure a training step of the network, which is whole if the run has epochs enough for that."""
        assert self.ledger
        run, seconds = self.run, []
        cost = run.state.graph.cost(run.state.graph.input_shape).total
        run.images.train.batch_size = run.plan[list(run.state.graph.subnetworks)[-1]].batch_size
        for images, labels in islice(run.images.train.epoch(0), WARM_UP + MEASURED):
            backend.synchronize()
            start = time.perf_counter()
            run.trainer.step.gradients(backend.asarray(images), backend.asarray(labels))
            run.trainer.step.update()
            backend.synchronize()
            seconds.append((time.perf_counter() - start) / (len(images) * cost))
        return statistics.median(seconds[WARM_UP:] or seconds)
