"""All that a run will ask of the kernels, from its next step to its test, so that it can be compiled before it begins.

Each piece of work is done once with each size of batch, and of images, on copies of the network and the optimizer that
have the shapes of the real ones and no content. So nothing of the run changes, random numbers included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from copy import copy, deepcopy
from functools import partial

import numpy as np

from incnet.backend import Array, asarray, empty, ops
from incnet.communicator import Communicator
from incnet.config import Config
from incnet.data.loader import Loader
from incnet.graph import Graph
from incnet.layer import Layer, Shape
from incnet.layers import BatchNorm2d, Residual
from incnet.optim import Optimizer
from incnet.run.epoch import make_step
from incnet.run.images import RunImages
from incnet.run.memory_plan import StagePlan, batches
from incnet.run.network import NetworkFactory
from incnet.run.state import RunState
from incnet.training.replay import Replay
from incnet.training.step import Step

__all__ = ["work_ahead"]


def work_ahead(
    config: Config,
    state: RunState,
    networks: NetworkFactory,
    images: RunImages,
    plan: Mapping[str, StagePlan],
) -> Iterator[Callable[[], object]]:
    """Yield what is left of a run's work, stage by stage, to be called in this order.

    Loading a batch, steps, and evaluation; in look-ahead steps on top of what is frozen, from images and features.
    """
    for loader in (*images.growing, images.validation):
        yield partial(_load, loader)
    graph, nobody = networks.graph(), Communicator() if images.ranks > 1 else None  # nobody to send sums to
    for number, (name, subnetwork) in enumerate(state.subnetworks.items(), start=1):
        graph.insert(name, _without_content(subnetwork))
        if number < state.schedule.inserted:
            continue
        if config.preserves_output and number > 1:
            yield partial(_preserve, graph, images.validation.batch_size // images.ranks)
        for boundary in {state.schedule.frozen(number), *_frozen_for_good(state, number)}:
            graph.freeze_prefix(boundary)
            step = make_step(config, graph, _fresh(state.optimizer, graph), nobody)
            for size in _sizes(images.train, plan[name].batch_size):
                for loader in images.growing:
                    yield partial(_learn, step, size, loader.image_shape, from_features=False)
                if boundary and config.cache() is not None:
                    yield partial(_learn, step, size, images.shape, from_features=True)
            if state.average:
                yield partial(_average, graph)
            if config.recalibrate:
                yield partial(graph.recalibrate, _batch(graph, plan[name].batch_size))
        for size in {size for loader in (images.validation, images.test) for size in _sizes(loader, loader.batch_size)}:
            yield partial(_judge, graph, size)


def _frozen_for_good(state: RunState, inserted: int) -> range:
    """Numbers of sub-networks, none among them, that may be while so many are in."""
    return range(1 + min(len(state.freezing.starts), inserted - 1))


def _without_content(subnetwork: Layer) -> Layer:
    """Copy a sub-network, which may be frozen just now, but not what is in its arrays."""
    arrays = subnetwork.state().values()
    return deepcopy(subnetwork, {id(array): empty(array.shape, array.dtype) for array in arrays}).unfreeze()


def _fresh(optimizer: Optimizer, graph: Graph) -> Optimizer:
    """Return an optimizer like another one, with a state that has no content."""
    fresh = copy(optimizer)
    fresh.state = {
        name: {slot: empty(parameter.data.shape, parameter.data.dtype) for slot in optimizer.slots}
        for name, parameter in graph.trainable_parameters()
    }
    return fresh


def _sizes(loader: Loader, batch_size: int) -> set[int]:
    """Images in this rank's parts of an epoch's batches."""
    parts = map(loader.shard.of, batches(loader, batch_size))
    return {part.stop - part.start for part in parts} - {0}


def _load(loader: Loader) -> None:
    loader = copy(loader)
    loader.prefetch = 0  # on this thread
    with closing(loader.epoch(0)) as served:
        next(served, None)


def _learn(step: Step | Replay, size: int, shape: Shape, *, from_features: bool) -> None:
    graph = step.graph
    batch = _batch(graph, size, shape)
    step.from_features = from_features
    step.gradients(graph.features(batch) if from_features else batch, _labels(size))
    step.update()


def _average(graph: Graph) -> None:
    weights = [parameter.data for _, parameter in graph.trainable_parameters()]
    ops.lerp_all([(empty(data.shape, data.dtype), data) for data in weights], 0.5)


def _preserve(graph: Graph, size: int) -> None:
    x = _batch(graph, size)
    for _, part in graph.parts:
        x = _carry(part, x)


def _carry(part: Layer, x: Array) -> Array:
    """Call the kernels that :func:`incnet.growth.identity.carry` calls, whatever x holds, and change nothing."""
    for layer in part.flattened():
        if isinstance(layer, BatchNorm2d):
            ops.batch_norm_stats(x)
        if isinstance(layer, Residual):
            _carry(layer.body, x)
        x = layer.forward(x)
    return x


def _judge(graph: Graph, size: int) -> None:
    ops.softmax_cross_entropy(graph.forward(_batch(graph, size)), _labels(size))


def _batch(graph: Graph, size: int, shape: Shape | None = None) -> Array:
    return empty((size, *(shape or graph.input_shape)), graph.parameters()[0].data.dtype)


def _labels(size: int) -> Array:
    return asarray(np.zeros(size, np.int64))
