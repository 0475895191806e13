"""A network that grows inside: layers between layers, and the proof that the frozen ones among them only hand dx on."""

import numpy as np
import pytest

from incnet.backend import ops
from incnet.fusion import fuse
from incnet.graph import Graph
from incnet.growth.insertion import insert
from incnet.layer import Cost
from incnet.layers import BatchNorm2d, Conv2d, Interleaved, ReLU, Sequential
from incnet.models import build, make_classifier
from incnet.optim import SGD, RMSProp
from tests.counting import counted
from tests.metering import metering
from tests.small_networks import assert_same_state, grow, randomise, set_dropout, snapshot

SHAPE = (8, 8, 2)


def batch(rng, shape, n=4, dtype=np.float32):
    return rng.standard_normal((n, *shape)).astype(dtype), rng.integers(10, size=n)


def learn(graph, x, labels):
    """Go forward and backward; return the loss."""
    (total, _), dlogits = ops.softmax_cross_entropy(graph.forward(x, train=True), labels)
    graph.backward(dlogits)
    return total / len(x)


def block(channels, rng):
    return Sequential({"conv": Conv2d(channels, channels, 3, padding=1, rng=rng), "relu": ReLU()})


class TestInsertion:
    @pytest.fixture
    def graph(self, rng):
        graph = Graph(SHAPE, lambda shape: make_classifier(shape, 10, rng=rng))
        first = {"a": Conv2d(2, 4, 3, padding=1, rng=rng), "b": Conv2d(4, 6, 3, stride=2, padding=1, rng=rng)}
        graph.insert("S1", Interleaved(first))
        return graph

    def test_at_any_place_several_at_once(self, graph, rng):
        classifier = graph.classifier
        new = {"a2": block(4, rng), "a3": block(4, rng), "b2": block(6, rng)}
        assert not graph.insert("S2", Interleaved(new, {"a2": "a", "a3": "a2", "b2": "b"}))
        assert not graph.insert("S3", Interleaved({"a1": block(4, rng)}, {"a1": "a"}))
        rebuilt = graph.insert("top", Conv2d(6, 3, 1, rng=rng))
        assert rebuilt
        assert graph.classifier is not classifier
        assert repr(graph).startswith("<Graph S1 -> S3 -> S2 -> S1 -> S2 -> top -> classifier")
        names = [(name, list(layer.children())) for name, layer in graph.row]
        assert names == [
            ("S1", ["a"]),
            ("S3", ["a1"]),
            ("S2", ["a2", "a3"]),
            ("S1", ["b"]),
            ("S2", ["b2"]),
            ("top", []),
        ]
        x, _ = batch(rng, SHAPE)
        y = x
        for layer in (
            *(graph.subnetworks[s].children()[n] for s, ns in names[:-1] for n in ns),
            graph.subnetworks["top"],
        ):
            y = layer.forward(y)
        np.testing.assert_array_equal(graph.forward(x), graph.classifier.forward(y))

    def test_what_does_not_fit_changes_nothing(self, graph, rng):
        row, state = graph.row, list(graph.state())
        for layers, after, message in [
            ({"a2": block(4, rng)}, {"a2": "c"}, "'a2' is to follow 'c', which is not in"),
            ({"b": block(6, rng)}, {"b": "b"}, "a layer named 'b' is already in"),
            ({"a2": block(5, rng)}, {"a2": "a"}, "expects images of 5 channels"),
        ]:
            with pytest.raises(ValueError, match=message):
                graph.insert("S2", Interleaved(layers, after))
            assert graph.row == row
            assert list(graph.state()) == state


@pytest.mark.usefixtures("slim_vgg")
@pytest.mark.parametrize(
    ("arch", "split", "shape"), [("resnet20", "depth:3", (8, 8, 3)), ("vgg16", "depth", (32, 32, 3))]
)
def test_in_the_end_it_is_the_network_that_it_grows_to(arch, split, shape, rng, monkeypatch):
    """The same function, in the same fused steps, with names that were those of the end from the beginning."""
    ours, whole = grow(arch, shape, split=split, fused=True), randomise(grow(arch, shape, split=1, fused=True), rng)
    theirs = {name.removeprefix("S1."): array for name, array in whole.state().items()}
    ours.load_state({name: theirs[name if "classifier" in name else name[3:]] for name in ours.state()})
    for graph in (ours, whole):
        set_dropout(graph, 0.0)
    x, labels = batch(rng, shape)
    np.testing.assert_allclose(ours.forward(x), whole.forward(x), rtol=1e-5, atol=1e-5)
    learn(ours, x, labels), learn(whole, x, labels)
    expected = {name.removeprefix("S1."): parameter.grad for name, parameter in whole.named_parameters()}
    for name, parameter in ours.named_parameters():
        grad = expected[name if "classifier" in name else name[3:]]
        np.testing.assert_allclose(parameter.grad, grad, rtol=1e-3, atol=1e-4 * abs(grad).max(), err_msg=name)
    assert ours.cost(shape) == whole.cost(shape)


# Proof of freezing. Below the lowest block that learns lie the stem and the first block, three convolutions, of VGG
# the first one. ResNet-20 has 19 in all, of which 12 are inserted; VGG-16 has 13, of which 8 are.

PROOFS = [
    ("resnet20", (16, 16, 3), "depth", {"below": 3, "learning": 12, "all": 19}),
    ("vgg16-bn", (32, 32, 3), "depth", {"below": 1, "learning": 8, "all": 13}),
]


@pytest.mark.usefixtures("backend", "slim_vgg")
@pytest.mark.parametrize("frozen_bn", ["eval", "batch"])
@pytest.mark.parametrize(("arch", "shape", "split", "convolutions"), PROOFS, ids=[arch for arch, *_ in PROOFS])
def test_proof_of_freezing(arch, shape, split, convolutions, frozen_bn, rng, monkeypatch):
    graph = randomise(grow(arch, shape, split=split, frozen_bn=frozen_bn), rng)
    optimizer = RMSProp(lr=1e-3)
    learn(graph, *batch(rng, shape))
    optimizer.step(graph.trainable_parameters())
    graph.freeze_prefix(1)
    assert sum(isinstance(each, Conv2d) for part in graph.prefix for each in part.layers()) == convolutions["below"]
    frozen, learning = graph.subnetworks["S1"], graph.subnetworks["S2"]
    before, above = snapshot(frozen), snapshot(learning)

    def refuse(*args, **kwargs):
        raise AssertionError("backward was called below the lowest layer that learns")

    for part in graph.prefix:
        for layer in part.layers():
            monkeypatch.setattr(layer, "backward", refuse)
    x, labels = batch(rng, shape)
    with counted() as calls:
        logits = graph.forward(x, train=True)
    assert not any(part.holds_activations for part in graph.prefix)
    assert calls["conv2d"] == convolutions["all"]
    norms = convolutions["learning" if frozen_bn == "eval" else "all"]
    assert calls["batch_norm_stats"] == norms

    _, dlogits = ops.softmax_cross_entropy(logits, labels)
    with counted() as calls:
        graph.backward(dlogits)
    passed = convolutions["all"] - convolutions["below"]
    assert calls["conv2d_weight_grad"] == convolutions["learning"]
    assert calls["conv2d_input_grad"] == passed - 1
    assert calls["linear_weight_grad"] == calls["bias_grad"] == 1  # the classifier's
    assert calls["linear_input_grad"] == (1 if arch == "resnet20" else 3)
    between = passed - convolutions["learning"]
    assert calls["batch_norm_grad"] == convolutions["learning"] + (between if frozen_bn == "batch" else 0)
    assert calls["batch_norm"] == (between if frozen_bn == "eval" else 0)  # which takes dy for what is normalised
    assert calls["batch_norm_fixed_grad"] == calls["conv2d"] == calls["batch_norm_stats"] == 0
    assert not graph.holds_activations

    optimizer.step(graph.trainable_parameters())
    seeds = {name: array for name, array in frozen.named_buffers() if name.endswith("seed")}  # dropout goes on above
    assert_same_state(frozen, before | seeds)
    assert {parameter.grad is None for parameter in frozen.parameters()} == {True}
    for name, _ in learning.named_parameters():
        assert not np.array_equal(learning.state()[name], above[name]), f"{name} does not learn"


@pytest.mark.usefixtures("slim_vgg")
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "layer by layer"])
@pytest.mark.parametrize(
    ("arch", "shape", "split"), [("resnet20", (9, 7, 2), "depth:3"), ("vgg16", (32, 32, 3), "depth")]
)
def test_the_ledger_is_what_the_kernels_do(arch, shape, split, fused, rng):
    graph = grow(arch, shape, split=split, fused=fused)
    x, labels = batch(rng, shape)
    optimizer = SGD(0.1)
    for boundary in range(len(graph.subnetworks)):
        graph.freeze_prefix(boundary)
        with metering() as meter:
            learn(graph, x, labels)
            optimizer.step(graph.trainable_parameters())
        assert meter.cost(len(x)) == graph.cost(shape), f"{boundary} frozen"
        with metering() as meter:
            graph.features(x)
        assert meter.cost(len(x)) == Cost(forward=graph.prefix_macs)


# Gradients.


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "layer by layer"])
@pytest.mark.parametrize("frozen_bn", ["eval", "batch"])
def test_gradients_are_those_of_the_whole_network(frozen_bn, fused, rng):
    """Nothing frozen but the statistics of S1: what learns gets the same gradients."""
    graph, whole = (
        randomise(grow("resnet20", SHAPE, split="depth", frozen_bn=frozen_bn, fused=f), np.random.default_rng(1))
        for f in (fused, False)
    )
    graph.freeze_prefix(1)
    for layer in whole.subnetworks["S1"].layers():
        if isinstance(layer, BatchNorm2d) and frozen_bn == "eval":
            layer.freeze()
    x, labels = batch(rng, SHAPE)
    np.testing.assert_allclose(learn(graph, x, labels), learn(whole, x, labels), rtol=1e-5)
    expected = dict(whole.named_parameters())
    for name, parameter in graph.trainable_parameters():
        grad = expected[name].grad
        np.testing.assert_allclose(parameter.grad, grad, rtol=2e-3, atol=2e-4 * abs(grad).max(), err_msg=name)


@pytest.mark.parametrize("boundary", [0, 1])
def test_gradients_are_the_slopes_of_the_loss(boundary, rng):
    """By central differences, in float64, along a random direction of each parameter."""
    graph = randomise(grow("resnet14", SHAPE, split="depth", dtype=np.float64), rng)
    graph.freeze_prefix(boundary)
    x, labels = batch(rng, SHAPE, dtype=np.float64)
    learn(graph, x, labels)
    gradients = {name: parameter.grad for name, parameter in graph.trainable_parameters()}
    assert any(name.startswith("S2.") for name in gradients)

    def loss():
        (total, _), _ = ops.softmax_cross_entropy(graph.forward(x, train=True), labels)
        return total / len(x)

    for name, parameter in graph.trainable_parameters():
        direction, kept = rng.standard_normal(parameter.data.shape), parameter.data.copy()
        step = 1e-6 / np.linalg.norm(direction)
        losses = []
        for sign in (1, -1):
            parameter.data[...] = kept + sign * step * direction
            losses.append(loss())
        parameter.data[...] = kept
        slope = (losses[0] - losses[1]) / (2 * step)
        expected = (gradients[name] * direction).sum()
        np.testing.assert_allclose(slope, expected, rtol=1e-3, atol=1e-4 * np.linalg.norm(direction), err_msg=name)


# What new blocks begin with.


def grown(arch, shape, rng, **options):
    """A graph whose S2 was inserted as the options say, and what it answered to a batch before."""
    graph = Graph(shape, lambda shape: make_classifier(shape, 10, rng=rng))
    first, second = build(arch, shape, rng=rng, split="depth").values()
    graph.insert("S1", fuse(first))
    randomise(graph, rng)
    for layer in graph.layers():
        if isinstance(layer, BatchNorm2d):
            layer.gamma.data[...] = abs(layer.gamma.data)
    x, _ = batch(rng, shape, n=32)
    optimizer = SGD(0.1)
    before = graph.forward(x), graph.classifier, graph.classifier.state()["linear.weight"].copy()
    preserve_on = x if options.pop("identity", False) else None
    insert(graph, "S2", fuse(second), optimizer, preserve_on=preserve_on, **options)
    return graph, x, before


@pytest.mark.usefixtures("slim_vgg")
@pytest.mark.parametrize(
    ("arch", "shape"), [("resnet20", (16, 16, 3)), ("vgg16-bn", (32, 32, 3)), ("vgg16", (32, 32, 3))]
)
def test_identity_adds_nothing(arch, shape, rng):
    graph, x, (logits, classifier, weight) = grown(arch, shape, rng, lookahead=False, identity=True)
    np.testing.assert_allclose(graph.forward(x), logits, atol=1e-4 * abs(logits).max())
    assert graph.classifier is classifier
    np.testing.assert_allclose(classifier.state()["linear.weight"], weight, atol=1e-4)


def test_copies_of_the_block_below_where_they_fit(rng):
    graph, *_ = grown("resnet20", (8, 8, 3), rng, lookahead=True, copy=True)
    state = graph.state()

    def same(new, below):
        names = [name for name in state if name.startswith(f"{new}.")]
        assert names
        return {np.array_equal(state[name], state[name.replace(new, below)]) for name in names}

    assert same("S2.block1_2.body", "S1.block1_1.block.body") == {True}
    assert same("S2.block2_3.body", "S2.block2_2.body") == {True}
    for layer in ("conv2", "norm1", "norm2"):
        assert same(f"S2.block3_2.body.{layer}", f"S1.block3_1.body.{layer}") == {True}
    assert state["S2.block3_2.body.conv1.weight"].shape != state["S1.block3_1.body.conv1.weight"].shape
    assert state["S2.block3_2.body.conv1.weight"].std() > 0
    assert graph.boundary == 1
