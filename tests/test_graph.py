"""The growing network: insertion, the boundary, and the proof that nothing below it is back-propagated."""

from itertools import pairwise

import numpy as np
import pytest

from incnet.backend import ops
from incnet.graph import Graph
from incnet.layer import Cost
from incnet.layers import BatchNorm2d, Conv2d, Dropout, Flatten, GlobalAvgPool2d, Linear, MaxPool2d, ReLU, Sequential
from incnet.models import make_classifier
from incnet.optim import RMSProp
from tests.counting import counted
from tests.metering import metering
from tests.small_networks import assert_same_state, grow, randomise, snapshot

N = 4


def images(rng, graph):
    (classes,) = graph.output_shape(graph.input_shape)
    return rng.standard_normal((N, *graph.input_shape), np.float32), rng.integers(classes, size=N)


def backward(graph, x, labels):
    """Forward, loss and backward; return the loss."""
    (total, _), dlogits = ops.softmax_cross_entropy(graph.forward(x, train=True), labels)
    graph.backward(dlogits)
    return total / len(x)


def step(graph, optimizer, x, labels):
    loss = backward(graph, x, labels)
    optimizer.step(graph.trainable_parameters())
    return loss


def gradients(layers):
    return [parameter.grad for layer in layers for parameter in layer.parameters()]


def count(layers, kind):
    return sum(isinstance(each, kind) for layer in layers for each in layer.layers())


# Insertion.


class TestInsert:
    @pytest.fixture
    def graph(self, rng):
        return Graph((8, 8, 3), lambda shape: make_classifier(shape, 5, rng=rng))

    def test_puts_the_new_one_on_top(self, graph, rng):
        first, second = Conv2d(3, 4, 3, rng=rng), Conv2d(4, 6, 3, rng=rng)
        graph.insert("S1", first)
        graph.insert("S2", second)
        assert list(graph.children().items()) == [("S1", first), ("S2", second), ("classifier", graph.classifier)]
        assert graph.output_shape((8, 8, 3)) == (5,)
        x = rng.standard_normal((2, 8, 8, 3), np.float32)
        expected = graph.classifier.forward(second.forward(first.forward(x)))
        np.testing.assert_array_equal(graph.forward(x), expected)

    def test_rebuilds_the_classifier_only_where_it_no_longer_fits(self, graph, rng):
        rebuilt, classifiers = [], [graph.classifier]
        for name, subnetwork in {
            "wider": Conv2d(3, 4, 3, rng=rng),
            "as wide": Conv2d(4, 4, 3, padding=1, rng=rng),
            "as wide, on smaller images": Sequential({"pool": MaxPool2d(2), "conv": Conv2d(4, 4, 1, rng=rng)}),
            "of another rank": Sequential({"flatten": Flatten(), "linear": Linear(36, 4, rng=rng)}),
            "of this rank": Linear(4, 4, rng=rng),
            "narrower": Linear(4, 2, rng=rng),
        }.items():
            rebuilt.append(graph.insert(name, subnetwork))
            classifiers.append(graph.classifier)
            assert graph.forward(np.zeros((1, 8, 8, 3), np.float32)).shape == (1, 5)
        assert rebuilt == [True, False, False, True, False, True]
        changed = [new is not old for old, new in pairwise(classifiers)]
        assert changed == rebuilt

    def test_rebuilds_a_classifier_that_depends_on_the_size_of_the_image(self, rng):
        def flat(shape):
            return Sequential({"flatten": Flatten(), "linear": Linear(int(np.prod(shape)), 5, rng=rng)})

        graph = Graph((8, 8, 3), flat)
        assert graph.insert("S1", Conv2d(3, 3, 3, rng=rng))
        assert not graph.insert("S2", Conv2d(3, 3, 1, rng=rng))

    def test_refuses_what_cannot_be_a_subnetwork(self, graph, rng):
        graph.insert("S1", Conv2d(3, 4, 3, rng=rng))
        before, classifier = graph.children(), graph.classifier
        for name, subnetwork, message in [
            ("S1", Conv2d(4, 4, 3, rng=rng), "a sub-network named 'S1' is already in"),
            ("classifier", Conv2d(4, 4, 3, rng=rng), "named 'classifier' is already in"),
            ("S2", Sequential({"pool": MaxPool2d(2), "drop": Dropout(0.5, rng=rng)}), "'S2' has no trainable layer"),
            ("S2", Conv2d(4, 4, 3, rng=rng).freeze(), "'S2' has no trainable layer"),
            ("S2", Conv2d(5, 4, 3, rng=rng), "expects images of 5 channels"),
            ("S2", Conv2d(4, 4, 9, rng=rng), "does not fit into an input"),
        ]:
            with pytest.raises(ValueError, match=message):
                graph.insert(name, subnetwork)
            assert graph.children() == before
            assert graph.classifier is classifier

    def test_a_graph_of_nothing_but_a_classifier_trains(self, graph, rng):
        assert backward(graph, *images(rng, graph)) > 0
        assert all(grad is not None for grad in gradients([graph.classifier]))
        assert graph.cost(graph.input_shape) == Cost(15, 15, 0)


# The boundary.


class TestBoundary:
    def test_out_of_range_is_an_error(self):
        graph = grow("resnet20", (8, 8, 1))
        for wrong in (-1, 4):
            with pytest.raises(ValueError, match=rf"cannot freeze {wrong} of 3 sub-networks"):
                graph.freeze_prefix(wrong)
        assert graph.boundary == 0

    def test_an_unknown_mode_is_an_error(self):
        with pytest.raises(ValueError, match="frozen_bn 'train': choose 'eval' or 'batch'"):
            Graph((8, 8, 1), lambda shape: None, frozen_bn="train")

    @pytest.mark.parametrize("boundary", range(4))
    def test_divides_the_network(self, boundary):
        graph = grow("resnet20", (8, 8, 1))
        graph.freeze_prefix(boundary)
        names = ["S1", "S2", "S3", "classifier"]
        assert [layer in graph.prefix for layer in graph.subnetworks.values()] == [i < boundary for i in range(3)]
        assert graph.prefix + graph.suffix == list(graph.subnetworks.values())
        trainable = {name.partition(".")[0] for name, _ in graph.trainable_parameters()}
        assert trainable == set(names[boundary:])
        for i, layer in enumerate(graph.children().values()):
            assert {each.frozen for each in layer.layers()} == {i < boundary}

    def test_moves_down_as_well(self):
        graph = grow("resnet20", (8, 8, 1))
        graph.freeze_prefix(3)
        graph.freeze_prefix(1)
        assert not any(layer.frozen for part in graph.suffix for layer in part.layers())
        graph.freeze_prefix(0)
        assert not any(layer.frozen for layer in graph.layers())

    def test_freezing_keeps_every_name(self):
        graph = grow("resnet20", (8, 8, 1))
        names = list(graph.state())
        graph.freeze_prefix(2)
        assert list(graph.state()) == names


# Proof of freezing. For each network: kernel calls of the convolutions and batch norms above the boundary, counted from
# the architecture by hand: ResNet-20 has 7 convolutions in its first stage and 6 in each of the others, VGG-16 has
# 2, 2, 3, 3, 3 and then two dense layers.

PROOFS = [
    ("resnet20", (16, 16, 3), {"conv2d": 19}, {1: 12, 2: 6, 3: 0}),
    ("vgg16", (32, 32, 3), {"conv2d": 13}, {1: 11, 3: 6, 5: 0, 6: 0}),
    ("vgg16-bn", (16, 16, 1), {"conv2d": 13}, {2: 9, 5: 0}),
]


@pytest.mark.usefixtures("backend", "slim_vgg")
@pytest.mark.parametrize("frozen_bn", ["eval", "batch"])
@pytest.mark.parametrize(
    ("arch", "shape", "forward", "boundary", "trained"),
    [
        pytest.param(arch, shape, forward, boundary, trained, id=f"{arch}-{boundary}")
        for arch, shape, forward, boundaries in PROOFS
        for boundary, trained in boundaries.items()
    ],
)
def test_proof_of_freezing(arch, shape, forward, boundary, trained, frozen_bn, rng, monkeypatch):
    graph = randomise(grow(arch, shape, frozen_bn=frozen_bn), rng)
    optimizer = RMSProp(lr=1e-3)
    step(graph, optimizer, *images(rng, graph))
    graph.freeze_prefix(boundary)
    before = [snapshot(subnetwork) for subnetwork in graph.prefix]
    above = snapshot(graph)
    state = {name: {slot: a.copy() for slot, a in slots.items()} for name, slots in optimizer.state.items()}

    def refuse(*args, **kwargs):
        raise AssertionError("backward was called below the boundary")

    for subnetwork in graph.prefix:
        for layer in subnetwork.layers():
            monkeypatch.setattr(layer, "backward", refuse)

    x, labels = images(rng, graph)
    with counted() as calls:
        logits = graph.forward(x, train=True)
        assert not any(subnetwork.holds_activations for subnetwork in graph.prefix)
        assert all(subnetwork.holds_activations for subnetwork in graph.suffix)
    assert {name: n for name, n in calls.items() if name.startswith("conv")} == forward
    on_batch = count(graph.suffix if frozen_bn == "eval" else graph.subnetworks.values(), BatchNorm2d)
    assert calls["batch_norm_stats"] == on_batch
    assert not [name for name in calls if name.endswith("grad")]

    _, dlogits = ops.softmax_cross_entropy(logits, labels)
    with counted() as calls:
        graph.backward(dlogits)
    norms = count(graph.suffix, BatchNorm2d)
    dense = count(graph.suffix, Linear)
    assert norms == (trained if arch != "vgg16" else 0)
    biases = dense + 1 + (trained if arch == "vgg16" else 0)
    assert calls["conv2d_weight_grad"] == trained
    # The lowest trainable layer hands no gradient on.
    assert calls["conv2d_input_grad"] == max(trained - 1, 0)
    assert calls["batch_norm_grad"] == norms
    assert calls["batch_norm_fixed_grad"] == calls["conv2d"] == calls["batch_norm_stats"] == 0
    assert calls["bias_grad"] == biases
    assert calls["relu_grad"] == count(graph.suffix, ReLU)
    # Shortcut A changes the shape at the foot of S2 and S3; at the boundary nobody asks for its gradient.
    assert calls["subsample_grad"] == (max(2 - boundary, 0) if arch == "resnet20" else 0)
    # Pooling lies on top of each stage of VGG, so all of it in the suffix is passed.
    assert calls["max_pool_grad"] == count(graph.suffix, MaxPool2d)
    assert calls["global_avg_pool_grad"] == (1 if graph.suffix and count([graph.classifier], GlobalAvgPool2d) else 0)
    assert not graph.holds_activations

    optimizer.step(graph.trainable_parameters())
    for _ in range(2):
        step(graph, optimizer, *images(rng, graph))
    for subnetwork, then in zip(graph.prefix, before, strict=True):
        # With batch statistics the prefix runs in training mode, and dropout's seeds count the passes.
        moved = {name: a for name, a in subnetwork.named_buffers() if name.endswith("seed") and frozen_bn == "batch"}
        assert_same_state(subnetwork, then | moved)
        assert set(gradients([subnetwork])) <= {None}
    names = {name for name, _ in graph.trainable_parameters()}
    assert names
    for name, array in graph.state().items():
        if name in names:
            assert not np.array_equal(array, above[name]), f"{name} does not learn"
    for name, slots in state.items():
        if name not in names:
            assert all(optimizer.state[name][slot].tobytes() == a.tobytes() for slot, a in slots.items())


@pytest.mark.usefixtures("slim_vgg")
@pytest.mark.parametrize("frozen_bn", ["eval", "batch"])
@pytest.mark.parametrize("arch", ["resnet20", "vgg16-bn"])
def test_gradients_above_the_boundary_are_those_of_the_whole_network(arch, frozen_bn, rng):
    """The same network, nothing frozen but the prefix's statistics: everything above gets the same bits."""
    graph, whole = (randomise(grow(arch, (16, 16, 3), frozen_bn=frozen_bn), np.random.default_rng(1)) for _ in range(2))
    graph.freeze_prefix(2)
    for subnetwork in list(whole.subnetworks.values())[:2]:
        for layer in subnetwork.layers():
            if isinstance(layer, BatchNorm2d) and frozen_bn == "eval":
                layer.freeze()  # with frozen_statistics "eval", as it was built
    x, labels = images(rng, graph)
    assert backward(graph, x, labels) == backward(whole, x, labels)
    boundary = len(gradients(graph.prefix))
    expected = gradients(whole.subnetworks.values())[boundary:] + gradients([whole.classifier])
    found = gradients(graph.suffix) + gradients([graph.classifier])
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert any(grad is not None for grad in gradients(whole.subnetworks.values())[:boundary])


@pytest.mark.parametrize("frozen_bn", ["eval", "batch"])
def test_the_prefix_normalises_as_it_was_told(frozen_bn, rng):
    """With running statistics it is a fixed function of each image; with those of the batch it is not."""
    graph = randomise(grow("resnet20", (8, 8, 1), frozen_bn=frozen_bn), rng)
    graph.freeze_prefix(3)
    x, _ = images(rng, graph)
    together = graph.forward(x, train=True)
    alone = np.concatenate([graph.forward(each[None], train=True) for each in x])
    np.testing.assert_array_equal(graph.forward(x), graph.forward(x))
    assert np.allclose(together, alone, atol=1e-4) == (frozen_bn == "eval")
    assert np.allclose(together, graph.forward(x), atol=1e-5) == (frozen_bn == "eval")


@pytest.mark.usefixtures("slim_vgg")
@pytest.mark.parametrize("arch", ["resnet20", "vgg16-bn"])
def test_unfrozen_everything_trains_again_from_the_kept_state(arch, rng):
    graph = grow(arch, (16, 16, 3))
    optimizer = RMSProp(lr=1e-3, weight_decay=0)
    step(graph, optimizer, *images(rng, graph))
    graph.freeze_prefix(2)
    step(graph, optimizer, *images(rng, graph))
    before = snapshot(graph)
    velocities = {name: slots["velocity"].copy() for name, slots in optimizer.state.items()}
    squares = {name: slots["square"].copy() for name, slots in optimizer.state.items()}

    assert graph.unfreeze() is graph
    assert graph.boundary == 0
    assert [name for name, _ in graph.trainable_parameters()] == [name for name, _ in graph.named_parameters()]
    step(graph, optimizer, *images(rng, graph))
    for name, parameter in graph.named_parameters():
        square = 0.9 * squares[name] + 0.1 * parameter.grad**2
        velocity = 0.9 * velocities[name] + parameter.grad / (np.sqrt(square) + 1e-7)
        np.testing.assert_allclose(parameter.data, before[name] - 1e-3 * velocity, rtol=1e-4, atol=1e-6, err_msg=name)
    for name, _ in graph.named_buffers():
        if not name.endswith("seed"):
            assert not np.array_equal(graph.state()[name], before[name]), f"{name} does not move"


def test_growing_keeps_the_optimizer_state_of_what_was_there(rng):
    grown = grow("resnet20", (8, 8, 1))
    subnetworks = dict(grown.subnetworks)
    graph = Graph((8, 8, 1), lambda shape: make_classifier(shape, 10, rng=rng))
    optimizer = RMSProp(lr=1e-3)
    for name, subnetwork in subnetworks.items():
        kept = {n: {slot: a.copy() for slot, a in s.items()} for n, s in optimizer.state.items()}
        if graph.insert(name, subnetwork):
            optimizer.forget("classifier.")
        graph.freeze_prefix(len(graph.subnetworks) - 1)
        step(graph, optimizer, *images(rng, graph))
        for old in kept:
            if not old.startswith("classifier."):
                assert all(np.array_equal(optimizer.state[old][slot], a) for slot, a in kept[old].items())
        graph.unfreeze()
        step(graph, optimizer, *images(rng, graph))
    assert set(optimizer.state) == {name for name, _ in graph.named_parameters()}


# The ledger.


@pytest.mark.usefixtures("backend", "slim_vgg")
@pytest.mark.parametrize("frozen_bn", ["eval", "batch"])
@pytest.mark.parametrize(
    ("arch", "shape", "boundaries"), [("resnet20", (9, 7, 2), range(4)), ("vgg16", (32, 32, 3), range(7))]
)
def test_the_ledger_is_what_the_kernels_do(arch, shape, boundaries, frozen_bn, rng):
    graph = grow(arch, shape, frozen_bn=frozen_bn)
    x, labels = images(rng, graph)
    for boundary in boundaries:
        graph.freeze_prefix(boundary)
        with metering() as meter:
            backward(graph, x, labels)
        assert meter.cost(N) == graph.cost(shape), f"{boundary} frozen"
        with metering() as meter:
            graph.forward(x)
        assert meter.cost(N) == Cost(forward=graph.macs(shape))


def test_freezing_saves_what_it_should():
    """ResNet-20 on CIFAR-10: the look-ahead of S3 costs less than half of a step of the whole network."""
    graph = grow("resnet20", (32, 32, 3))
    whole = graph.cost((32, 32, 3))
    assert whole.forward == whole.weight_grad == 40_551_040
    assert whole.input_grad == whole.forward - 32 * 32 * 27 * 16  # all but the stem's
    graph.freeze_prefix(2)
    ahead = graph.cost((32, 32, 3))
    third = graph.subnetworks["S3"].cost((16, 16, 32))
    classifier = 640
    assert ahead.forward == whole.forward
    assert ahead.weight_grad == third.forward + classifier
    assert ahead.input_grad == third.forward - 8 * 8 * 9 * 32 * 64 + classifier
    assert ahead.total < 0.55 * whole.total
