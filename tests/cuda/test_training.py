"""Whole networks on the double of CuPy: the numbers of the NumPy run, and no copy that nobody asked for."""

import numpy as np
import pytest

from incnet import backend
from incnet.backend import asarray, asnumpy, ops, recorder
from incnet.fusion import FusedSequential, fuse
from incnet.graph import Graph
from incnet.growth.insertion import insert
from incnet.layers import BatchNorm2d, Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU, Sequential
from incnet.models import build, make_classifier, vgg
from incnet.optim import SGD, RMSProp

SHAPE, CLASSES, BATCH = (8, 8, 3), 5, 4


def small_resnet(dtype=np.float64):
    """ResNet-8 with its three sub-networks, the lowest one frozen."""
    rng = np.random.default_rng(0)
    graph = Graph(SHAPE, lambda shape: make_classifier(shape, CLASSES, rng=rng, dtype=dtype))
    for name, subnetwork in build("resnet8", SHAPE, rng=rng, dtype=dtype).items():
        graph.insert(name, subnetwork)
    graph.freeze_prefix(1)
    return graph


def resnet_in_depth(dtype=np.float64):
    """ResNet-14 that was grown inside: frozen blocks lie between those that learn."""
    rng = np.random.default_rng(0)
    graph = Graph(SHAPE, lambda shape: make_classifier(shape, CLASSES, rng=rng, dtype=dtype))
    for name, subnetwork in build("resnet14", SHAPE, rng=rng, dtype=dtype, split="depth").items():
        graph.insert(name, subnetwork)
    graph.freeze_prefix(1)
    return graph


def fused(make_network):
    """The same network, computed in fused steps."""

    def make():
        plain = make_network()
        frozen = plain.boundary
        plain.unfreeze()
        graph = Graph(SHAPE, lambda shape: plain.classifier)
        for name, subnetwork in plain.subnetworks.items():
            graph.insert(name, fuse(subnetwork))
        graph.freeze_prefix(frozen)
        return graph

    make.__name__ = f"fused_{make_network.__name__}"
    return make


def small_vgg(dtype=np.float64):
    """The kinds of layers that VGG has and ResNet has not: biases, pooling, dense layers with dropout."""
    rng = np.random.default_rng(0)
    graph = Graph(SHAPE, lambda shape: make_classifier(shape, CLASSES, rng=rng, dtype=dtype))
    features = {
        "conv": Conv2d(3, 8, 3, padding=1, rng=rng, dtype=dtype),
        "norm": BatchNorm2d(8, dtype=dtype),
        "relu": ReLU(),
    }
    graph.insert("S1", Sequential({**features, "pool": MaxPool2d(2)}))
    dense = {"flatten": Flatten(), "linear": Linear(128, 12, rng=rng, dtype=dtype), "relu": ReLU()}
    graph.insert("S2", Sequential({**dense, "dropout": Dropout(0.5, rng=rng)}))
    return graph


NETWORKS = (small_resnet, small_vgg, resnet_in_depth, *map(fused, (small_resnet, small_vgg, resnet_in_depth)))


def batches(count, dtype=np.float64):
    rng = np.random.default_rng(1)
    return [(rng.standard_normal((BATCH, *SHAPE)).astype(dtype), rng.integers(0, CLASSES, BATCH)) for _ in range(count)]


def train(make_network, make_optimizer, steps, *, graph_of_launches=False, after_step=lambda step: None):
    """Return the losses and the final state. Input and totals stay where they are, as a recorded step needs."""
    network, optimizer = make_network(), make_optimizer()
    data = batches(steps)
    x, labels = (asarray(array) for array in data[0])
    totals = asarray(np.zeros(2))

    def step():
        batch_totals, dlogits = ops.softmax_cross_entropy(network.forward(x, train=True), labels)
        network.backward(dlogits)
        optimizer.step(network.trainable_parameters())
        totals[...] = batch_totals

    call, losses = recorder()(step) if graph_of_launches else step, []
    for i, (images, targets) in enumerate(data):
        x[...], labels[...] = asarray(images), asarray(targets)
        after_step(None)
        call()
        after_step(i)
        losses.append(asnumpy(totals)[0])
    return np.array(losses), {name: asnumpy(array) for name, array in network.state().items()}


def reference_run(make, *arguments):
    before = backend.ops.name
    backend.use("reference")
    try:
        return make(*arguments)
    finally:
        backend.use(before)


@pytest.mark.parametrize("graph_of_launches", [False, True], ids=["eager", "recorded"])
@pytest.mark.parametrize("make_optimizer", [RMSProp, SGD])
@pytest.mark.parametrize("make_network", NETWORKS)
def test_same_training_as_on_numpy(device, make_network, make_optimizer, graph_of_launches):
    losses, state = train(make_network, make_optimizer, 5, graph_of_launches=graph_of_launches)
    expected_losses, expected_state = reference_run(train, make_network, make_optimizer, 5)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-9)
    for name, array in expected_state.items():
        np.testing.assert_allclose(state[name], array, rtol=1e-7, atol=1e-10, err_msg=name)


def preserving(arch):
    """State of a network, and of the optimizer, after insertions that leave its output as it is."""
    rng, optimizer = np.random.default_rng(0), RMSProp()
    graph = Graph(SHAPE, lambda shape: make_classifier(shape, CLASSES, rng=rng, dtype=np.float64))
    (x, labels), *_ = batches(1)
    for name, subnetwork in list(build(arch, SHAPE, rng=rng, dtype=np.float64).items())[:3]:
        preserve_on = asarray(x) if graph.subnetworks else None
        insert(graph, name, subnetwork, optimizer, lookahead=False, preserve_on=preserve_on)
        graph.backward(ops.softmax_cross_entropy(graph.forward(asarray(x), train=True), asarray(labels))[1])
        optimizer.step(graph.trainable_parameters())
    return {name: asnumpy(array) for name, array in (graph.state() | optimizer.arrays()).items()}


@pytest.mark.parametrize("arch", ["resnet8", "vgg16-bn"])
def test_same_insertion_as_on_numpy(device, arch, monkeypatch):
    monkeypatch.setattr(vgg, "STAGES", ((4, 2), (8, 2), (8, 2)))
    state, expected = preserving(arch), reference_run(preserving, arch)
    for name, array in expected.items():
        np.testing.assert_allclose(state[name], array, rtol=1e-6, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("make_network", NETWORKS)
def test_no_copy_in_a_step(device, make_network, record_property):
    counts = {}

    def after_step(step):
        if step is not None:
            counts[step] = device.counts.copy()
        device.reset()

    train(make_network, RMSProp, 3, after_step=after_step)
    # The first step makes the optimizer's state.
    assert counts[0]["to_host"] == 0
    for step in (1, 2):
        assert counts[step]["to_host"] == counts[step]["to_device"] == 0
    record_property("launches", counts[2]["launches"])
    record_property("operations", counts[2]["operations"])


def test_fusion_takes_effect(device):
    assert all(isinstance(part, FusedSequential) for part in fused(small_resnet)().subnetworks.values())


@pytest.mark.parametrize(("fusion", "most"), [(True, 210), (False, 330)])
def test_launches_of_a_resnet20_step(device, record_property, fusion, most):
    device.runs = False
    rng, optimizer = np.random.default_rng(0), RMSProp()
    graph = Graph((32, 32, 3), lambda shape: make_classifier(shape, 10, rng=rng))
    for name, subnetwork in build("resnet20", (32, 32, 3), rng=rng).items():
        graph.insert(name, fuse(subnetwork) if fusion else subnetwork)
    x, labels = asarray(np.zeros((128, 32, 32, 3), np.float32)), asarray(np.zeros(128, np.int64))
    for _ in range(2):
        device.reset()
        graph.backward(ops.softmax_cross_entropy(graph.forward(x, train=True), labels)[1])
        optimizer.step(graph.trainable_parameters())
    launches = device.counts["launches"] + device.counts["operations"]
    record_property("launches", launches)
    assert launches <= most


def test_frozen_prefix_is_untouched(device):
    before = {name: asnumpy(array) for name, array in small_resnet().subnetworks["S1"].state().items()}
    _, state = train(small_resnet, RMSProp, 2)
    for name, array in before.items():
        assert state[f"S1.{name}"].tobytes() == array.tobytes()


def test_a_replay_draws_new_dropout(device):
    x, layer = asarray(np.ones((4, 50), np.float32)), Dropout(0.5, rng=np.random.default_rng(0))
    y = asarray(np.zeros((4, 50), np.float32))

    def forward():
        y[...] = layer.forward(x, train=True)

    call, masks = recorder()(forward), []
    for _ in range(4):
        call()
        masks.append(asnumpy(y).tobytes())
    assert len(set(masks)) == 4


def test_a_copy_while_recording_is_an_error(device):
    x = asarray(np.ones(3))
    call = recorder()(lambda: float(x[0]))
    call()
    with pytest.raises(RuntimeError, match="while a graph is recorded"):
        call()
