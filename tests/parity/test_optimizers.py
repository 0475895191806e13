"""Optimizers and loss against PyTorch, in float64, and ten steps of training with each."""

import importlib

import numpy as np
import pytest

from incnet.backend import ops
from incnet.optim import SGD, RMSProp
from incnet.parameter import Parameter
from tests.small_networks import grow

torch = pytest.importorskip("torch")
F = torch.nn.functional
twins = importlib.import_module("tests.twins")  # needs torch; any failure of its own must be seen

STEPS = 10

RMSPROP = {"lr": 3e-3, "eps": 1e-7, "weight_decay": 0.02}
OPTIMIZERS = {
    "rmsprop with momentum": (RMSProp, twins.rmsprop, RMSPROP | {"rho": 0.9, "momentum": 0.9}),
    "rmsprop, momentum read as rho": (RMSProp, twins.rmsprop, RMSPROP | {"rho": 0.9, "momentum": 0.0}),
    # An eps that matters: inside the root it would change every step.
    "rmsprop with a large eps": (RMSProp, twins.rmsprop, RMSPROP | {"rho": 0.7, "momentum": 0.5, "eps": 0.1}),
    "sgd with momentum": (SGD, twins.sgd, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.02}),
    "sgd": (SGD, twins.sgd, {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.02}),
}


@pytest.fixture(params=OPTIMIZERS)
def optimizers(request):
    """Incnet's optimizer, and a function that makes PyTorch's for a module."""
    ours, theirs, settings = OPTIMIZERS[request.param]
    return ours(**settings), lambda module: theirs(module, **settings)


def test_ten_steps_on_given_gradients(backend, optimizers, rng):
    ours, make_theirs = optimizers
    module = torch.nn.Linear(7, 5).double()
    theirs = make_theirs(module)
    parameters = {
        "weight": Parameter(module.weight.detach().numpy().copy(), decay=True),
        "bias": Parameter(module.bias.detach().numpy().copy()),
    }
    for _ in range(STEPS):
        for name, parameter in parameters.items():
            parameter.grad = rng.standard_normal(parameter.data.shape)
            getattr(module, name).grad = torch.from_numpy(parameter.grad.copy())
        ours.step(parameters.items())
        theirs.step()
        for name, parameter in parameters.items():
            np.testing.assert_allclose(parameter.data, getattr(module, name).detach().numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "optimizers", ["rmsprop with momentum", "rmsprop, momentum read as rho", "sgd with momentum"], indirect=True
)
def test_ten_steps_of_training(optimizers, rng):
    """The whole loop: pass, loss, gradients, step; parameters and losses stay together to 1e-9."""
    ours, make_theirs = optimizers
    network = grow("resnet20", (10, 10, 1), dtype=np.float64)
    twin = twins.make_twin("resnet20", (10, 10, 1), 10).double().train()
    twins.copy_weights(network, twin)
    theirs = make_theirs(twin)
    for _ in range(STEPS):
        x, labels = rng.standard_normal((6, 10, 10, 1)), rng.integers(10, size=6)
        (loss, _), dlogits = ops.softmax_cross_entropy(network.forward(x, train=True), labels)
        network.backward(dlogits)
        ours.step(network.trainable_parameters())

        their_loss = F.cross_entropy(twin(twins.to_torch(x)), torch.from_numpy(labels))
        theirs.zero_grad()
        their_loss.backward()
        theirs.step()
        assert loss / len(x) == pytest.approx(their_loss.item(), rel=1e-9)
    for where, layer, module in twins.matching_layers(network, twin):
        for name, array, tensor in twins.named_arrays(layer, module):
            error = np.abs(array - tensor.detach().numpy()).max() / np.abs(array).max()
            assert error <= 1e-9, f"{where}.{name}: off by {error:.1e} after {STEPS} steps"


@pytest.mark.parametrize("scale", [1, 1000], ids=["ordinary logits", "logits that overflow exp"])
def test_softmax_cross_entropy(backend, scale, rng):
    logits, labels = scale * rng.standard_normal((9, 11)), rng.integers(11, size=9)
    (total, correct), dlogits = ops.softmax_cross_entropy(logits, labels)

    theirs = torch.from_numpy(logits.copy()).requires_grad_()
    loss = F.cross_entropy(theirs, torch.from_numpy(labels))
    loss.backward()

    assert total / 9 == pytest.approx(loss.item(), rel=1e-12)
    assert correct == np.count_nonzero(theirs.argmax(dim=1).numpy() == labels)
    np.testing.assert_allclose(dlogits, theirs.grad.numpy(), rtol=1e-12, atol=1e-15)
