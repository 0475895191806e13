"""Batch norm's statistics, taken anew with the weights as they are."""

import json

import numpy as np
import pytest

from incnet import train as command
from incnet.layers import BatchNorm2d, Conv2d, Dropout, Flatten, Linear, ReLU, Residual, Sequential
from incnet.optim import SGD
from incnet.training.loop import evaluate, train_epoch
from incnet.training.recalibration import recalibrate
from incnet.training.step import Step
from tests.faults.runs import ARGUMENTS
from tests.small_networks import assert_same_state, grow, randomise, snapshot

IMAGE = (8, 8, 3)


def batches(rng, count=3, size=7):
    return [(rng.standard_normal((size, *IMAGE), np.float32), rng.integers(10, size=size)) for _ in range(count)]


def statistics(graph):
    return {name: array.copy() for name, array in graph.named_buffers() if "running" in name}


@pytest.mark.parametrize("fused", [False, True])
def test_the_statistics_are_means_over_the_batches(fused):
    rng = np.random.default_rng(0)
    graph, data = randomise(grow("resnet8", IMAGE, fused=fused), rng), batches(rng)
    assert recalibrate(graph, data) == 21
    expected = {}
    for images, _ in data:  # a training pass with decay 0 leaves the batch's own statistics
        for layer in graph.layers():
            if isinstance(layer, BatchNorm2d):
                layer.decay = 0.0
        found = statistics(graph)
        graph.forward(images, train=True)
        graph.discard()
        for name, array in statistics(graph).items():
            expected.setdefault(name, []).append(array)
        graph.load_state(graph.state() | found)
    assert expected
    for name, array in statistics(graph).items():
        np.testing.assert_allclose(array, np.mean(expected[name], axis=0), rtol=1e-5, atol=1e-6)


def test_a_recalibrated_network_evaluates_as_it_trains():
    """On the very images it was recalibrated on, a single batch, evaluation gives what training computes."""
    rng = np.random.default_rng(1)
    graph, ((images, labels),) = randomise(grow("resnet8", IMAGE, fused=True), rng), batches(rng, 1, 64)
    trained = graph.forward(images, train=True).copy()
    graph.discard()
    assert not np.allclose(graph.forward(images), trained, atol=1e-2)
    recalibrate(graph, [(images, labels)])
    np.testing.assert_allclose(graph.forward(images), trained, atol=0.02)  # biased against unbiased variance


def test_nothing_else_changes():
    rng = np.random.default_rng(2)
    graph = randomise(grow("vgg16-bn", (32, 32, 3)), rng)
    data = [(rng.standard_normal((2, 32, 32, 3), np.float32), np.zeros(2, int)) for _ in range(2)]
    graph.freeze_prefix(2)
    decays = [layer.decay for layer in graph.layers() if isinstance(layer, BatchNorm2d)]
    before = snapshot(graph)
    recalibrate(graph, data)
    changed = {name for name, array in graph.state().items() if not np.array_equal(array, before[name])}
    assert changed
    assert all(name.rpartition(".")[2] in BatchNorm2d.buffers for name in changed), "dropout's seeds stay, too"
    assert not any(name.startswith(("S1.", "S2.")) for name in changed), "frozen"
    assert not graph.holds_activations
    assert decays == [layer.decay for layer in graph.layers() if isinstance(layer, BatchNorm2d)]


def test_no_batches_and_no_layers_change_nothing():
    for graph, data in ((grow("resnet8", IMAGE), []), (grow("vgg16", (32, 32, 3)), batches(np.random.default_rng(3)))):
        before = snapshot(graph)
        assert recalibrate(graph, data) == 0
        assert_same_state(graph, before)


def test_from_features():
    rng = np.random.default_rng(4)
    graph, data = randomise(grow("resnet8", IMAGE, fused=True), rng), batches(rng)
    graph.freeze_prefix(2)
    recalibrate(graph, data)
    once = snapshot(graph)
    features = [(graph.features(images).copy(), labels) for images, labels in data]
    randomise(graph.subnetworks["S3"], rng)
    for name, array in graph.subnetworks["S3"].named_parameters("S3."):
        array.data[...] = once[name]
    recalibrate(graph, features, from_features=True)
    assert_same_state(graph, once)


def test_dropout_below_batch_norm_takes_no_part():
    """Evaluation has no dropout, so the statistics that it reads must know of none."""
    rng = np.random.default_rng(5)
    conv = {"conv": Conv2d(3, 4, 3, padding=1, bias=False, rng=rng), "norm": BatchNorm2d(4)}
    block = Residual(Sequential({"dropout": Dropout(0.9, rng=rng), **conv}), Conv2d(3, 4, 1, rng=rng))
    chain = Sequential({"block": block, "relu": ReLU(), "flatten": Flatten(), "linear": Linear(256, 2, rng=rng)})
    without = Sequential({"conv": conv["conv"], "norm": BatchNorm2d(4)})
    images = rng.standard_normal((6, *IMAGE), np.float32)
    without.forward(images, train=True)
    chain.recalibrate(images)
    np.testing.assert_array_equal(conv["norm"].running_mean, without.children()["norm"].running_mean)
    assert not chain.holds_activations


def test_the_loss_in_evaluation_falls_after_a_few_long_steps():
    """What it is for: weights that move fast, and statistics that would lag behind them."""
    rng = np.random.default_rng(6)
    data = batches(rng, 12, 32)
    graph = grow("resnet8", IMAGE, fused=True)
    train_epoch(Step(graph, SGD(0.1)), data)
    stale = evaluate(graph, data).loss
    recalibrate(graph, data[:4])
    assert evaluate(graph, data).loss < stale


def test_a_run_without_it(tmp_path):
    """Its cost is counted apart, and an option turns it off."""
    logs = {}
    for name, options in {"on": (), "off": ("--recalibrate", "0", "--no-average")}.items():
        assert command.main([*ARGUMENTS, *options, "--out", str(tmp_path / name)]) == 0
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        logs[name] = [event for event in map(json.loads, lines) if event["event"] == "epoch"]
    on, off = logs["on"][-1], logs["off"][-1]
    assert off["macs_recalibration"] == 0 < on["macs_recalibration"]
    assert on["macs_training"] - on["macs_recalibration"] == off["macs_training"]
    images = 180 * logs["on"][0]["macs_inference"]  # six batches of 32, of 180 images: all there are
    assert logs["on"][0]["macs_recalibration"] == images
