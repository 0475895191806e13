"""Time an epoch of look-ahead, validation included, with and without cached features of the frozen prefix.

    python -m bench.cached_epoch --arch resnet56 --data-dir FOLDER --json -

Every variant works on the same images, with the same weights, and takes turns with the others, an epoch at a time. The
epoch that computes the features is not among those that are compared; it is given by itself. The predicted ratio is
that of the multiply-adds, of training and validation.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.networks import whole_network
from bench.output import Output, main
from incnet import backend
from incnet.communicator import ALONE
from incnet.config import Config
from incnet.graph import Graph
from incnet.growth.features import Cache, LookaheadFeatures
from incnet.optim import RMSProp
from incnet.run.images import RunImages
from incnet.storage.spill import SpillStore
from incnet.threads import use_threads
from incnet.training.loop import evaluate, train_epoch
from incnet.training.replay import Replay
from incnet.training.step import Step
from incnet.units import parse_size

__all__ = ["CachedEpoch", "measure"]

VARIANTS = ("off", "fixed", "views:1")
FOREVER = 10**6  # epochs


@dataclass(frozen=True)
class CachedEpoch(Output):
    """Time an epoch of look-ahead, validation included, with and without cached features."""

    arch: str = "resnet20"
    """Architecture, as for incnet.train."""

    partition: str = "filters"
    """Sub-networks, as for incnet.train; the last one looks ahead."""

    batch_size: int | None = None
    """Images in a step. Default: the architecture's."""

    limit: int = 10_000
    """Training images of CIFAR-10, validation images included."""

    rounds: int = 5
    """Epochs that each variant takes, besides the one that computes its features."""

    cache_memory: str = "8GB"
    """Memory for the features of each variant; 0B for files."""

    cache_dtype: str = "float32"
    """Type of the features: float32 or float16."""

    device: str = "cpu"
    """Where to compute: cpu or gpu."""

    threads: int | None = None
    """Threads."""

    data_dir: Path | None = None
    """Folder of CIFAR-10."""


def measure(options: CachedEpoch) -> dict[str, Any]:
    """Result as JSON values: seconds of the parts of an epoch, and their ratios to those without a cache."""
    backend.use(backend.resolve(options.device))
    threads = use_threads(options.threads)
    config = Config(
        "cifar10", options.arch, batch_size=options.batch_size, limit=options.limit, data_dir=options.data_dir
    ).resolve()
    assert isinstance(config.batch_size, int)
    assert config.lr is not None
    images = RunImages(config, None, ALONE)
    images.train.batch_size = config.batch_size
    graph = network(options.arch, options.partition)
    step = Replay(Step(graph, RMSProp(config.lr)))

    with tempfile.TemporaryDirectory() as folder:
        works: dict[str, tuple[Callable, Callable, bool]] = {
            "off": (images.train.epoch, partial(images.validation.epoch, 0), False),
        }
        for variant in VARIANTS[1:]:
            cache = Cache.parse(variant)
            assert cache is not None
            store = SpillStore(parse_size(options.cache_memory), Path(folder))
            features = LookaheadFeatures(
                graph,
                images.train,
                images.validation,
                cache,
                dtype=options.cache_dtype,
                first=0,
                epochs=FOREVER,
                store=store,
            )
            works[variant] = features.train, features.validation, True

        seconds: dict[str, list[tuple[float, float]]] = {variant: [] for variant in works}
        for epoch in range(options.rounds + 1):
            for variant, (batches, validate, step.from_features) in works.items():
                start = time.perf_counter()
                train_epoch(step, batches(epoch))
                middle = time.perf_counter()
                evaluate(graph, validate(), from_features=step.from_features)
                seconds[variant].append((middle - start, time.perf_counter() - middle))

    macs, prefix = graph.cost(graph.input_shape), graph.prefix_macs
    train, validation = len(images.train.split), len(images.validation.split)
    training, forward = train * macs.total, validation * macs.forward
    variants = {variant: summary(found[1:], seconds["off"][1:]) for variant, found in seconds.items()}
    for variant in VARIANTS[1:]:
        variants[variant]["computing_epoch_s"] = round(sum(seconds[variant][0]), 3)
    return {
        **asdict(options),
        "data_dir": None,
        "json": None,
        "batch_size": config.batch_size,
        "threads": threads,
        "images": train,
        "feature_mb": round(train * np.prod(graph.prefix_shape) * np.dtype(options.cache_dtype).itemsize / 1e6),
        "predicted_ratio": round(1 - prefix * (train + validation) / (training + forward), 3),
        "variants": variants,
    }


def network(arch: str, partition: str) -> Graph:
    """Build the whole network; all but its last sub-network are frozen."""
    graph = whole_network(arch, (32, 32, 3), split=partition)
    graph.freeze_prefix(len(graph.subnetworks) - 1)
    return graph


def summary(found: list[tuple[float, float]], uncached: list[tuple[float, float]]) -> dict[str, float]:
    """Medians in seconds; the ratio is the median of the rounds' ratios."""
    training, validation = zip(*found, strict=True)
    ratios = [sum(ours) / sum(theirs) for ours, theirs in zip(found, uncached, strict=True)]
    return {
        "training_s": round(statistics.median(training), 3),
        "validation_s": round(statistics.median(validation), 3),
        "epoch_s": round(statistics.median(map(sum, found)), 3),
        "ratio": round(statistics.median(ratios), 3),
    }


if __name__ == "__main__":
    main("bench.cached_epoch", CachedEpoch, measure)
