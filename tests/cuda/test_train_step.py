"""Training steps that record themselves, and batches made on the device, on the double of CuPy."""

import numpy as np
import pytest

from incnet import backend
from incnet.backend import asarray, asnumpy
from incnet.data.augment import Augmentation
from incnet.data.dataset import Normalisation, Split
from incnet.data.loader import Loader
from incnet.data.resident import ResidentLoader
from incnet.graph import Graph
from incnet.models import build, make_classifier
from incnet.optim import RMSProp
from incnet.training.step import TrainStep

SHAPE, CLASSES = (8, 8, 3), 5


def grow_and_train():
    """Losses and final weights of batches of two sizes, before an insertion, in look-ahead and after it."""
    rng = np.random.default_rng(0)
    subnetworks = build("resnet8", SHAPE, rng=rng, dtype=np.float64)
    graph = Graph(SHAPE, lambda s: make_classifier(s, CLASSES, rng=np.random.default_rng(1), dtype=np.float64))
    step, losses = TrainStep(graph, RMSProp(1e-3)), []

    def learn():
        for size in (4, 4, 3, 4, 4, 3):
            images, labels = rng.standard_normal((size, *SHAPE)), rng.integers(0, CLASSES, size)
            losses.append(asnumpy(step.gradients(asarray(images), asarray(labels)))[0])
            step.update()

    graph.insert("S1", subnetworks["S1"])
    learn()
    graph.insert("S2", subnetworks["S2"])
    step.optimizer.forget("classifier.")
    graph.freeze_prefix(1)
    learn()
    graph.unfreeze()
    step.optimizer.lr = 5e-4
    learn()
    return np.array(losses), {name: asnumpy(array) for name, array in graph.state().items()}


def test_recorded_steps_follow_growth_and_batch_size(device):
    losses, state = grow_and_train()
    backend.use("reference")
    expected_losses, expected_state = grow_and_train()
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-8)
    for name, array in expected_state.items():
        np.testing.assert_allclose(state[name], array, rtol=1e-6, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("start", [0, 2])
def test_batches_made_on_the_device_are_those_of_the_host(device, start):
    rng = np.random.default_rng(0)
    split = Split(rng.integers(0, 256, (11, 6, 5, 3), dtype=np.uint8), rng.integers(0, 4, 11))
    options = {"seed": 3, "augmentation": Augmentation(2, True), "shuffle": True}
    host = Loader(split, Normalisation.fit(split), 4, **options)
    resident = ResidentLoader(split, Normalisation.fit(split), 4, **options)
    found = [(asnumpy(x), asnumpy(labels)) for x, labels in resident.epoch(1, start)]
    expected = [(x.copy(), labels) for x, labels in host.epoch(1, start)]
    assert len(found) == len(expected) == 3 - start
    for (x, labels), (host_x, host_labels) in zip(found, expected, strict=True):
        assert x.tobytes() == host_x.tobytes()
        assert labels.tobytes() == host_labels.tobytes()
