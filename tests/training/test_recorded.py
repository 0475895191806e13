"""A step that is recorded and replayed learns exactly what the same step does call by call."""

import gc
import weakref

import numpy as np
import pytest

from incnet.backend import use
from incnet.fusion import fuse
from incnet.graph import Graph
from incnet.layers import AvgPool2d, Conv2d, LeakyReLU, ReLU, Sequential, residual_block
from incnet.models import make_classifier
from incnet.optim import SGD, RMSProp
from incnet.threads import use_threads
from incnet.training.replay import Replay
from incnet.training.step import Step
from tests.small_networks import grow

CLASSES = 10


def batches(shape, *sizes, dtype=np.float32):
    """Return batches of random images and labels, of these sizes."""
    rng = np.random.default_rng(0)
    return [(rng.normal(size=(n, *shape)).astype(dtype), rng.integers(0, CLASSES, n)) for n in sizes]


def replaying(step):
    """Whether the last step was recorded, or replayed."""
    return step._last is not None


def learn(step, data):
    """Take a step on each batch; return the totals of each."""
    totals = []
    for images, labels in data:
        totals.append(step.gradients(images, labels).copy())
        step.update()
    return totals


def assert_learns_the_same(make, course, optimizer=RMSProp):
    """Take a course twice, recorded and not: the same totals, weights, statistics and optimizer state, bit for bit."""
    found = []
    for record in (False, True):
        graph, learner = make(), optimizer(1e-3)
        step = Replay(Step(graph, learner)) if record else Step(graph, learner)
        totals = course(step)
        assert not record or replaying(step)
        found.append({"totals": np.array(totals), **graph.state(), **learner.arrays()})
    for name, array in found[0].items():
        np.testing.assert_array_equal(array, found[1][name], err_msg=name)


@pytest.mark.parametrize(
    ("arch", "shape"),
    [("resnet20", (32, 32, 3)), ("resnet8", (8, 8, 1)), ("vgg16", (32, 32, 3)), ("vgg16-bn", (32, 32, 3))],
)
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "layer by layer"])
def test_whole_networks(arch, shape, fused):
    """Dropout draws a new mask in every step, and batch norm moves its statistics."""
    data = batches(shape, 16, 16, 16)
    assert_learns_the_same(lambda: grow(arch, shape, fused=fused), lambda step: learn(step, data))


def test_layers_that_no_known_network_has():
    def make():
        rng = np.random.default_rng(0)
        graph = Graph((8, 8, 3), lambda shape: make_classifier(shape, CLASSES, rng=rng))
        layers = {"conv": Conv2d(3, 16, 3, padding=1, rng=rng), "relu": LeakyReLU(0.1), "pool": AvgPool2d(2)}
        graph.insert("S1", fuse(Sequential(layers)))
        return graph

    assert_learns_the_same(make, lambda step: learn(step, batches((8, 8, 3), 16, 7, 16, 7)))


@pytest.mark.parametrize(("arch", "shape", "n"), [("resnet8", (8, 8, 3), 40), ("vgg16-bn", (32, 32, 3), 5)])
def test_convolution_by_im2col(arch, shape, n):
    use("cpu", convolution="im2col")
    data = batches(shape, n, 7, n, 7, n)
    assert_learns_the_same(lambda: grow(arch, shape, fused=True), lambda step: learn(step, data))


def test_batches_that_threads_share():
    data = batches((32, 32, 3), 128, 128, 128)
    use_threads(None)
    try:
        assert_learns_the_same(lambda: grow("resnet8", (32, 32, 3), fused=True), lambda step: learn(step, data))
    finally:
        use_threads(1)


@pytest.mark.parametrize("optimizer", [RMSProp, SGD])
def test_float64(optimizer):
    """NumPy's operations are repeated as a whole."""
    data = batches((8, 8, 3), 7, 7, 7, dtype=np.float64)

    def make():
        return grow("resnet8", (8, 8, 3), dtype=np.float64, fused=True)

    assert_learns_the_same(make, lambda step: learn(step, data), optimizer)


def test_frozen_layers_between_others():
    """In look-ahead, and when all learn again."""
    data = batches((8, 8, 3), 16, 16, 16)

    def course(step):
        totals = []
        for boundary in (0, 1, 0):
            step.graph.freeze_prefix(boundary)
            totals += learn(step, data)
        return totals

    assert_learns_the_same(lambda: grow("resnet14", (8, 8, 3), split="depth", fused=True), course)


def test_sizes_that_take_turns():
    """They share their memory."""
    data = batches((8, 8, 3), 16, 7, 16, 7, 16)
    assert_learns_the_same(lambda: grow("resnet8", (8, 8, 3), fused=True), lambda step: learn(step, data))


@pytest.mark.parametrize("frozen_bn", ["eval", "batch"])
def test_growth(frozen_bn):
    """Freezing, unfreezing, a sub-network that comes in, features for images and a new rate: each is recorded anew."""

    def make():
        graph = grow("resnet8", (8, 8, 3), fused=True, frozen_bn=frozen_bn)
        graph.freeze_prefix(1)
        return graph

    def course(step):
        graph, data = step.graph, batches((8, 8, 3), 16, 16, 16)
        totals = learn(step, data)
        graph.freeze_prefix(2)
        totals += learn(step, data)
        if frozen_bn == "eval":
            step.from_features = True
            totals += learn(step, [(graph.features(images), labels) for images, labels in data])
            step.from_features = False
        graph.unfreeze()
        totals += learn(step, data)
        step.optimizer.lr /= 2
        totals += learn(step, data)
        graph.insert("S4", fuse(Sequential({"block": residual_block(64, 64, rng=np.random.default_rng(5))})))
        return totals + learn(step, data)

    assert_learns_the_same(make, course)


def test_an_optimizer_that_is_changed():
    """Its numbers by hand, and its state by what a checkpoint held."""
    data = batches((8, 8, 3), 16, 16)

    def course(step):
        graph, optimizer = step.graph, step.optimizer
        totals = learn(step, data)
        before = {name: array.copy() for name, array in optimizer.arrays().items()}
        optimizer.momentum = 0.5
        totals += learn(step, data)
        optimizer.load_arrays(before, dict(graph.trainable_parameters()))
        totals += learn(step, data)
        optimizer.forget("classifier")
        return totals + learn(step, data)

    assert_learns_the_same(lambda: grow("resnet8", (8, 8, 3), fused=True), course)


class Halved(RMSProp):
    """An optimizer that computes in NumPy."""

    def update(self, tensors):
        super().update([(data, gradient / 2, *rest) for data, gradient, *rest in tensors])


class Scaled(ReLU):
    """A layer that computes in NumPy."""

    def forward(self, x, train=False):
        return super().forward(2 * x, train)


class Stepwise(Step):
    """A step that computes in NumPy."""

    def backpropagate(self, images, labels):
        return super().backpropagate(images / 2, labels)


def test_what_others_wrote_is_not_recorded():
    """NumPy's part of it would not be repeated."""
    data, own = batches((8, 8, 3), 4, 4), grow("resnet8", (8, 8, 3), fused=True)
    foreign = grow("resnet8", (8, 8, 3))
    foreign.insert("S4", Sequential({"conv": residual_block(64, 64, rng=np.random.default_rng(0)), "relu": Scaled()}))
    for step in map(Replay, (Step(own, Halved()), Step(foreign, RMSProp()), Stepwise(own, RMSProp()))):
        learn(step, data)
        assert not replaying(step)
    step = Replay(Step(own, RMSProp()))
    learn(step, data)
    assert replaying(step)


def test_errors_leave_nothing_behind():
    """A batch that is refused while it is recorded, and one that is refused when it is repeated."""
    (images, labels), wrong = *batches((8, 8, 3), 4), np.array([0, 1, CLASSES, 3])

    def course(step):
        totals = []
        for given in (wrong, labels, labels, wrong, labels):
            if given is wrong:
                with pytest.raises(IndexError, match="labels"):
                    step.gradients(images, given)
            else:
                totals += learn(step, [(images, given)])
        return totals

    assert_learns_the_same(lambda: grow("resnet8", (8, 8, 3), fused=True), course)


def test_memory_is_shared_and_returned():
    """Recordings for several sizes work in the memory of the largest, which goes with them."""
    step = Replay(Step(grow("resnet20", (16, 16, 3), fused=True), RMSProp()))
    learn(step, batches((16, 16, 3), 64))
    alone = step._recorder.memory
    learn(step, batches((16, 16, 3), 63, 62, 33))
    assert step._recorder.memory < 1.5 * alone
    pool = weakref.ref(step._recorder._pool)
    gc.disable()
    try:
        step.optimizer.lr /= 2
        learn(step, batches((16, 16, 3), 64))
        held = [parameter.gradient for _, parameter in step.graph.trainable_parameters()]
        assert held
        assert pool() is None
    finally:
        gc.enable()


# What may change between two steps.


def vgg():
    """With a dense layer whose weights' gradient is left in factors."""
    return grow("vgg16", (32, 32, 3), fused=True)


def clipped_anew(parameter):
    parameter.grad = parameter.grad / 2


def clipped_in_place(parameter):
    parameter.grad *= 0.5


@pytest.mark.parametrize("change", [lambda parameter: parameter.grad, clipped_anew, clipped_in_place])
@pytest.mark.parametrize("when", [(0,), (1,), (0, 2)])
def test_gradients_that_are_read_or_changed(change, when):
    def course(step):
        totals = []
        for i, batch in enumerate(batches((32, 32, 3), 4, 4, 4, 4)):
            totals.append(step.gradients(*batch).copy())
            for _, parameter in step.graph.trainable_parameters():
                if i in when:
                    change(parameter)
            step.update()
        return totals

    assert_learns_the_same(vgg, course)


def test_a_rate_of_any_type():
    def course(step):
        totals = []
        for i, batch in enumerate(batches((8, 8, 3), 7, 7, 7)):
            step.optimizer.lr = np.float32(1e-3 / 2**i)
            totals += learn(step, [batch])
        return totals

    assert_learns_the_same(lambda: grow("resnet8", (8, 8, 3), fused=True), course)


def test_images_of_other_sizes():
    data = [*batches((8, 8, 3), 7, 7), *batches((12, 8, 3), 7, 7), *batches((8, 8, 3), 7)]
    assert_learns_the_same(lambda: grow("resnet8", (8, 8, 3), fused=True), lambda step: learn(step, data))


@pytest.mark.parametrize("fused", [True, False])
def test_a_layer_that_is_frozen_by_itself_stays_as_it_is(fused):
    def course(step):
        data = batches((8, 8, 3), 7, 7, 7)
        totals = learn(step, data)
        layer = step.graph.subnetworks["S2"].freeze()
        before = {name: array.copy() for name, array in layer.state().items()}
        totals += learn(step, data)
        for name, array in layer.state().items():
            np.testing.assert_array_equal(array, before[name], err_msg=name)
        layer.unfreeze()
        return totals + learn(step, data)

    assert_learns_the_same(lambda: grow("resnet8", (8, 8, 3), fused=fused), course)
