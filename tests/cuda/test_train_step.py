"""Training steps that record themselves, and batches made on the device, on the double of CuPy."""

import numpy as np
import pytest

from incnet import backend
from incnet.backend import asarray, asnumpy
from incnet.data.augment import Augmentation
from incnet.data.dataset import Normalisation, Split
from incnet.data.features import ResidentFeatureLoader
from incnet.data.loader import Loader
from incnet.data.resident import ResidentLoader
from incnet.fusion import fuse
from incnet.graph import Graph
from incnet.growth.features import Cache, LookaheadFeatures
from incnet.models import build, make_classifier
from incnet.optim import SGD, RMSProp
from incnet.run.memory_plan import plan_batches
from incnet.storage.spill import SpillStore
from incnet.training.loop import INTERVAL, evaluate, train_epoch
from incnet.training.nonfinite import NonFiniteError, check_gradients
from incnet.training.replay import Replay
from incnet.training.step import Step

SHAPE, CLASSES = (8, 8, 3), 5


def grow_and_train():
    """Losses and final weights of batches of two sizes, before an insertion, in look-ahead and after it."""
    rng = np.random.default_rng(0)
    subnetworks = build("resnet8", SHAPE, rng=rng, dtype=np.float64)
    graph = Graph(SHAPE, lambda s: make_classifier(s, CLASSES, rng=np.random.default_rng(1), dtype=np.float64))
    step, losses = Replay(Step(graph, RMSProp(1e-3))), []

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


@pytest.mark.parametrize("convolution", ["auto", "im2col"])
def test_recorded_steps_follow_growth_and_batch_size(device, convolution):
    backend.use("cuda", convolution=convolution)
    losses, state = grow_and_train()
    backend.use("reference")
    expected_losses, expected_state = grow_and_train()
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-8)
    for name, array in expected_state.items():
        np.testing.assert_allclose(state[name], array, rtol=1e-6, atol=1e-9, err_msg=name)


def make_step(lr=1e-3):
    rng = np.random.default_rng(0)
    graph = Graph(SHAPE, lambda s: make_classifier(s, CLASSES, rng=rng, dtype=np.float64))
    graph.insert("S1", build("resnet8", SHAPE, rng=rng, dtype=np.float64)["S1"])
    return Replay(Step(graph, RMSProp(lr)))


def batches(*sizes):
    rng = np.random.default_rng(1)
    return [(asarray(rng.standard_normal((n, *SHAPE))), asarray(rng.integers(0, CLASSES, n))) for n in sizes]


def test_the_gradients_are_those_of_the_last_batch(device):
    step = make_step()
    for batch in batches(4, 4, 3, 4, 3, 4):  # the last one a replay, after a recording for another size
        step.gradients(*batch)
        found = [asnumpy(parameter.grad).tobytes() for _, parameter in step.graph.trainable_parameters()]
        step.step.backpropagate(*batch)
        expected = [asnumpy(parameter.grad).tobytes() for _, parameter in step.graph.trainable_parameters()]
        assert found == expected


def test_one_copy_to_the_host_in_ten_batches(device):
    step, data, counts = make_step(), batches(*[4] * (2 * INTERVAL + 1)), []
    watched = []
    device.reset()
    metrics = train_epoch(
        step, data, watch=lambda *seen: watched.append(seen), after_step=lambda: counts.append(device.counts["to_host"])
    )
    assert counts == [1] * INTERVAL + [2] * INTERVAL + [3]
    assert device.counts["to_host"] == 4
    assert [number for number, _ in watched] == [1, INTERVAL + 1, 2 * INTERVAL + 1]
    assert watched[-1][1] == metrics


def test_a_look_is_at_the_gradients_of_the_last_batch(device):
    step, totals = make_step(), asarray([3.0, 2.0])
    for batch in batches(4, 4, 3, 4, 3, 4):
        step.gradients(*batch)
        gradients = [parameter.grad for _, parameter in step.graph.trainable_parameters()]
        loss, correct, total = step.fetch_metrics(totals)
        assert (loss, correct) == (3, 2)
        np.testing.assert_allclose(total, sum(asnumpy(gradient).sum() for gradient in gradients), rtol=1e-9)
    gradients[1][...] = np.nan
    with pytest.raises(NonFiniteError, match="a gradient is not finite at batch 7"):
        check_gradients(step.graph, 7, step.fetch_metrics(totals)[2])


def test_the_data_set_is_copied_once(device):
    rng = np.random.default_rng(0)
    split = Split(rng.integers(0, 256, (11, 6, 5, 3), dtype=np.uint8), rng.integers(0, 4, 11))
    loader = ResidentLoader(split, Normalisation.fit(split), 4, seed=3, shuffle=True)
    copies = []
    for epoch in range(3):
        device.reset()
        for _ in loader.epoch(epoch):
            assert device.counts["to_host"] == 0
        copies.append(device.counts["to_device"])
    assert copies == [7, 4, 4]


@pytest.mark.parametrize("start", [0, 2])
@pytest.mark.parametrize(("resize", "size"), [(None, None), (9, None), (None, 4), (9, 4)])
def test_batches_made_on_the_device_are_those_of_the_host(device, start, resize, size):
    rng = np.random.default_rng(0)
    split = Split(rng.integers(0, 256, (11, 6, 5, 3), dtype=np.uint8), rng.integers(0, 4, 11))
    options = {"seed": 3, "augmentation": Augmentation(2, True), "shuffle": True, "resize": resize}
    options["image_size"] = size
    host = Loader(split, Normalisation.fit(split), 4, **options)
    resident = ResidentLoader(split, Normalisation.fit(split), 4, **options)
    found = [(asnumpy(x), asnumpy(labels)) for x, labels in resident.epoch(1, start)]
    expected = [(x.copy(), labels) for x, labels in host.epoch(1, start)]
    assert len(found) == len(expected) == 3 - start
    for (x, labels), (host_x, host_labels) in zip(found, expected, strict=True):
        if resize is None and size is None:
            assert x.tobytes() == host_x.tobytes()
        np.testing.assert_allclose(x, host_x, rtol=1e-6, atol=1e-6)
        assert labels.tobytes() == host_labels.tobytes()


def lookahead(cache, memory, folder, make_loader):
    """Losses and final weights of four epochs of look-ahead on cached features."""
    rng = np.random.default_rng(0)
    graph = Graph(SHAPE, lambda s: make_classifier(s, CLASSES, rng=np.random.default_rng(1)))
    for name, subnetwork in build("resnet8", SHAPE, rng=rng).items():
        graph.insert(name, subnetwork)
    graph.freeze_prefix(2)
    split = Split(rng.integers(0, 256, (11, *SHAPE), np.uint8), rng.integers(0, CLASSES, 11))
    normalisation, augmentation = Normalisation.fit(split), Augmentation(2, True)
    train = make_loader(split, normalisation, 4, seed=3, shuffle=True, augmentation=augmentation)
    validation = make_loader(split, normalisation, 6, seed=3)
    features = LookaheadFeatures(
        graph,
        train,
        validation,
        Cache.parse(cache),
        dtype="float32",
        first=2,
        epochs=4,
        store=SpillStore(memory, folder),
    )
    step, losses = Replay(Step(graph, SGD(1e-2))), []  # RMSProp divides rounding errors by small gradients
    step.from_features = True
    for epoch in range(2, 6):
        for x, labels in features.train(epoch):
            losses.append(asnumpy(step.gradients(asarray(x), asarray(labels)))[0])
            step.update()
        losses.append(evaluate(graph, features.validation(), from_features=True).loss)
    return np.array(losses), {name: asnumpy(array) for name, array in graph.state().items()}


@pytest.mark.parametrize("memory", [2**30, 0], ids=["on the device", "in files"])
@pytest.mark.parametrize("cache", ["fixed", "views:2", "views:4"])
def test_lookahead_on_cached_features(device, cache, memory, tmp_path):
    losses, state = lookahead(cache, memory, tmp_path, ResidentLoader)
    backend.use("reference")
    expected_losses, expected_state = lookahead(cache, memory, tmp_path, Loader)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-4)
    for name, array in expected_state.items():
        np.testing.assert_allclose(state[name], array, rtol=1e-4, atol=1e-5, err_msg=name)


def test_reading_features_copies_the_order_and_the_labels_alone(device, tmp_path):
    rng = np.random.default_rng(0)
    split = Split(rng.integers(0, 256, (11, *SHAPE), np.uint8), rng.integers(0, CLASSES, 11))
    images = ResidentLoader(split, Normalisation.fit(split), 4, seed=3, shuffle=True)
    loader = ResidentFeatureLoader(images, asarray(rng.standard_normal((11, 2, 2, 3), np.float32)))
    device.reset()
    assert len(list(loader.epoch(0))) == 3
    assert (device.counts["to_device"], device.counts["to_host"]) == (2, 0)


def test_batches_are_planned_for_a_device_without_touching_it(device):
    rng = np.random.default_rng(0)
    subnetworks = {name: fuse(layer) for name, layer in build("resnet8", SHAPE, rng=rng).items()}
    split = Split(rng.integers(0, 256, (11, *SHAPE), np.uint8), rng.integers(0, CLASSES, 11))
    loader = ResidentLoader(split, Normalisation.fit(split), 4, seed=3)
    graph = Graph(SHAPE, lambda s: make_classifier(s, CLASSES, rng=np.random.default_rng(1)))
    device.reset()
    plan = plan_batches(graph, subnetworks, RMSProp(), loader, loader, limit=10**9, most=8)
    assert {name: stage.batch_size for name, stage in plan.items()} == {"S1": 8, "S2": 8, "S3": 8}
    assert device.counts["launches"] == 0
