"""Whole networks for tests: grown to the top, with weights that hide nothing."""

import numpy as np

from incnet.backend import asarray, ops
from incnet.fusion import fuse
from incnet.graph import Graph
from incnet.models import build, make_classifier

IMAGE = (32, 32, 3)


def batch(n, seed=0):
    """Return n images of shape ``IMAGE``, normally distributed, and labels out of ten."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, *IMAGE), np.float32), rng.integers(10, size=n)


def step(graph, x, labels, optimizer=None):
    """Go forward and backward, and with an optimizer take the step."""
    _, dlogits = ops.softmax_cross_entropy(graph.forward(x, train=True), labels)
    graph.backward(dlogits)
    if optimizer:
        optimizer.step(graph.trainable_parameters())


def grow(
    arch, input_shape, num_classes=10, *, seed=0, split="filters", dtype=np.float32, frozen_bn="eval", fused=False
):
    """Return a graph of ``arch`` with every sub-network in."""
    rng = np.random.default_rng(seed)
    graph = Graph(
        input_shape, lambda shape: make_classifier(shape, num_classes, rng=rng, dtype=dtype), frozen_bn=frozen_bn
    )
    for name, subnetwork in build(arch, input_shape, rng=rng, split=split, dtype=dtype).items():
        graph.insert(name, fuse(subnetwork) if fused else subnetwork)
    return graph


def randomise(layer, rng):
    """Draw every parameter and statistic that a new layer sets to zero or one: there, errors hide. Return the layer.

    Scales and variances keep away from zero, and scales have either sign; the weights stay as they were drawn.
    """
    for name, array in layer.state().items():
        match name.rpartition(".")[2]:
            case "gamma":
                array[...] = asarray(rng.uniform(0.5, 1.5, array.shape) * rng.choice([-1, 1], array.shape))
            case "running_var":
                array[...] = asarray(rng.uniform(0.5, 2, array.shape))
            case "beta" | "bias" | "running_mean":
                array[...] = asarray(0.3 * rng.standard_normal(array.shape))
    return layer


def snapshot(layer):
    """Copies of a layer's parameters and buffers, by name."""
    return {name: array.copy() for name, array in layer.state().items()}


def assert_same_state(layer, before):
    """Assert that every parameter and buffer has the very bits of a :func:`snapshot`."""
    for name, array in layer.state().items():
        assert array.dtype == before[name].dtype, name
        assert array.tobytes() == before[name].tobytes(), f"{name} has changed"


def set_dropout(layer, rate):
    """Set the rate of every dropout layer."""
    for each in layer.layers():
        if type(each).__name__ == "Dropout":
            each.rate = rate
