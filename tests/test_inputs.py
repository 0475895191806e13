"""Batches that a layer, a network or a model cannot take: a line says what is wrong, with the value, and what to do."""

import numpy as np
import pytest

from incnet.deploy import Model
from incnet.fusion import fuse
from incnet.optim import SGD
from incnet.training.replay import Replay
from incnet.training.step import Step
from tests.deploy.products import stages
from tests.layers.catalogue import CASES, TRAINED
from tests.small_networks import assert_same_state, grow, snapshot

# What is wrong: what somebody gives in place of a batch x, and what he is told.
WRONG = [
    (lambda x: x.astype(np.uint8), r"uint8 \([\d, ]+\).*: normalise pixels first, as in \(\(x - mean\) / std"),
    (lambda x: x.astype(np.int64), "int64 .* normalise pixels first"),
    (lambda x: x[:0], r"float32 \(0, [\d, ]+\): there is nothing in it; leave empty batches out"),
    (lambda x: x.tolist(), r"a list, not an array: try numpy.asarray\(x, 'float32'\)"),
    (lambda x: None, "a NoneType, not an array"),
]
OTHER_FLOATS = (lambda x: x.astype(float), r"float64 .* weights are float32: convert it with x.astype\('float32'\)")
OTHER_SHAPES = [
    (lambda x: x[0], r"float32 \(8, 8, 3\), without an axis for the batch: give a single one as x\[None\]"),
    (lambda x: np.moveaxis(x, 3, 1), r"expected \(N, H, W, 3\); channels come last: x.transpose\(0, 2, 3, 1\)"),
    (lambda x: x[..., :1], r"\(4, 8, 8, 1\); expected \(N, H, W, 3\)$"),
    (lambda x: x[None], r"\(1, 4, 8, 8, 3\), with 5 axes; expected \(N, H, W, 3\)"),
]


@pytest.mark.parametrize("train", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_layer_takes_it(case, train, rng):
    layer, x = case.layer(rng, np.float32), case.input(rng, np.float32)
    before = snapshot(layer)
    for spoil, message in WRONG:
        with pytest.raises(ValueError, match=rf"^\w+: the input is {message}"):
            layer.forward(spoil(x), train=train)
    assert_same_state(layer, before)


@pytest.mark.parametrize("case", [case for case in TRAINED if case.name != "Sequential, nested"], ids=str)
def test_layers_with_weights_take_no_other_floats(case, rng):
    spoil, message = OTHER_FLOATS
    with pytest.raises(ValueError, match=message):
        case.layer(rng, np.float32).forward(spoil(case.input(rng)), train=True)


@pytest.fixture(params=["layer by layer", "fused"])
def graph(request):
    return grow("resnet8", (8, 8, 3), fused=request.param == "fused")


@pytest.fixture
def images(rng):
    return rng.standard_normal((4, 8, 8, 3), np.float32)


@pytest.mark.parametrize(("spoil", "message"), [*WRONG, OTHER_FLOATS, *OTHER_SHAPES])
def test_no_network_takes_it(graph, images, spoil, message):
    before = snapshot(graph)
    for take in (graph.forward, graph.features, graph.recalibrate, lambda x: graph.forward(x, train=True)):
        with pytest.raises(ValueError, match=f"^the network: the input is .*{message}"):
            take(spoil(images))
    assert_same_state(graph, before)
    assert not graph.holds_activations


def test_images_of_another_size_where_their_size_matters(rng):
    vgg = grow("vgg16", (32, 32, 3))
    expected = r"^images of \(64, 64, 3\), where the network was made for \(32, 32, 3\): Linear expects rows of 512"
    with pytest.raises(ValueError, match=expected):
        vgg.forward(rng.standard_normal((2, 64, 64, 3), np.float32))
    resnet = grow("resnet8", (32, 32, 3))
    assert resnet.forward(rng.standard_normal((2, 20, 24, 3), np.float32)).shape == (2, 10)


LABELS = [
    (lambda y: y.astype(float), r"the labels are float64 \(4,\): give whole numbers, as labels.astype\('int64'\)"),
    (lambda y: y > 1, r"the labels are bool \(4,\): give whole numbers"),
    (lambda y: np.eye(10)[y], r"\(4, 10\), a number for each class: give the class as labels.argmax\(axis=1\)"),
    (lambda y: y[:3], r"the labels are int64 \(3,\), for 4 images: give one for each, \(4,\)"),
    (lambda y: y[:, None], r"the labels are int64 \(4, 1\), for 4 images"),
    (lambda y: y.tolist(), "the labels are a list, not an array"),
    (lambda y: y + 7, "labels 7 to 10 of 10 classes"),
    (lambda y: y - 1, "labels -1 to 2 of 10 classes"),
]


@pytest.mark.parametrize("recorded", [False, True])
def test_no_step_learns_from_it(graph, images, recorded):
    step = Step(graph, SGD(1e-3))
    step, labels = Replay(step) if recorded else step, np.arange(4)
    for _ in range(2):
        step.gradients(images, labels)
        step.update()
    before = snapshot(graph)
    for spoil, message in LABELS[:6]:
        with pytest.raises(ValueError, match=message):
            step.gradients(images, spoil(labels))
    for spoil, message in [*WRONG, OTHER_FLOATS, *OTHER_SHAPES]:
        with pytest.raises(ValueError, match=message):
            step.gradients(spoil(images), labels)
    assert_same_state(graph, before)
    for spoil, message in LABELS[6:]:
        with pytest.raises(IndexError, match=message):
            step.gradients(images, spoil(labels))


@pytest.mark.parametrize(("shape", "spoil", "message"), [
    ((8, 8, 3), lambda x: x / 255, "float64 .* expected uint8 .*: numbers from 0 to 1 become pixels by"),
    ((8, 8, 3), lambda x: x / 255 - 0.5, "float64 .* expected uint8 .*: give pixels as they are, 0 to 255"),
    ((8, 8, 3), lambda x: x[0], r"\(8, 8, 3\), expected uint8 \(N, 8, 8, 3\): give a single one as images\[None\]"),
    ((8, 8, 3), lambda x: np.moveaxis(x, 3, 1), r"channels come last, images.transpose\(0, 2, 3, 1\)"),
    ((8, 8, 3), lambda x: x[..., :1], r"\(4, 8, 8, 1\), expected uint8 \(N, 8, 8, 3\)"),
    ((8, 8, 3), lambda x: x[:, 1:], r"\(4, 7, 8, 3\), .*read_images brings pictures to that shape"),
    ((8, 8, 1), lambda x: x[..., 0], r"\(4, 8, 8\), .*add the axis of the channels, images\[..., None\]"),
    ((8, 8, 1), lambda x: x.tolist(), "images are a list, not an array"),
])  # fmt: skip
def test_no_model_takes_it(shape, spoil, message, rng):
    model = Model(*next(iter(stages("resnet8", shape))))
    images = rng.integers(0, 256, (4, *shape), np.uint8)
    with pytest.raises(ValueError, match=message):
        model.predict(spoil(images))
    assert model.predict(images[:0]).shape == (0, len(model.classes))


def test_a_fused_chain_by_itself_looks_too(rng):
    chain = fuse(grow("resnet8", (8, 8, 3)).subnetworks["S1"])
    with pytest.raises(ValueError, match="Conv2d: the input is uint8"):
        chain.forward(np.ones((2, 8, 8, 3), np.uint8), train=True)
