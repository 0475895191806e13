"""Twenty float64 steps of ranks that share every batch, and of one process that computes what they should come to.

Prints, as JSON, the largest differences. Rank 0 is that one process too.
"""

import json
import sys

import numpy as np

from incnet.backend import ops, use
from incnet.data.shard import Shard
from incnet.fusion import fuse
from incnet.graph import Graph
from incnet.layers import BatchNorm2d, Conv2d, Dropout, Flatten, Linear, ReLU, Sequential, residual_block
from incnet.models import build, make_classifier
from incnet.optim import RMSProp
from incnet.parallel.launch import connect
from incnet.parallel.mpi import HostSum
from incnet.parallel.step import ParallelStep
from incnet.parallel.sync_bn import SyncReduction
from incnet.threads import use_threads
from incnet.training.recalibration import recalibrate
from incnet.training.replay import Replay
from incnet.training.step import Step
from tests.small_networks import randomise

SHAPE, CLASSES, STEPS = (8, 8, 3), 5, 20
SIZES = (8, 8, 8, 8, 5)  # of the batches in an epoch: the last one is shorter, and uneven


def residual(fused):
    rng = np.random.default_rng(0)
    subnetworks = build("resnet8", SHAPE, rng=rng, dtype=np.float64)
    return {name: fuse(each) if fused else each for name, each in subnetworks.items()}


def narrow(fused):
    """Residual blocks of few channels, for where arithmetic is slow."""
    rng = np.random.default_rng(0)
    stem = {
        "conv": Conv2d(3, 4, 3, padding=1, bias=False, rng=rng, dtype=np.float64),
        "norm": BatchNorm2d(4, dtype=np.float64),
        "relu": ReLU(),
    }
    subnetworks = {
        "S1": Sequential(stem),
        "S2": residual_block(4, 4, rng=rng, dtype=np.float64),
        "S3": residual_block(4, 8, stride=2, rng=rng, dtype=np.float64),
    }
    return {name: fuse(each) if fused else each for name, each in subnetworks.items()}


def with_dropout(fused):
    """Biases, batch norm before no ReLU, dense layers and dropout."""
    rng = np.random.default_rng(0)
    convolution = {
        "conv": Conv2d(3, 6, 3, padding=1, rng=rng, dtype=np.float64),
        "norm": BatchNorm2d(6, dtype=np.float64),
        "conv2": Conv2d(6, 4, 3, padding=1, rng=rng, dtype=np.float64),
        "relu": ReLU(),
    }
    dense = {
        "flatten": Flatten(),
        "linear": Linear(256, 12, rng=rng, dtype=np.float64),
        "relu": ReLU(),
        "dropout": Dropout(0.5, rng=rng),
    }
    subnetworks = {"S1": Sequential(convolution), "S2": Sequential(dense)}
    return {name: fuse(each) if fused else each for name, each in subnetworks.items()}


NETWORKS = {"residual": residual, "narrow": narrow, "dropout": with_dropout}


def grow(network, fused, frozen, frozen_bn):
    def classifier(shape):
        return make_classifier(shape, CLASSES, rng=np.random.default_rng(1), dtype=np.float64)

    graph = Graph(SHAPE, classifier, frozen_bn=frozen_bn)
    for name, subnetwork in NETWORKS[network](fused).items():
        graph.insert(name, subnetwork)
    graph.freeze_prefix(frozen)
    return randomise(graph, np.random.default_rng(2))


def batches(count=STEPS):
    rng = np.random.default_rng(3)
    for number in range(count):
        size = SIZES[number % len(SIZES)]
        yield rng.standard_normal((size, *SHAPE)), rng.integers(0, CLASSES, size)


def part_of(batch, communicator):
    """This rank's part of a batch."""
    part = Shard(communicator.rank, communicator.size).of(len(batch[0]))
    return tuple(array[part] for array in batch)


class SeparateParts:
    """A step as ranks with statistics of their own should take it, computed part by part in one process.

    The graph goes through all parts in turn from one state; gradients and running statistics are averaged by hand.
    """

    def __init__(self, graph, optimizer, ranks):
        self.graph, self.optimizer, self.ranks = graph, optimizer, ranks

    def gradients(self, images, labels):
        before = {name: array.copy() for name, array in self.graph.named_buffers()}
        parameters = dict(self.graph.trainable_parameters())
        totals, gradients, buffers = 0, dict.fromkeys(parameters, 0), dict.fromkeys(before, 0)
        for rank in range(self.ranks):
            part = Shard(rank, self.ranks).of(len(images))
            self.graph.load_state({**self.graph.state(), **before})
            for layer in self.graph.layers():
                if isinstance(layer, Dropout):
                    layer.first_row = part.start
            some, dlogits = ops.softmax_cross_entropy(self.graph.forward(images[part], train=True), labels[part])
            self.graph.backward(dlogits)
            share = (part.stop - part.start) / len(images)
            totals = totals + some
            for name, parameter in parameters.items():
                gradients[name] = gradients[name] + share * parameter.grad
            for name, array in self.graph.named_buffers():
                buffers[name] = array.copy() if array.dtype.kind == "u" else buffers[name] + share * array
        for name, parameter in parameters.items():
            parameter.grad = gradients[name]
        self.graph.load_state({**self.graph.state(), **buffers})
        return totals

    def update(self):
        self.optimizer.step(self.graph.trainable_parameters())


def main():
    network, fused, statistics, frozen, frozen_bn = sys.argv[1:]
    use_threads(1)
    use("cpu", convolution="im2col" if fused == "im2col" else "auto")
    communicator = connect()

    def make():
        return grow(network, fused == "fused", int(frozen), frozen_bn), RMSProp(1e-3)

    given = 0
    start = HostSum.start

    def counted(pending):
        nonlocal given
        given += pending.array.nbytes
        start(pending)

    HostSum.start = counted
    step = Replay(ParallelStep(*make(), communicator, sync_bn=statistics == "global"))
    expected = Step(*make()) if statistics == "global" else SeparateParts(*make(), communicator.size)
    losses, claimed = 0.0, 0
    for images, labels in batches():
        totals = step.gradients(*part_of((images, labels), communicator))
        step.update()
        claimed += step.bytes
        wanted = expected.gradients(images, labels)
        expected.update()
        losses = max(losses, np.abs(totals - wanted).max())
    communicator.check_equal(step.graph.state(), "weights")
    in_steps = given
    parts = [part_of(batch, communicator) for batch in batches(3)]
    recalibrate(step.graph, parts, reduction=SyncReduction(communicator))
    recalibrate(expected.graph, batches(3))
    communicator.check_equal(step.graph.state(), "statistics")
    if communicator.first:
        ours, theirs = step.graph.state(), expected.graph.state()
        weights = max(np.abs(ours[name] - array).max() for name, array in theirs.items() if array.dtype == np.float64)
        moved = max(np.abs(array - make()[0].state()[name]).max() for name, array in ours.items() if "seed" not in name)
        found = {"losses": losses, "weights": weights, "moved": moved, "given": in_steps, "claimed": claimed}
        print(json.dumps({**found, "recorded": step._last is not None}))


if __name__ == "__main__":
    main()
