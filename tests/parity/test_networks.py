"""Whole networks against PyTorch, from the same weights, in float64: values, every gradient, running statistics."""

import importlib

import numpy as np
import pytest

from incnet.backend import ops, use
from incnet.layers import residual_block
from tests.small_networks import grow, randomise, set_dropout

torch = pytest.importorskip("torch")
F = torch.nn.functional
twins = importlib.import_module("tests.twins")  # needs torch; any failure of its own must be seen

TOLERANCE = 1e-9  # of the largest value of the array compared

# (backend, fused, architecture, image, batch): the papers' images, and others, where pooling ends early and halves are
# odd.
NETWORKS = [
    ("cpu", "layers", "resnet20", (32, 32, 3), 4),
    ("cpu", "layers", "vgg16", (32, 32, 3), 2),
    ("cpu", "layers", "vgg16-bn", (32, 32, 3), 3),
    ("cpu", "fused", "resnet20", (32, 32, 3), 4),
    ("cpu", "fused", "vgg16", (8, 8, 3), 5),
    ("cpu", "fused", "vgg16-bn", (16, 16, 3), 3),
    ("cpu", "im2col", "resnet20", (32, 32, 3), 4),
    ("cpu", "im2col", "vgg16", (8, 8, 3), 5),
    ("reference", "layers", "resnet20", (9, 13, 1), 3),
    ("reference", "im2col", "resnet20", (9, 13, 1), 3),
    ("reference", "layers", "vgg16-bn", (9, 20, 1), 2),
    ("reference", "fused", "resnet20", (9, 13, 1), 3),
]


def assert_close(ours, theirs, what):
    assert ours.shape == theirs.shape, what
    error = np.abs(ours - theirs).max() / np.abs(theirs).max()
    assert error <= TOLERANCE, f"{what}: off by {error:.1e} of the largest value"


@pytest.fixture(params=NETWORKS, ids=lambda network: "-".join(map(str, network)))
def pair(request):
    """A network, its twin with the same weights, and a batch."""
    name, steps, arch, input_shape, n = request.param
    use(name, convolution="im2col" if steps == "im2col" else "auto")
    rng = np.random.default_rng(20)
    network = randomise(grow(arch, input_shape, dtype=np.float64, seed=1, fused=steps != "layers"), rng)
    # No mask can be the same on both sides: dropout stays in place, and drops nothing.
    set_dropout(network, 0.0)
    twin = twins.make_twin(arch, input_shape, 10, dropout=0.0).double()
    twins.copy_weights(network, twin)
    return network, twin, rng.standard_normal((n, *input_shape)), rng.integers(10, size=n)


def test_values_gradients_and_statistics(pair):
    network, twin, x, labels = pair

    # Before the training pass moves the running statistics, which are random so far, the evaluation that uses them.
    with torch.no_grad():
        expected = twin.eval()(twins.to_torch(x))
    assert_close(network.forward(x), twins.to_numpy(expected), "logits in evaluation")

    logits = network.forward(x, train=True)
    (loss, _), dlogits = ops.softmax_cross_entropy(logits, labels)
    dx = backward_to_the_image(network, dlogits)

    images = twins.to_torch(x).requires_grad_()
    their_logits = twin.train()(images)
    their_loss = F.cross_entropy(their_logits, torch.from_numpy(labels))
    their_loss.backward()

    assert_close(logits, twins.to_numpy(their_logits), "logits")
    assert loss / len(x) == pytest.approx(their_loss.item(), rel=TOLERANCE)
    assert_close(dx, twins.to_numpy(images.grad), "gradient of the image")
    assert compare_layers(network, twin) == len(network.parameters()) == len(list(twin.parameters()))


def backward_to_the_image(network, dlogits):
    """Back-propagate through everything; a graph itself never asks for the image's gradient."""
    gradient = dlogits
    for layer in reversed(network.children().values()):
        gradient = layer.backward(gradient)
    return gradient


def compare_layers(network, twin):
    """Compare all gradients and running statistics; return the number of gradients."""
    gradients = 0
    for where, layer, module in twins.matching_layers(network, twin):
        for name, array, tensor in twins.named_arrays(layer, module):
            if name in layer.buffers:
                assert_close(array, tensor.numpy(), f"{where}.{name}")
            else:
                expected = twins.in_our_layout(twins.twin_parameter(module, name).grad, module).numpy()
                assert_close(getattr(layer, name).grad, expected, f"gradient of {where}.{name}")
                gradients += 1
    return gradients


def test_projection_shortcut(backend, rng):
    """Option B is no part of a built-in architecture, but of the layer library."""
    block = randomise(residual_block(3, 5, stride=2, shortcut="B", rng=rng, dtype=np.float64), rng)
    twin = twins.BasicBlock(3, 5, 2, "B").double()
    twins.copy_weights(block, twin)
    x, dy = rng.standard_normal((2, 7, 9, 3)), rng.standard_normal((2, 4, 5, 5))

    y, dx = block.forward(x, train=True), block.backward(dy)
    images = twins.to_torch(x).requires_grad_()
    their_y = twin(images)
    their_y.backward(twins.to_torch(dy))

    assert_close(y, twins.to_numpy(their_y), "y")
    assert_close(dx, twins.to_numpy(images.grad), "dx")
    assert compare_layers(block, twin) == 9


def test_networks_that_do_not_match_are_refused():
    network = grow("resnet20", (8, 8, 1))
    with pytest.raises(ValueError, match=r"classifier\.linear is a Linear here and a Conv2d in the twin"):
        twins.copy_weights(network, twins.make_twin("resnet32", (8, 8, 1), 10))
    with pytest.raises(ValueError, match="no PyTorch twin of 'lenet'"):
        twins.make_twin("lenet", (8, 8, 1), 10)
