"""Optimizers by their formulas, and what becomes of their state when the set of parameters changes."""

import numpy as np
import pytest

from incnet.optim import SGD, RMSProp
from incnet.parameter import Parameter


def parameters(rng, dtype=np.float64):
    """A weight, which decays, and a bias, which does not, with gradients."""
    named = {
        "weight": Parameter(rng.standard_normal((3, 4)).astype(dtype), decay=True),
        "bias": Parameter(rng.standard_normal(4).astype(dtype)),
    }
    for parameter in named.values():
        parameter.grad = rng.standard_normal(parameter.data.shape).astype(dtype)
    return named


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("momentum", [0.0, 0.9], ids=["momentum read as rho", "momentum"])
def test_rmsprop(rng, momentum):
    named = parameters(rng)
    optimizer = RMSProp(0.1, rho=0.9, momentum=momentum, eps=0.5, weight_decay=0.2)
    expected = {name: p.data.copy() for name, p in named.items()}
    square, velocity = dict.fromkeys(named, 0.0), dict.fromkeys(named, 0.0)
    for _ in range(3):
        for name, p in named.items():
            p.grad = rng.standard_normal(p.data.shape)
            g = p.grad + (0.2 * expected[name] if name == "weight" else 0)
            square[name] = 0.9 * square[name] + 0.1 * g**2
            velocity[name] = momentum * velocity[name] + g / (np.sqrt(square[name]) + 0.5)
            expected[name] = expected[name] - 0.1 * velocity[name]
        optimizer.step(named.items())
    for name, p in named.items():
        np.testing.assert_allclose(p.data, expected[name], rtol=1e-12)
        np.testing.assert_allclose(optimizer.state[name]["square"], square[name], rtol=1e-12)


@pytest.mark.usefixtures("backend")
def test_sgd(rng):
    named = parameters(rng)
    optimizer = SGD(0.1, momentum=0.8, weight_decay=0.2)
    expected, velocity = {name: p.data.copy() for name, p in named.items()}, dict.fromkeys(named, 0.0)
    for _ in range(3):
        for name, p in named.items():
            g = p.grad + (0.2 * expected[name] if name == "weight" else 0)
            velocity[name] = 0.8 * velocity[name] + g
            expected[name] = expected[name] - 0.1 * velocity[name]
        optimizer.step(named.items())
    for name, p in named.items():
        np.testing.assert_allclose(p.data, expected[name], rtol=1e-12)


@pytest.mark.usefixtures("backend")
def test_the_first_step_of_rmsprop_has_one_length_whatever_the_gradient(rng):
    """``g / sqrt((1 - rho) g^2)`` is the sign of g times 1 / sqrt(1 - rho), and zero for a gradient of zero."""
    data = np.zeros(4)
    parameter = Parameter(data.copy())
    parameter.grad = np.array([1e3, -1.0, 1e-3, 0.0])
    RMSProp(0.1, rho=0.75, momentum=0, eps=1e-12, weight_decay=0).step({"p": parameter}.items())
    np.testing.assert_allclose(parameter.data, [-0.2, 0.2, -0.2, 0], rtol=1e-6)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("make", [RMSProp, SGD])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_steps_in_place_and_keeps_the_dtype(make, dtype, rng):
    named = parameters(rng, dtype)
    arrays = {name: p.data for name, p in named.items()}
    gradients = {name: p.grad.copy() for name, p in named.items()}
    optimizer = make(0.01)
    optimizer.step(named.items())
    for name, p in named.items():
        assert p.data is arrays[name]
        np.testing.assert_array_equal(p.grad, gradients[name])
        assert {p.data.dtype, *(a.dtype for a in optimizer.state[name].values())} == {np.dtype(dtype)}


@pytest.mark.parametrize("make", [RMSProp, SGD])
class TestState:
    def test_is_made_at_the_first_step_of_each_parameter(self, make, rng):
        named, optimizer = parameters(rng), make(0.01)
        assert optimizer.state == {}
        optimizer.step([("weight", named["weight"])])
        assert set(optimizer.state) == {"weight"}
        optimizer.step(named.items())
        assert set(optimizer.state) == {"weight", "bias"}
        assert {a.shape for a in optimizer.state["weight"].values()} == {(3, 4)}

    def test_of_parameters_left_out_stays_as_it_is(self, make, rng):
        named, optimizer = parameters(rng), make(0.01)
        optimizer.step(named.items())
        kept = {slot: a.copy() for slot, a in optimizer.state["bias"].items()}
        data = named["bias"].data.copy()
        optimizer.step([("weight", named["weight"])])
        np.testing.assert_array_equal(named["bias"].data, data)
        for slot, array in kept.items():
            np.testing.assert_array_equal(optimizer.state["bias"][slot], array)

    def test_goes_by_name_not_by_object(self, make, rng):
        """As after loading a checkpoint into new arrays."""
        ours, other = parameters(rng), parameters(rng)
        twice, resumed = make(0.01), make(0.01)
        twice.step(ours.items())
        resumed.state = {name: {s: a.copy() for s, a in slots.items()} for name, slots in twice.state.items()}
        for name, p in other.items():
            p.data[...], p.grad = ours[name].data, ours[name].grad
        twice.step(ours.items())
        resumed.step(other.items())
        for name, p in other.items():
            np.testing.assert_array_equal(p.data, ours[name].data)

    def test_is_forgotten_by_prefix(self, make, rng):
        optimizer = make(0.01)
        for prefix in ("S1.", "classifier.", "classifier_old."):
            optimizer.step((prefix + name, p) for name, p in parameters(rng).items())
        optimizer.forget("classifier.")
        assert {name.partition(".")[0] for name in optimizer.state} == {"S1", "classifier_old"}


@pytest.mark.parametrize("make", [RMSProp, SGD])
def test_a_parameter_without_a_gradient_is_an_error(make):
    with pytest.raises(RuntimeError, match=r"S1\.weight has no gradient: run backward before each step"):
        make(0.1).step({"S1.weight": Parameter(np.zeros(3))}.items())


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (RMSProp, {"lr": 0.0}, "learning rate 0.0: choose a positive number"),
        (SGD, {"lr": -1.0}, "learning rate -1.0"),
        (RMSProp, {"rho": 1.0}, r"rho 1.0: choose a number in \[0, 1\)"),
        (RMSProp, {"momentum": -0.1}, "momentum -0.1"),
        (SGD, {"momentum": 1.0}, "momentum 1.0"),
        (RMSProp, {"weight_decay": -1e-4}, "weight decay -0.0001: choose a number of at least 0"),
        (RMSProp, {"lr": float("nan")}, "learning rate nan"),
        (SGD, {"weight_decay": float("nan")}, "weight decay nan"),
    ],
)
def test_a_setting_out_of_range_is_an_error(make, settings, message):
    with pytest.raises(ValueError, match=message):
        make(**settings)


def test_defaults_are_the_literal_reading_of_the_paper():
    optimizer = RMSProp()
    found = optimizer.lr, optimizer.rho, optimizer.momentum, optimizer.eps, optimizer.weight_decay
    assert found == (1e-4, 0.9, 0.9, 1e-7, 1e-4)
