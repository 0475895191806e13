"""What every layer promises, checked for every case of the catalogue."""

import copy
import inspect

import numpy as np
import pytest

import incnet.layers
from incnet.backend import use
from incnet.layer import Layer
from tests.counting import counted
from tests.layers.catalogue import CASES, FROZEN, TRAINED
from tests.metering import metering
from tests.small_networks import assert_same_state, snapshot

# Length of the step of the central differences: short, so that none crosses a kink of ReLU or of max pooling. And the
# error allowed between them and a gradient, relative to both factors' sizes.
STEP = 1e-6
TOLERANCE = 1e-7


def every(cases):
    return pytest.mark.parametrize("case", cases, ids=str)


@pytest.fixture
def run(case, rng):
    """Layer, input and upstream gradient, in float64."""
    return case.layer(rng), case.input(rng), case.upstream(rng)


def passed(layer, x, dy, need_dx=True):
    """Run both passes; return y and dx."""
    return layer.forward(x, train=True), layer.backward(dy, need_dx)


def gradients(layer):
    return {name: parameter.grad for name, parameter in layer.named_parameters()}


def strided(array):
    """Return the same values in every other place of a larger array."""
    spread = np.repeat(array, 2, axis=-1)[..., ::2]
    assert spread.size < 2 or not spread.flags.c_contiguous
    return spread


# Gradients.


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("layout", [np.copy, strided], ids=["contiguous", "strided"])
@every(CASES)
def test_gradients(case, run, rng, layout):
    check_gradients(run, rng, layout)


@pytest.mark.parametrize("name", ["reference", "cpu"])
@pytest.mark.parametrize("layout", [np.copy, strided], ids=["contiguous", "strided"])
@every([case for case in CASES if case.convolves])
def test_gradients_by_im2col(case, run, rng, layout, name):
    use(name, convolution="im2col")
    check_gradients(run, rng, layout)


def check_gradients(run, rng, layout):
    """Along a random direction v, <dx, v> is the slope of <w, f(x + s v)>; and so for every parameter."""
    layer, x, w = run
    start = snapshot(layer)
    _, dx = passed(layer, layout(x), layout(w))
    slopes = {"x": (x, dx)} | {n: (p.data, p.grad) for n, p in layer.named_parameters() if p.grad is not None}
    layer.load_state(start)

    for name, (array, gradient) in slopes.items():
        assert gradient.shape == array.shape, name
        v = rng.standard_normal(array.shape)
        v /= np.linalg.norm(v)
        centre = array.copy()
        outputs = []
        for sign in (1, -1):
            layer.load_state(start)  # running statistics and dropout's seed move with every pass
            array[...] = centre + sign * STEP * v
            outputs.append(layer.forward(x, train=True).copy())
            layer.discard()
        array[...] = centre
        slope = np.vdot(w, outputs[0] - outputs[1]) / (2 * STEP)
        size = np.linalg.norm(w) * np.linalg.norm(outputs[0] - outputs[1]) / (2 * STEP)
        assert abs(np.vdot(gradient, v) - slope) <= TOLERANCE * max(size, 1e-3), f"gradient of {name}"


@every(CASES)
def test_a_trained_layer_has_every_gradient_and_a_frozen_one_none(case, run):
    layer, x, dy = run
    passed(layer, x, dy)
    frozen = {id(p) for each in layer.layers() if each.frozen for p in each.parameters()}
    for name, parameter in layer.named_parameters():
        assert (parameter.grad is None) == (id(parameter) in frozen), name
        if parameter.grad is not None:
            assert np.abs(parameter.grad).max() > 1e-3, f"{name}: a gradient of zeros proves nothing"
    assert layer.trainable == any(id(p) not in frozen for p in layer.parameters())


@pytest.mark.usefixtures("backend")
@every(CASES)
def test_without_dx_the_parameters_get_the_same_gradients(case, run):
    layer, x, dy = run
    twin = copy.deepcopy(layer)
    passed(layer, x, dy)
    _, dx = passed(twin, x, dy, need_dx=False)
    assert dx is None
    assert not twin.holds_activations
    for (name, expected), found in zip(gradients(layer).items(), gradients(twin).values(), strict=True):
        np.testing.assert_array_equal(found, expected, err_msg=name)


@every(CASES)
def test_gradients_are_assigned_not_accumulated(case, run):
    layer, x, dy = run
    start = snapshot(layer)
    passed(layer, x, dy)
    first = {name: None if grad is None else grad.copy() for name, grad in gradients(layer).items()}
    layer.load_state(start)
    passed(layer, x, dy)
    for name, grad in gradients(layer).items():
        np.testing.assert_array_equal(grad, first[name], err_msg=name)


# Arrays.


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@every(CASES)
def test_dtype_is_kept(case, dtype, rng):
    layer, x, dy = case.layer(rng, dtype), case.input(rng, dtype), case.upstream(rng, dtype)
    before = {name: array.dtype for name, array in layer.state().items()}
    assert layer.forward(x).dtype == dtype
    y, dx = passed(layer, x, dy)
    assert (y.dtype, dx.dtype) == (dtype, dtype)
    assert {g.dtype for g in gradients(layer).values() if g is not None} <= {np.dtype(dtype)}
    assert {name: array.dtype for name, array in layer.state().items()} == before
    assert {p.data.dtype for p in layer.parameters()} <= {np.dtype(dtype)}


@pytest.mark.usefixtures("backend")
@every(CASES)
def test_arguments_and_parameters_stay_as_they_are(case, run):
    layer, x, dy = run
    before = x.copy(), dy.copy(), [p.data.copy() for p in layer.parameters()]
    passed(layer, x, dy)
    layer.forward(x)
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(dy, before[1])
    for parameter, data in zip(layer.parameters(), before[2], strict=True):
        np.testing.assert_array_equal(parameter.data, data)


@pytest.mark.usefixtures("backend")
@every(CASES)
def test_a_strided_input_gives_the_same_output(case, rng):
    layer, x = case.layer(rng), case.input(rng)
    np.testing.assert_allclose(layer.forward(strided(x)), layer.forward(x), rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("backend")
@every(CASES)
def test_one_image(case, rng):
    layer, x, dy = case.layer(rng), case.input(rng, n=1), case.upstream(rng, n=1)
    assert layer.forward(x).shape == (1, *case.output)
    of_batch = isinstance(layer, incnet.layers.BatchNorm2d) and not (layer.frozen and layer.frozen_statistics == "eval")
    if of_batch and x.size == x.shape[-1]:  # statistics of a single value have no variance
        with pytest.raises(ValueError, match="a single value per channel to train with"):
            layer.forward(x, train=True)
    else:
        assert passed(layer, x, dy)[1].shape == x.shape


@every(CASES)
def test_output_shape(case, rng):
    layer, x = case.layer(rng), case.input(rng)
    assert layer.output_shape(case.shape) == case.output
    assert layer.forward(x).shape == layer.forward(x, train=True).shape == (len(x), *case.output)


# What is kept for backward.


@every(CASES)
def test_what_is_kept_is_released_by_backward(case, run):
    layer, x, dy = run
    assert not layer.holds_activations
    layer.forward(x, train=True)
    assert layer.holds_activations == case.keeps
    layer.backward(dy)
    assert not layer.holds_activations
    if case.keeps:
        with pytest.raises(RuntimeError, match="nothing to go back through"):
            layer.backward(dy)


@every(CASES)
def test_evaluation_keeps_nothing_and_moves_nothing(case, run):
    layer, x, dy = run
    before = snapshot(layer)
    layer.forward(x)
    assert not layer.holds_activations
    assert_same_state(layer, before)
    if case.keeps:
        with pytest.raises(RuntimeError, match="nothing to go back through"):
            layer.backward(dy)


@every(CASES)
def test_discard_forgets(case, run):
    layer, x, _ = run
    layer.forward(x, train=True)
    layer.discard()
    assert not layer.holds_activations


# Frozen layers.


@pytest.mark.usefixtures("backend")
@every(FROZEN)
def test_frozen_layers_do_not_move(case, run):
    """Dropout's seed is no statistic: it counts passes, frozen or not."""
    layer, x, dy = run
    before = {name: array for name, array in snapshot(layer).items() if not name.endswith("seed")}
    for _ in range(2):
        passed(layer, x, dy)
    state = {name: array for name, array in layer.state().items() if name in before}
    assert {name: array.tobytes() for name, array in state.items()} == {n: a.tobytes() for n, a in before.items()}


@every(FROZEN)
def test_frozen_layers_call_no_kernel_for_parameter_gradients(case, run):
    layer, x, dy = run
    with counted() as calls:
        passed(layer, x, dy)
    assert not calls.keys() & {"conv2d_weight_grad", "bias_grad"}


@every([case for case in FROZEN if case.frozen == "eval" and case.name != "Sequential"])
def test_frozen_on_running_statistics_training_is_evaluation(case, rng):
    """The layer is then one fixed function. (Not so with dropout, which is never fixed in training.)"""
    layer, x = case.layer(rng), case.input(rng)
    np.testing.assert_array_equal(layer.forward(x, train=True), layer.forward(x))


@every([case for case in FROZEN if case.frozen == "batch" and "Norm" in case.name])
def test_frozen_on_batch_statistics_training_is_not_evaluation(case, rng):
    layer, x = case.layer(rng), case.input(rng)
    assert not np.allclose(layer.forward(x, train=True), layer.forward(x))


@every(TRAINED)
def test_freezing_drops_stale_gradients_and_unfreezing_brings_them_back(case, run):
    layer, x, dy = run
    start = snapshot(layer)
    layer.unfreeze()
    passed(layer, x, dy)
    expected = {name: grad.copy() for name, grad in gradients(layer).items()}
    layer.freeze()
    assert set(gradients(layer).values()) == {None}
    assert not layer.trainable
    layer.load_state(start)
    layer.unfreeze()
    passed(layer, x, dy)
    for name, grad in gradients(layer).items():
        np.testing.assert_array_equal(grad, expected[name], err_msg=name)


# State.


@every(CASES)
def test_state_round_trip(case, rng):
    """A layer of other weights becomes the same one: in evaluation, in training, and in what it hands back."""
    layer, other = case.layer(rng), case.layer(rng)
    x, dy = case.input(rng), case.upstream(rng)
    passed(layer, x, dy)  # statistics and seeds that are not those of a new layer
    saved = snapshot(layer)
    other.load_state(saved)
    assert_same_state(other, saved)
    np.testing.assert_array_equal(other.forward(x), layer.forward(x))
    for ours, theirs in zip(passed(other, x, dy), passed(layer, x, dy), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert_same_state(other, snapshot(layer))


@every(CASES)
def test_state_is_copied_in(case, rng):
    layer = case.layer(rng)
    saved = snapshot(case.layer(rng))
    layer.load_state(saved)
    expected = snapshot(layer)
    for array in saved.values():
        array += np.ones((), array.dtype)
    assert_same_state(layer, expected)


@every(CASES)
def test_state_that_does_not_fit_changes_nothing(case, rng):
    layer = case.layer(rng)
    before = snapshot(layer)
    other = {name: array + np.ones((), array.dtype) for name, array in before.items()}
    with pytest.raises(ValueError, match=r"state has extra\.weight, which this network does not have"):
        layer.load_state(other | {"extra.weight": np.zeros(3)})
    if other:
        last = list(other)[-1]  # all others would have been copied by then
        with pytest.raises(ValueError, match=rf"{last} has shape \(7, 7\) in the state, \("):
            layer.load_state(other | {last: np.zeros((7, 7))})
        missing = other.copy()
        del missing[last]
        with pytest.raises(ValueError, match=rf"state lacks {last}$"):
            layer.load_state(missing)
    assert_same_state(layer, before)


@every(CASES)
def test_names_are_unique_and_in_a_fixed_order(case, rng):
    layer, other = case.layer(rng), case.layer(rng)
    names = [name for name, _ in layer.named_parameters()] + [name for name, _ in layer.named_buffers()]
    assert len(set(names)) == len(names)
    assert list(layer.state()) == names == list(other.state())
    assert layer.num_parameters() == sum(parameter.data.size for parameter in layer.parameters())


# Costs.


@every(CASES)
def test_macs(case, rng):
    assert case.layer(rng).macs(case.shape) == case.macs


@pytest.mark.parametrize("need_dx", [True, False])
@every(CASES)
def test_cost_is_what_the_kernels_do(case, run, need_dx):
    layer, x, dy = run
    with metering() as meter:
        passed(layer, x, dy, need_dx)
    assert meter.cost(len(x)) == layer.cost(case.shape, need_dx)


# The catalogue itself.


def test_every_layer_is_in_the_catalogue():
    library = {each for each in vars(incnet.layers).values() if inspect.isclass(each) and issubclass(each, Layer)}
    rng = np.random.default_rng()
    tested = {type(each) for case in CASES for each in case.layer(rng).layers()}
    assert library == tested | {incnet.layers.Interleaved}  # which computes nothing itself
    assert {each.__name__ for each in library} <= set(incnet.layers.__all__)


def test_names_of_cases_are_unique():
    assert len({str(case) for case in CASES}) == len(CASES)
