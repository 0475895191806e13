"""Thirty training steps against the reference: a network that grows, its look-ahead, and all of it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from incnet import backend
from incnet.backend import asarray, asnumpy
from incnet.config import Config
from incnet.doctor.findings import Finding
from incnet.growth.insertion import insert
from incnet.optim import RMSProp
from incnet.run.network import NetworkFactory
from incnet.training.replay import Replay
from incnet.training.step import Step

__all__ = ["check_steps"]

STEPS, IMAGES, SHAPE, CLASSES = 10, 16, (8, 8, 1), 10
# Rounding differs, and a step makes more of it: as far apart as losses may be, at the beginning and at the end.
TOLERANCE = np.geomspace(1e-5, 1e-2, 3 * STEPS)


def check_steps() -> Iterator[Finding]:
    """Yield how far the losses of the backend in use are from those of the reference. It is in use again afterwards."""
    device = backend.ops.name
    found = losses()
    backend.use("reference")
    try:
        expected = losses()
    finally:
        backend.use(device)
    yield compared(found, expected)


def losses() -> np.ndarray:
    """Losses of ten steps of the first sub-network, ten of a look-ahead, and ten of both: float64 (30,)."""
    config = Config("digits").resolve()
    factory = NetworkFactory(config, SHAPE, CLASSES)
    graph, optimizer = factory.graph(), RMSProp(1e-4)
    rng = np.random.default_rng(0)
    step, found = Replay(Step(graph, optimizer)), []
    (first, one), (second, other), *_ = factory.subnetworks().items()
    for begin in (
        lambda: insert(graph, first, one, optimizer, lookahead=False),
        lambda: insert(graph, second, other, optimizer, lookahead=True),
        graph.unfreeze,
    ):
        begin()
        for _ in range(STEPS):
            images, labels = rng.standard_normal((IMAGES, *SHAPE), np.float32), rng.integers(0, CLASSES, IMAGES)
            totals = step.gradients(asarray(images), asarray(labels))
            step.update()
            found.append(float(asnumpy(totals)[0]) / IMAGES)
    return np.array(found)


def compared(found: np.ndarray, expected: np.ndarray) -> Finding:
    """Return what the two rows of losses say."""
    off = np.abs(found / expected - 1)
    wrong = ~(off <= TOLERANCE)
    if not wrong.any():
        agree = f"{len(off)} steps with look-ahead; losses differ by at most {off.max():.1e}"
        return Finding("training", agree, "good")
    first = int(np.argmax(wrong))
    value = f"step {first + 1}: loss {found[first]:.6g}, by the definitions {expected[first]:.6g}"
    return Finding("training", value, "wrong", "if the kernels are right, report it with this page")
