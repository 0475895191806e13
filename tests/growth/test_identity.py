"""Insertion that leaves the output as it is: what is exact, what is nearly so, and that all of it can still learn."""

import numpy as np
import pytest

from incnet.backend import ops
from incnet.config import Config
from incnet.fusion import fuse
from incnet.graph import Graph
from incnet.growth.identity import carry
from incnet.growth.insertion import insert
from incnet.layers import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
    residual_block,
)
from incnet.models import build, make_classifier, vgg
from incnet.optim import RMSProp
from incnet.run.run import Run
from tests.small_networks import randomise, set_dropout

CLASSES = 10


@pytest.fixture
def slim_vgg(monkeypatch):
    """VGG-16 with all of its layers and an eighth of its width."""
    monkeypatch.setattr(vgg, "STAGES", tuple((filters // 8, convolutions) for filters, convolutions in vgg.STAGES))
    monkeypatch.setattr(vgg, "DENSE", (80, 80))


def grown(arch, shape, rng, *, split="filters", dtype=np.float32):
    """Yield a graph before and after each insertion, as (graph, name, insertion); weights hide nothing."""
    graph = Graph(shape, lambda features: make_classifier(features, CLASSES, rng=rng, dtype=dtype))
    parts = {name: fuse(part) for name, part in build(arch, shape, rng=rng, split=split, dtype=dtype).items()}
    sample = rng.standard_normal((64, *shape)).astype(dtype)
    optimizer = RMSProp()
    first, *others = parts
    graph.insert(first, randomise(parts[first], rng))
    for name in others:
        yield (
            graph,
            name,
            lambda name=name: insert(graph, name, parts[name], optimizer, lookahead=False, preserve_on=sample),
        )


def deviations(arch, shape, rng, **options):
    """By name, the largest change of a logit on other images than the sample's, as a share of the largest logit."""
    x = rng.standard_normal((32, *shape)).astype(options.get("dtype", np.float32))
    changes = {}
    for graph, name, put_in in grown(arch, shape, rng, **options):
        before = graph.forward(x)
        put_in()
        changes[name] = np.abs(graph.forward(x) - before).max() / np.abs(before).max()
    return changes


# What is exact.


@pytest.mark.parametrize(
    ("arch", "split", "shape"),
    [
        ("resnet14", "filters", (16, 16, 3)),
        ("resnet14", "blocks", (8, 8, 1)),
        ("resnet20", "4", (8, 8, 3)),
        ("resnet14", "filters", (9, 6, 1)),
        ("resnet14", "filters", (7, 7, 1)),
    ],
)
def test_resnet(arch, split, shape, rng):
    changes = deviations(arch, shape, rng, split=split)
    assert changes
    assert max(changes.values()) < 1e-5, changes


def test_resnet_in_double_precision(rng):
    changes = deviations("resnet14", (9, 8, 1), rng, split="blocks", dtype=np.float64)
    assert max(changes.values()) < 1e-12, changes


@pytest.mark.parametrize("arch", ["vgg16", "vgg16-bn"])
@pytest.mark.parametrize(
    ("split", "shape", "nearly"),
    [
        ("filters", (2, 2, 3), set()),
        ("filters", (4, 4, 3), set()),  # S2 pools the only window that is left
        ("filters", (8, 8, 1), {"S2"}),
        ("filters", (32, 32, 1), {"S2", "S3", "S4"}),
        ("filters", (96, 96, 1), {"S2", "S3", "S4", "S5"}),  # S6 flattens 3 x 3 pixels
        ("blocks", (8, 8, 1), {"S2", "S4"}),
    ],
)
def test_vgg_but_for_max_pooling(arch, split, shape, nearly, slim_vgg, rng):
    changes = deviations(arch, shape, rng, split=split)
    assert {name for name, change in changes.items() if change > 1e-5} == nearly
    assert max(changes.values()) < 0.5


def test_in_training_a_residual_block_that_keeps_the_shape_is_exact(rng):
    block = randomise(residual_block(8, 8, rng=rng), rng)
    x = ops.relu(rng.standard_normal((16, 6, 6, 8), np.float32))
    carry(block, x)
    other = ops.relu(rng.standard_normal((3, 6, 6, 8), np.float32) - 1)
    np.testing.assert_array_equal(block.forward(other, train=True), other)


# Batch norm: batch statistics in training, running ones in evaluation.


@pytest.mark.parametrize("stride", [1, 2])
def test_in_training_on_the_sample_itself_all_is_as_in_evaluation(stride, rng):
    units = {
        "conv": Conv2d(8, 20, 3, padding=1, bias=False, rng=rng),
        "norm": BatchNorm2d(20),
        "relu": ReLU(),
        "block": residual_block(20, 40, stride=stride, rng=rng),
    }
    chain = Sequential(units)
    x = ops.relu(rng.standard_normal((64, 6, 6, 8), np.float32) * 3 + 2)
    y = carry(chain, x)
    np.testing.assert_allclose(chain.forward(x, train=True)[..., :8], y[..., :8], atol=2e-5)


def test_in_training_other_batches_deviate_the_less_the_larger_they_are(rng):
    block = residual_block(8, 16, stride=2, rng=rng)
    images = ops.relu(rng.standard_normal((2048, 8, 8, 8), np.float32))
    carry(block, images[:512])

    def deviation(size):
        batches = [images[start : start + size] for start in range(512, 2048, size)]
        return np.mean([np.abs(block.forward(x, train=True) - block.forward(x))[..., :8].mean() for x in batches])

    assert deviation(512) < deviation(32) / 2 < 0.02


def test_batch_norm_as_it_is_made_would_not_do(rng):
    """What is tested here is not true by itself."""
    x = ops.relu(rng.standard_normal((64, 6, 6, 8), np.float32) * 3 + 2)
    chain = Sequential({"conv": Conv2d(8, 8, 3, padding=1, bias=False, rng=rng), "norm": BatchNorm2d(8)})
    y = carry(chain, x)
    norm = chain.children()["norm"]
    norm.gamma.data[...], norm.beta.data[...] = 1, 0
    assert np.abs(chain.forward(x) - y).max() > 1


# Filters whose middle is not on the pixel.


@pytest.mark.parametrize(("kernel_size", "padding"), [(1, 0), (3, 1), (5, 2)])
def test_centred_filters_copy(kernel_size, padding, rng):
    conv = Conv2d(4, 6, kernel_size, padding=padding, rng=rng)
    conv.bias.data[...] = 1
    x = ops.relu(rng.standard_normal((2, 5, 7, 4), np.float32))
    y = carry(conv, x)
    np.testing.assert_array_equal(y[..., :4], x)
    assert np.abs(y[..., 4:]).min() > 0


@pytest.mark.parametrize(("kernel_size", "padding"), [(2, 1), (3, 2), (4, 3)])
def test_a_filter_that_makes_the_image_larger_keeps_the_mean(kernel_size, padding, rng):
    x = ops.relu(rng.standard_normal((2, 5, 6, 4), np.float32))
    y = carry(Conv2d(4, 4, kernel_size, padding=padding, rng=rng), x)
    assert y.shape[1] > 5
    np.testing.assert_allclose(y.mean(axis=(1, 2)), x.mean(axis=(1, 2)), rtol=1e-5)


@pytest.mark.parametrize(("kernel_size", "padding"), [(2, 0), (3, 0), (4, 1)])
def test_a_filter_that_makes_the_image_smaller_copies_what_is_left(kernel_size, padding, rng):
    x = ops.relu(rng.standard_normal((2, 7, 6, 4), np.float32))
    y = carry(Conv2d(4, 4, kernel_size, padding=padding, rng=rng), x)
    np.testing.assert_array_equal(y, x[:, : y.shape[1], : y.shape[2]])


@pytest.mark.parametrize(("kernel_size", "padding", "height"), [(2, 0, 6), (3, 1, 6), (3, 1, 7), (4, 1, 6), (5, 2, 7)])
def test_a_stride_takes_means(kernel_size, padding, height, rng):
    x = ops.relu(rng.standard_normal((2, height, 8, 4), np.float32))
    y = carry(Conv2d(4, 4, kernel_size, stride=2, padding=padding, rng=rng), x)
    np.testing.assert_allclose(y.mean(axis=(1, 2)), x.mean(axis=(1, 2)), rtol=1e-5)


@pytest.mark.parametrize(("kernel_size", "stride"), [(1, 2), (2, 3)])
def test_a_stride_over_more_than_the_filter_picks(kernel_size, stride, rng):
    x = ops.relu(rng.standard_normal((2, 6, 6, 4), np.float32))
    conv = Conv2d(4, 4, kernel_size, stride=stride, rng=rng)
    np.testing.assert_array_equal(carry(conv, x), x[:, ::stride, ::stride])


@pytest.mark.parametrize("options", [{"stride": 2, "shortcut": "B"}, {"stride": 1}, {"stride": 2, "shortcut": "conv"}])
def test_other_shortcuts(options, rng):
    if options.get("shortcut") == "conv":
        body = residual_block(4, 8, stride=2, rng=rng).body
        block = Residual(body, Conv2d(4, 8, 1, stride=2, rng=rng))
    else:
        block = residual_block(4, 8, rng=rng, **options)
    x = ops.relu(rng.standard_normal((32, 6, 6, 4), np.float32))
    y = carry(block, x)
    np.testing.assert_allclose(y[..., :4].mean(axis=(1, 2)), x.mean(axis=(1, 2)), rtol=1e-4)


def test_average_pooling_and_leaky_relu_keep_the_mean(rng):
    layers = {"conv": Conv2d(4, 6, 3, padding=1, rng=rng), "relu": LeakyReLU(0.1), "pool": AvgPool2d(2)}
    x = ops.relu(rng.standard_normal((2, 6, 8, 4), np.float32))
    y = carry(Sequential(layers), x)
    assert y.shape == (2, 3, 4, 6)
    np.testing.assert_allclose(y[..., :4].mean(axis=(1, 2)), x.mean(axis=(1, 2)), rtol=1e-5)


# What cannot be carried.


def test_what_is_negative_is_refused(rng):
    x = rng.standard_normal((4, 6, 6, 8), np.float32)
    with pytest.raises(ValueError, match=r"only outputs of a ReLU can be carried, and these features go down to -\d"):
        carry(residual_block(8, 8, rng=rng), x)


@pytest.mark.parametrize("layer", ["conv", "linear", "block"])
def test_a_bottleneck_is_refused(layer, rng):
    narrow = {
        "conv": (Conv2d(8, 6, 3, padding=1, rng=rng), (2, 6, 6, 8)),
        "linear": (Linear(8, 6, rng=rng), (2, 8)),
        "block": (residual_block(8, 6, stride=2, rng=rng), (2, 6, 6, 8)),
    }
    with pytest.raises(ValueError, match=r"8 channels cannot be carried through \w+\(\d, 6.*: it makes fewer"):
        carry(narrow[layer][0], np.ones(narrow[layer][1], np.float32))


# What comes in can learn.


# Where there is no batch norm many of He's filters are silent on all images, or on none, with identity as without.
@pytest.mark.parametrize(("arch", "least"), [("resnet14", 1.0), ("vgg16", 0.5), ("vgg16-bn", 0.7)])
def test_everything_learns_within_three_steps(arch, least, slim_vgg, rng):
    for graph, name, put_in in grown(arch, (8, 8, 1), rng):
        put_in()
        set_dropout(graph, 0.0)
        new, optimizer = graph.subnetworks[name], RMSProp(1e-3)
        moved = {id(parameter): np.zeros(parameter.data.shape, bool) for parameter in new.parameters()}
        for _ in range(3):
            x = rng.standard_normal((64, 8, 8, 1), np.float32)
            _, dlogits = ops.softmax_cross_entropy(graph.forward(x, train=True), rng.integers(CLASSES, size=64))
            graph.backward(dlogits)
            for parameter in new.parameters():
                moved[id(parameter)] |= parameter.grad != 0
            optimizer.step(graph.trainable_parameters())
        for parameter_name, parameter in new.named_parameters():
            reached = moved[id(parameter)].reshape(-1, parameter.data.shape[-1]).any(axis=0)
            assert reached.mean() >= least, f"{name}.{parameter_name}: {reached.mean():.0%} of the channels learn"


def test_no_two_filters_are_equal(rng):
    for graph, name, put_in in grown("resnet14", (8, 8, 1), rng):
        put_in()
        for parameter_name, parameter in graph.subnetworks[name].named_parameters():
            if parameter.data.ndim == 4:
                filters = parameter.data.reshape(-1, parameter.data.shape[-1]).T
                assert len(np.unique(filters, axis=0)) == len(filters), parameter_name


# The optimizer.


def put_in_with_state(rng, preserve):
    graph = Graph((8, 8, 1), lambda shape: make_classifier(shape, CLASSES, rng=rng))
    parts = build("resnet8", (8, 8, 1), rng=rng)
    optimizer = RMSProp()
    graph.insert("S1", parts["S1"])
    x = rng.standard_normal((16, 8, 8, 1), np.float32)
    graph.backward(ops.softmax_cross_entropy(graph.forward(x, train=True), rng.integers(CLASSES, size=16))[1])
    optimizer.step(graph.trainable_parameters())
    before = {name: {slot: array.copy() for slot, array in slots.items()} for name, slots in optimizer.state.items()}
    insert(graph, "S2", parts["S2"], optimizer, lookahead=False, preserve_on=x if preserve else None)
    return before, optimizer.state


def test_the_state_of_weights_that_stay_stays(rng):
    before, after = put_in_with_state(rng, preserve=True)
    assert after.keys() == before.keys()
    for slot in ("square", "velocity"):
        weight = after["classifier.linear.weight"][slot]
        assert weight.shape == (32, CLASSES)
        np.testing.assert_array_equal(weight[:16], before["classifier.linear.weight"][slot])
        assert not weight[16:].any()
        np.testing.assert_array_equal(after["classifier.linear.bias"][slot], before["classifier.linear.bias"][slot])


def test_the_state_of_weights_that_are_drawn_anew_goes(rng):
    before, after = put_in_with_state(rng, preserve=False)
    assert before.keys() - after.keys() == {"classifier.linear.weight", "classifier.linear.bias"}


# Real digits.


def test_the_nearest_form_agrees_on_real_digits():
    config = Config(arch="vgg16-bn", lr=2e-3, threads=1, init="identity").resolve()
    run = Run(config)
    run.state.graph.insert("S1", run.state.subnetworks["S1"])
    for epoch in range(3):
        for x, labels in run.images.train.epoch(epoch):
            run.trainer.step.gradients(x, labels)
            run.trainer.step.update()
    images = next(run.images.validation.epoch(0)).x
    before = run.state.graph.forward(images)
    insert(
        run.state.graph,
        "S2",
        run.state.subnetworks["S2"],
        run.state.optimizer,
        lookahead=False,
        preserve_on=run.images.sample(run.state.schedule.epoch),
    )
    after = run.state.graph.forward(images)
    assert isinstance(list(run.state.subnetworks["S2"].layers())[-1], MaxPool2d)
    assert np.mean(before.argmax(axis=1) == after.argmax(axis=1)) > 0.9
    assert 1e-3 < np.sqrt(np.mean((after - before) ** 2)) / before.std() < 0.3
