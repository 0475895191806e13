"""Networks whose convolutions are computed by im2col: the same numbers, by another way, which is really taken."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from incnet.backend import ops, substituted, use
from incnet.fusion import FusedSequential, fuse
from incnet.kernels import cpu
from incnet.kernels.shapes import OPERATIONS
from incnet.layers import Sequential
from incnet.models import build
from incnet.optim import SGD
from incnet.training.replay import Replay
from incnet.training.step import Step
from tests.counting import counted
from tests.small_networks import grow


def losses(arch, shape, steps=4, n=16):
    """Losses of a few training steps, on random images."""
    rng = np.random.default_rng(0)
    images, labels = rng.standard_normal((n, *shape), np.float32), rng.integers(0, 10, n)
    step, found = Replay(Step(grow(arch, shape, fused=True), SGD(1e-2))), []
    for _ in range(steps):
        found.append(float(step.gradients(images, labels)[0]) / n)
        step.update()
    return found


@pytest.mark.parametrize("name", ["reference", "cpu"])
@pytest.mark.parametrize(("arch", "shape"), [("resnet20", (16, 16, 3)), ("vgg16", (8, 8, 3))])
def test_it_learns_as_it_does_without(name, arch, shape):
    use(name)
    expected = losses(arch, shape)
    use(name, convolution="im2col")
    found = losses(arch, shape)
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    assert found == pytest.approx(expected, rel=1e-4)
    assert len(set(found)) == len(found)  # it learns, after all


def test_every_convolution_of_a_step_is_computed_so():
    """By the backend's im2col, col2im and dense products, and by nothing else that convolves."""
    called = Counter()

    def watched(name, kernel):
        def watching(*arguments, **options):
            called[name] += 1
            return kernel(*arguments, **options)

        return watching

    allowed = {name: watched(name, getattr(cpu, name)) for name in OPERATIONS if "conv2d" not in name}
    use("cpu", convolution="im2col")
    graph = grow("resnet8", (8, 8, 3), fused=True)
    x, labels = np.zeros((2, 8, 8, 3), np.float32), np.zeros(2, int)
    with substituted(SimpleNamespace(**allowed)), counted() as operations:
        _, dlogits = ops.softmax_cross_entropy(graph.forward(x, train=True), labels)
        graph.backward(dlogits)
    convolutions = 7
    assert operations["conv2d"] == operations["conv2d_weight_grad"] == convolutions
    assert called["im2col"] == 2 * convolutions  # forward, and for the weights' gradients
    assert called["col2im"] == operations["conv2d_input_grad"] == convolutions - 1


def test_networks_are_left_unfused():
    use("cpu", convolution="im2col")
    parts = [fuse(part) for part in build("resnet8", (8, 8, 3), rng=np.random.default_rng(0)).values()]
    assert {type(part) for part in parts} == {Sequential}


def test_a_network_that_was_fused_before_is_refused():
    fused = fuse(build("resnet8", (8, 8, 3), rng=np.random.default_rng(0))["S1"])
    assert isinstance(fused, FusedSequential)
    use("cpu", convolution="im2col")
    with pytest.raises(AttributeError, match="conv2d_moments is not computed by im2col: fuse networks with"):
        fused.forward(np.zeros((1, 8, 8, 3), np.float32), train=True)


def test_it_is_chosen_until_the_next_choice():
    use("cpu", convolution="im2col")
    assert not hasattr(ops, "conv2d_moments")
    use("cpu")
    assert hasattr(ops, "conv2d_moments")
    with pytest.raises(ValueError, match="unknown convolution 'fft': choose one of auto, im2col"):
        use("reference", convolution="fft")
    assert ops.name == "cpu"
