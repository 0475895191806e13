"""Fused chains compute what the textbook layers compute."""

import numpy as np
import pytest

from incnet import backend
from incnet.backend import ops
from incnet.fusion import ConvNormReLU, ConvReLU, Dense, FusedSequential, Plain, ResidualBlock, fuse
from incnet.graph import Graph
from incnet.kernels.cpu import memory
from incnet.kernels.cpu.blocks import Pool
from incnet.kernels.operands import OuterProduct
from incnet.layers import BatchNorm2d, Conv2d, Linear, MaxPool2d, ReLU, Sequential, residual_block
from incnet.models import build, make_classifier
from incnet.optim import SGD, RMSProp
from tests.counting import counted

CASES = [
    ("resnet8", (32, 32, 3), "filters"),
    ("resnet20", (8, 8, 1), "filters"),
    ("resnet14", (15, 13, 3), "blocks"),
    ("vgg16", (8, 8, 3), "filters"),
    ("vgg16-bn", (16, 16, 3), 4),
]


def network(arch, shape, split, dtype, fused):
    """The whole network with random scales and shifts, fused or not; the same weights either way."""
    rng = np.random.default_rng(0)
    graph = Graph(shape, lambda s: make_classifier(s, 10, rng=np.random.default_rng(1), dtype=dtype))
    for name, subnetwork in build(arch, shape, rng=rng, split=split, dtype=dtype).items():
        for layer in subnetwork.layers():
            if isinstance(layer, BatchNorm2d):
                layer.gamma.data[...] = rng.uniform(0.5, 1.5, layer.gamma.data.shape)
                layer.beta.data[...] = rng.uniform(-0.5, 0.5, layer.beta.data.shape)
        graph.insert(name, fuse(subnetwork) if fused else subnetwork)
    return graph


def step(graph, shape, dtype, n=5):
    """Totals, gradients, state and evaluation after one training pass."""
    rng = np.random.default_rng(2)
    x, labels = rng.standard_normal((n, *shape)).astype(dtype), rng.integers(0, 10, n)
    totals, dlogits = ops.softmax_cross_entropy(graph.forward(x, train=True), labels)
    graph.backward(dlogits)
    gradients = {name: p.grad for name, p in graph.named_parameters()}
    return totals, gradients, graph.state(), graph.forward(x)


def difference(a, b):
    """Relative distance."""
    return np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-30)


@pytest.mark.parametrize(("name", "dtype", "tolerance"), [
    ("reference", np.float64, 1e-12),
    ("cpu", np.float64, 1e-12),
    ("cpu", np.float32, 5e-5),
])  # fmt: skip
@pytest.mark.parametrize(("arch", "shape", "split"), CASES)
def test_training_and_evaluation_equal_the_textbook_layers(name, dtype, tolerance, arch, shape, split):
    before = backend.ops.name
    backend.use(name)
    try:
        fused, plain = (step(network(arch, shape, split, dtype, f), shape, dtype) for f in (True, False))
    finally:
        backend.use(before)
    assert fused[0][0] == pytest.approx(plain[0][0], rel=tolerance)
    assert fused[1].keys() == plain[1].keys()
    for kind in (1, 2):
        worst = max(plain[kind], key=lambda n: difference(fused[kind][n], plain[kind][n]))
        assert difference(fused[kind][worst], plain[kind][worst]) < tolerance, worst
    assert difference(fused[3], plain[3]) < tolerance


@pytest.mark.parametrize("arch", ["resnet20", "vgg16-bn"])
def test_fused_lookahead_leaves_the_prefix_alone(arch):
    graph = network(arch, (16, 16, 3), "filters", np.float32, fused=True)
    graph.freeze_prefix(2)
    before = {name: array.copy() for name, array in graph.state().items() if name.startswith(("S1.", "S2."))}
    with counted() as calls:
        step(graph, (16, 16, 3), np.float32)
    assert all(np.array_equal(array, graph.state()[name]) for name, array in before.items())
    convolutions = sum(isinstance(layer, Conv2d) for part in graph.suffix for layer in part.layers())
    # All but the lowest have both gradients, some in one call; the lowest has no input gradient.
    assert calls["fused_weight_grad"] + calls["masked_grads"] == convolutions
    assert calls["fused_input_grad"] + calls["masked_grads"] == convolutions - 1
    assert all(p.grad is None for part in graph.prefix for p in part.parameters())


def test_a_frozen_prefix_follows_every_change_of_its_state():
    """Its batch norm is part of its convolutions; whatever is changed, and however, the next step sees it."""
    rng = np.random.default_rng(0)
    fused, plain = (network("resnet8", (8, 8, 3), "filters", np.float32, f) for f in (True, False))
    x = rng.standard_normal((4, 8, 8, 3)).astype(np.float32)

    def in_place(graph, name):
        array = graph.state()[name]
        array[...] = array * 1.5 + 0.1

    def replaced(graph, name):
        layer = dict(graph.named_parameters())[name]
        layer.data = layer.data * 0.5

    def loaded(graph, name):
        graph.load_state({key: array * 1.25 for key, array in graph.state().items()})

    def trained(graph, name):
        graph.unfreeze()
        step(graph, (8, 8, 3), np.float32)
        graph.freeze_prefix(2)

    names = [name for name in plain.state() if name.startswith("S1.")]
    weights = [name for name, _ in plain.named_parameters() if name.startswith("S1.")]
    changes = [(in_place, name) for name in names] + [(replaced, name) for name in weights]
    for graph in (fused, plain):
        graph.freeze_prefix(2)
    before = fused.forward(x, train=True)
    for change, name in [*changes, (loaded, ""), (trained, "")]:
        for graph in (fused, plain):
            change(graph, name)
        after, expected = (graph.forward(x, train=True) for graph in (fused, plain))
        assert difference(after, expected) < 1e-5, (change.__name__, name)
        assert difference(after, before) > 1e-4, (change.__name__, name)
        before = after


def test_a_frozen_prefix_runs_in_two_buffers(monkeypatch):
    pool = Pool()
    monkeypatch.setattr(memory, "POOL", pool)
    (first, *_) = build("resnet20", (32, 32, 3), rng=np.random.default_rng(0)).values()
    prefix = fuse(first).freeze()
    x = np.ones((256, 32, 32, 3), np.float32)
    before = x.copy()
    output = prefix.forward(x)
    assert 2 * output.nbytes < pool.peak_allocated < 2.2 * output.nbytes  # the rest is the kernels' scratch
    assert np.array_equal(x, before)


@pytest.mark.parametrize("arch", ["resnet20", "vgg16"])
def test_a_steady_lookahead_step_asks_the_system_for_no_memory(arch, monkeypatch):
    """A prefix of ever smaller images, in two blocks, and nothing that is freed in one step is made in the next."""
    pool = Pool()
    monkeypatch.setattr(memory, "POOL", pool)
    memory.WORKSPACE.free()  # what other tests have left does not count here
    graph = network(arch, (32, 32, 3), "filters", np.float32, fused=True)
    graph.freeze_prefix(len(graph.subnetworks) - 1)
    made = []
    for _ in range(8):
        dlogits = graph.forward(np.ones((16, 32, 32, 3), np.float32), train=True)
        graph.backward(dlogits)
        made.append(pool.made)
    assert made[0] > 0
    assert made[3:] == made[3:4] * 5


def test_fused_prefix_on_batch_statistics_is_the_textbook_one():
    fused, plain = (network("resnet8", (8, 8, 3), "filters", np.float64, f) for f in (True, False))
    for graph in (fused, plain):
        graph.frozen_bn = "batch"
        graph.freeze_prefix(2)
    outputs = [step(graph, (8, 8, 3), np.float64)[1] for graph in (fused, plain)]
    for name, gradient in outputs[1].items():
        if gradient is not None:
            np.testing.assert_allclose(outputs[0][name], gradient, rtol=1e-9, atol=1e-12)


def test_input_gradient_of_a_fused_chain():
    rng = np.random.default_rng(0)
    layers = {"conv": Conv2d(3, 16, 3, padding=1, bias=False, rng=rng, dtype=np.float64)}
    layers |= {"norm": BatchNorm2d(16, dtype=np.float64), "relu": ReLU(), "pool": MaxPool2d(2)}
    layers |= {"block": residual_block(16, 32, stride=2, shortcut="B", rng=rng, dtype=np.float64)}
    plain = Sequential(layers)
    x = rng.standard_normal((4, 8, 8, 3))
    dy = rng.standard_normal((4, 2, 2, 32))
    plain.forward(x, train=True)
    expected = plain.backward(dy)
    fused = fuse(plain)
    fused.forward(x, train=True)
    np.testing.assert_allclose(fused.backward(dy), expected, rtol=1e-9, atol=1e-12)
    assert not fused.holds_activations
    with pytest.raises(RuntimeError, match="nothing to go back through"):
        fused.backward(dy)


def test_plan_finds_the_patterns():
    rng = np.random.default_rng(0)
    (first, *_) = build("resnet20", (32, 32, 3), rng=rng).values()
    fused = fuse(first)
    assert isinstance(fused, FusedSequential)
    assert [type(s) for s in fused.steps] == [ConvNormReLU, ResidualBlock, ResidualBlock, ResidualBlock]
    vgg = build("vgg16", (32, 32, 3), rng=rng)
    assert [type(s) for s in fuse(vgg["S1"]).steps] == [ConvReLU, ConvReLU, Plain]
    assert [type(s) for s in fuse(vgg["S6"]).steps] == [Plain, *2 * [Dense, Plain, Plain]]


def dense_chain(fused):
    rng = np.random.default_rng(0)
    layers = {"first": Linear(512, 1024, rng=rng), "relu": ReLU(), "second": Linear(1024, 512, rng=rng)}
    return fuse(Sequential(layers)) if fused else Sequential(layers)


@pytest.mark.parametrize("optimizer", [RMSProp, SGD])
@pytest.mark.parametrize("n", [1, 7, 32])
def test_dense_layers_learn_the_bits_of_the_textbook_ones(n, optimizer):
    rng = np.random.default_rng(1)
    fused, plain = dense_chain(True), dense_chain(False)
    steps = [(chain, optimizer(1e-3)) for chain in (fused, plain)]
    for _ in range(3):
        x, dy = rng.standard_normal((n, 512), np.float32), rng.standard_normal((n, 512), np.float32)
        for chain, each in steps:
            chain.forward(x, train=True)
            chain.backward(dy)
            each.step(chain.named_parameters())
    weights = [parameter for parameter in fused.parameters() if parameter.decay]
    assert all(isinstance(weight.gradient, OuterProduct) for weight in weights)
    for (name, ours), theirs in zip(fused.named_parameters(), plain.parameters(), strict=True):
        np.testing.assert_array_equal(ours.data, theirs.data, err_msg=name)
        np.testing.assert_array_equal(ours.grad, theirs.grad, err_msg=name)
    assert all(isinstance(weight.gradient, np.ndarray) for weight in weights)  # multiplied, once somebody asks


def test_the_product_is_left_to_the_optimizer():
    """No array as large as the weights is made by a step."""
    x, dy = np.ones((32, 512), np.float32), np.ones((32, 512), np.float32)
    chain, optimizer = dense_chain(True), RMSProp()
    with counted() as calls:
        chain.forward(x, train=True)
        chain.backward(dy)
        optimizer.step(chain.named_parameters())
    assert calls["factored_weight_grad"] == 2
    assert calls["linear_weight_grad"] == 0


def test_names_and_state_are_the_textbook_ones():
    rng = np.random.default_rng(0)
    chain = build("resnet8", (8, 8, 1), rng=rng)["S1"]
    assert fuse(chain).state().keys() == chain.state().keys()


# State that must not go stale.


def chain():
    rng = np.random.default_rng(0)
    conv = Conv2d(3, 16, 3, padding=1, bias=False, rng=rng)
    return Sequential({"pool": MaxPool2d(2), "conv": conv, "norm": BatchNorm2d(16), "relu": ReLU()})


def images(seed):
    return np.random.default_rng(seed).standard_normal((2, 8, 8, 3), np.float32)


def test_layers_that_were_frozen_when_they_were_fused_learn_once_they_are_not():
    lone = Sequential({"conv": Conv2d(3, 4, 3, rng=np.random.default_rng(0)), "norm": BatchNorm2d(4)}).freeze()
    fused = fuse(lone).unfreeze()
    fused.backward(np.ones_like(fused.forward(images(0), train=True)), need_dx=False)
    assert all(parameter.grad is not None for parameter in fused.parameters())


def test_a_pass_with_a_frozen_layer_forgets_the_fused_one_before():
    fused, plain = fuse(chain()), chain()
    for each in (fused, plain):
        each.forward(images(0), train=True)  # moves the statistics, too
        each.children()["norm"].freeze()
    dy = np.ones_like(fused.forward(images(1), train=True))
    plain.forward(images(1), train=True)
    np.testing.assert_allclose(fused.backward(dy), plain.backward(dy), rtol=0, atol=1e-6)
    assert fused.children()["norm"].gamma.grad is None


def test_nothing_is_held_below_the_lowest_layer_that_learns():
    fused = fuse(chain())
    fused.backward(np.ones_like(fused.forward(images(0), train=True)), need_dx=False)
    assert not fused.holds_activations
