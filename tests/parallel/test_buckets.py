"""Buckets of gradients: what is in them, when they leave, and what comes back; by a communicator that takes notes."""

import numpy as np
import pytest

from incnet.backend import ops
from incnet.communicator import Communicator
from incnet.kernels.operands import OuterProduct
from incnet.parallel.buckets import GradientSum
from incnet.parameter import Parameter
from tests.small_networks import grow


class Twins(Communicator):
    """Two ranks of which the other one always has the same: a sum is twice the array. Notes what happens, in order."""

    size = 2

    def __init__(self):
        super().__init__()
        self.events = []

    def allreduce_async(self, array):
        number = sum(event[0] == "start" for event in self.events)
        self.events.append(("start", number, array.nbytes))
        return Sum(self, array, number)


class Sum:
    def __init__(self, communicator, array, number):
        self.communicator, self.array, self.number = communicator, array, number

    def progress(self):
        self.communicator.events.append(("progress", self.number))

    def wait(self):
        self.communicator.events.append(("wait", self.number))
        self.array *= 2


def parameters(*sizes, dtype=np.float32):
    return [Parameter(np.zeros(size, dtype)) for size in sizes]


def backward(some):
    """Assign gradients from the last parameter to the first."""
    for number, parameter in reversed(list(enumerate(some))):
        parameter.grad = np.full(parameter.data.shape, number + 1, parameter.data.dtype)


def test_buckets_leave_while_backward_goes_on():
    ranks, some = Twins(), parameters(16, 16, 16, 16, 16)
    sums = GradientSum(ranks, bucket_bytes=128)
    sums.begin(some)
    backward(some)
    assert ranks.events == [
        ("start", 0, 128),
        ("progress", 0),
        ("progress", 0),
        ("start", 1, 128),
        ("progress", 0),
        ("progress", 1),
        ("start", 2, 64),
    ]
    sums.finish()
    assert ranks.events[-3:] == [("wait", 0), ("wait", 1), ("wait", 2)]
    assert [parameter.grad[0] for parameter in some] == [2, 4, 6, 8, 10]


def test_a_full_bucket_waits_for_those_before_it():
    ranks, some = Twins(), parameters(16, 16, 16, 16)
    sums = GradientSum(ranks, bucket_bytes=128)
    sums.begin(some)
    for index in (0, 1, 3):
        some[index].grad = np.ones(16, np.float32)
    assert ranks.events == []
    some[2].grad = np.ones(16, np.float32)
    assert [event[:2] for event in ranks.events] == [("start", 0), ("start", 1)]


def test_a_gradient_in_factors_travels_multiplied():
    rng = np.random.default_rng(0)
    ranks, some = Twins(), [Parameter(np.zeros((16, 32), np.float32)) for _ in range(2)]
    sums = GradientSum(ranks)
    sums.begin(some)
    x, dy = rng.standard_normal((2, 16), np.float32), rng.standard_normal((2, 32), np.float32)
    for parameter in reversed(some):
        parameter.grad = OuterProduct(x, dy)
    sums.finish()
    for parameter in some:
        np.testing.assert_allclose(parameter.gradient, 2 * (x.T @ dy), rtol=1e-6)


def test_a_large_gradient_travels_by_itself_and_uncopied():
    ranks, some = Twins(), parameters(16, 1000, 16)
    sums = GradientSum(ranks, bucket_bytes=128)
    sums.begin(some)
    large = np.ones(1000, np.float32)
    some[2].grad, some[1].grad, some[0].grad = np.ones(16, np.float32), large, np.ones(16, np.float32)
    sums.finish()
    assert some[1].grad is large
    assert large[0] == 2
    assert sums.bytes == 64 + 4000 + 64


def test_gradients_stay_aligned_and_types_apart():
    some = [*parameters(10, 3), *parameters(7, dtype=np.float64)]
    sums = GradientSum(Twins())
    for _ in range(3):
        sums.begin(some)
        backward(some)
        sums.finish()
        for number, parameter in enumerate(some):
            assert parameter.grad.dtype == parameter.data.dtype
            np.testing.assert_array_equal(parameter.grad, 2 * (number + 1))
    assert len(sums.buckets) == 2
    assert (some[1].grad.ctypes.data - some[0].grad.ctypes.data) % 64 == 0
    assert all(parameter.on_grad is None for parameter in some)


def test_what_is_trained_may_change():
    ranks, some = Twins(), parameters(16, 16, 16)
    sums = GradientSum(ranks)
    for trained in (some, some[2:], some):
        ranks.events.clear()
        sums.begin(trained)
        backward(trained)
        sums.finish()
        assert ranks.events[0] == ("start", 0, 64 * len(trained))


def test_a_missing_gradient_is_an_error():
    some = parameters(16, 16)
    sums = GradientSum(Twins())
    sums.begin(some)
    some[1].grad = np.zeros(16, np.float32)
    with pytest.raises(RuntimeError, match="no gradient"):
        sums.finish()


def test_a_gradient_that_is_assigned_twice_is_an_error():
    some = parameters(16, 16)
    sums = GradientSum(Twins())
    sums.begin(some)
    some[1].grad = np.zeros(16, np.float32)
    with pytest.raises(RuntimeError, match="twice"):
        some[1].grad = np.zeros(16, np.float32)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("frozen", [0, 2])
def test_every_bucket_but_the_last_leaves_before_backward_is_over(fused, frozen, rng):
    graph, ranks = grow("resnet14", (8, 8, 3), fused=fused), Twins()
    graph.freeze_prefix(frozen)
    images, labels = rng.standard_normal((4, 8, 8, 3)).astype(np.float32), np.arange(4)
    sums = GradientSum(ranks, bucket_bytes=4096)
    _, dlogits = ops.softmax_cross_entropy(graph.forward(images, train=True), labels)
    trained = dict(graph.trainable_parameters())
    sums.begin(list(trained.values()))
    graph.backward(dlogits)
    started = [event for event in ranks.events if event[0] == "start"]
    assert len(started) == len(sums.buckets) > 5
    # Of the gradients that came, in which order: buckets are cut in about that order, so each leaves early.
    last = ranks.events.index(started[-1])
    assert ranks.events.index(started[len(started) // 2]) < 0.8 * last
    assert sum(event[2] for event in started) == sums.bytes
    assert sums.bytes <= 1.05 * sum(parameter.data.nbytes for parameter in trained.values())
    sums.finish()
