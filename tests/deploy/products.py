"""Models for tests: of any stage of any architecture, untrained, with weights that hide nothing."""

from dataclasses import replace

import numpy as np

from incnet.backend import asnumpy
from incnet.deploy import Description
from incnet.networks.description import Architecture
from tests.small_networks import grow, randomise

CLASSES = {"digits": list("0123456789"), "odd": ["T-shirt/top", "ankle boot", "Käse"]}


def stages(arch, shape, *, split="filters", classes="digits", seed=0, up_to=None, resize=None):
    """Yield (description, weights) of each stage, or of those ``up_to`` one; no seeds of dropout are among them."""
    rng = np.random.default_rng(seed)
    inside = shape if resize is None else (resize, resize, shape[2])
    whole = randomise(grow(arch, inside, seed=seed, split=split), rng)
    subnetworks = list(whole.subnetworks.items())[:up_to]
    for count in range(1, len(subnetworks) + 1):
        yield stage(arch, shape, resize, split, CLASSES[classes], dict(subnetworks[:count]), rng)


def stage(arch, shape, resize, split, classes, subnetworks, rng):
    state = {f"{name}.{key}": asnumpy(a) for name, layer in subnetworks.items() for key, a in layer.state().items()}
    weights = {name: array for name, array in state.items() if array.dtype == np.float32}
    described = Description(
        arch=arch,
        partition=str(split),
        subnetworks=len(subnetworks),
        input_shape=list(shape),
        resize=resize,
        classes=classes,
        mean=[float(np.float32(value)) for value in rng.uniform(90, 140, shape[2])],
        std=[float(np.float32(value)) for value in rng.uniform(40, 80, shape[2])],
        dataset="digits",
        val_accuracy=0.75,
        params=0,
        macs_inference=0,
        incnet="0.1.0",
    )
    graph = described.graph()
    classifier = graph.classifier.state()
    weights |= {f"classifier.{key}": rng.normal(0, 0.2, a.shape).astype(np.float32) for key, a in classifier.items()}
    sizes = {"params": graph.num_parameters(), "macs_inference": graph.macs(graph.input_shape)}
    return replace(described, **sizes, network=Architecture.of(graph.subnetworks, graph.classifier)), weights


def pictures(shape, count, seed=0):
    """Random pixels (N, H, W, C)."""
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)
