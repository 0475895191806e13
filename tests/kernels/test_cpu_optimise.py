"""Steps along gradients that are computed on the way: the very bits of a step along the same gradient, stored."""

import numpy as np
import pytest

from incnet.kernels import cpu
from incnet.kernels.cpu import optimise
from incnet.kernels.operands import OuterProduct

# Features in and out: whole panels, single chunks, and outputs of which a chunk would have to be filled up.
SHAPES = [(512, 4096), (528, 96), (1040, 304), (4096, 10)]


def tensors(n, shape, slots):
    """Factors of a gradient, then the parameter and its state."""
    rng = np.random.default_rng(n)
    draw = [rng.standard_normal(size, np.float32) for size in ((n, shape[0]), (n, shape[1]), *[shape] * slots)]
    return OuterProduct(*draw[:2]), draw[2], [np.abs(array) for array in draw[3:]]


def step(optimizer, data, grad, state, momentum, decay):
    if optimizer == "rmsprop":
        cpu.rmsprop_step_all([(data, grad, *state, decay)], 0.01, 0.9, momentum, 1e-7)
    else:
        cpu.sgd_step_all([(data, grad, *state, decay)], 0.01, momentum)


@pytest.mark.parametrize(("momentum", "decay"), [(0.9, 0.0), (0.0, 0.05)])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("n", [1, 7, 32, 100])
@pytest.mark.parametrize(("optimizer", "slots"), [("rmsprop", 3), ("sgd", 2)])
def test_the_bits_of_a_stored_gradient(optimizer, slots, n, shape, momentum, decay, threads):
    factors, data, state = tensors(n, shape, slots)
    expected, expected_state = data.copy(), [array.copy() for array in state]
    for _ in range(2):
        step(optimizer, data, factors, state, momentum, decay)
        step(optimizer, expected, cpu.linear_weight_grad(*factors), expected_state, momentum, decay)
    for ours, theirs in zip([data, *state], [expected, *expected_state], strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("shape", [(512, 4096), (4096, 10)], ids=str)
def test_what_is_stored(shape, monkeypatch):
    """A large gradient is computed on the way; one whose outputs would have to be filled up is formed first."""
    formed = []
    monkeypatch.setattr(optimise, "linear_weight_grad", lambda *f: formed.append(f) or cpu.linear_weight_grad(*f))
    factors, data, state = tensors(32, shape, 3)
    step("rmsprop", data, factors, state, 0.9, 0.0)
    assert len(formed) == (shape[1] == 10)


def test_many_rows_are_no_thin_factors():
    """A gradient is left in factors as long as these are smaller than it."""
    rng = np.random.default_rng(0)
    left = [n for n in (1, 200, 255, 256, 300) if isinstance(_gradient(rng, n, 512, 512), OuterProduct)]
    assert left == [1, 200, 255]


def _gradient(rng, n, features, outputs):
    return cpu.factored_weight_grad(
        rng.standard_normal((n, features), np.float32), rng.standard_normal((n, outputs), np.float32)
    )


def test_a_parameter_of_another_shape_is_refused():
    factors, data, state = tensors(8, (512, 512), 3)
    with pytest.raises(TypeError, match=r"the parameter is \(512, 256\), its gradient \(512, 512\)"):
        step("rmsprop", data[:, :256].copy(), factors, [array[:, :256].copy() for array in state], 0.9, 0.0)
    with pytest.raises(TypeError, match="contiguous and alike"):
        step("rmsprop", data, factors, [state[0], state[1].T], 0.9, 0.0)
    with pytest.raises(TypeError, match="contiguous and alike"):
        step("rmsprop", data, factors, [state[0], state[1].astype(np.float64)], 0.9, 0.0)
