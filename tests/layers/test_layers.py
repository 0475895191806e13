"""What single layers do beside the contract: values worked out by hand, and errors that say what is wrong."""

import numpy as np
import pytest

from incnet.layers import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    GlobalAvgPool2d,
    Identity,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
    Subsample,
    residual_block,
)
from tests.counting import counted
from tests.small_networks import snapshot

# Convolution and dense layer.


@pytest.mark.usefixtures("backend")
def test_convolution_is_a_cross_correlation(rng):
    layer = Conv2d(2, 3, 3, stride=2, padding=1, rng=rng, dtype=np.float64)
    layer.bias.data[...] = rng.standard_normal(3)
    x = rng.standard_normal((2, 5, 4, 2))
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = np.empty((2, 3, 2, 3))
    for p, q in np.ndindex(3, 2):
        patch = padded[:, 2 * p : 2 * p + 3, 2 * q : 2 * q + 3]
        expected[:, p, q] = np.einsum("nijc,ijck->nk", patch, layer.weight.data) + layer.bias.data
    np.testing.assert_allclose(layer.forward(x), expected, rtol=1e-12, atol=1e-13)


def test_only_weights_decay(rng):
    convolution, dense = Conv2d(2, 3, 3, rng=rng), Linear(4, 5, rng=rng)
    assert convolution.weight.decay
    assert dense.weight.decay
    block = residual_block(3, 3, rng=rng)
    decayed = {name for name, parameter in block.named_parameters() if parameter.decay}
    assert decayed == {"body.conv1.weight", "body.conv2.weight"}
    assert not convolution.bias.decay
    assert not dense.bias.decay


def test_convolution_without_bias_has_one_parameter(rng):
    assert [name for name, _ in Conv2d(2, 3, 3, bias=False, rng=rng).named_parameters()] == ["weight"]


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (lambda r: Conv2d(3, 4, 3, rng=r), (8, 8, 1), r"Conv2d expects images of 3 channels, .* \(8, 8, 1\)"),
        (lambda r: Conv2d(3, 4, 3, rng=r), (192,), r"Conv2d expects images of 3 channels, .* \(192,\)"),
        (lambda r: Conv2d(3, 4, 5, rng=r), (4, 8, 3), r"5 x 5 pixels does not fit into an input of \(4, 8\)"),
        (lambda r: Linear(7, 2, rng=r), (8,), r"Linear expects rows of 7 features, the input has shape \(8,\)"),
        (lambda r: Linear(3, 2, rng=r), (4, 4, 3), "Linear expects rows of 3 features"),
        (lambda r: AvgPool2d(3), (5, 2, 1), r"3 x 3 pixels does not fit into an input of \(5, 2\)"),
        (lambda r: MaxPool2d(3), (5, 2, 1), r"3 x 3 pixels does not fit into an input of \(5, 2\)"),
    ],
)
def test_an_input_that_does_not_fit_is_an_error(layer, shape, message, rng):
    with pytest.raises(ValueError, match=message):
        layer(rng).output_shape(shape)


# Activation, pooling, shortcut.


@pytest.mark.usefixtures("backend")
def test_relu_has_no_slope_at_zero():
    layer = ReLU()
    y = layer.forward(np.array([-1.0, 0.0, 2.0]), train=True)
    np.testing.assert_array_equal(y, [0, 0, 2])
    np.testing.assert_array_equal(layer.backward(np.array([5.0, 6.0, 7.0])), [0, 0, 7])


@pytest.mark.usefixtures("backend")
def test_leaky_relu_has_the_lower_slope_at_zero():
    layer = LeakyReLU(0.1)
    y = layer.forward(np.array([-1.0, 0.0, 2.0]), train=True)
    np.testing.assert_array_equal(y, [-0.1, 0, 2])
    np.testing.assert_array_equal(layer.backward(np.array([5.0, 6.0, 7.0])), [0.5, 0.1 * 6, 7])


@pytest.mark.parametrize("slope", [-0.1, 0, 1, float("nan")])
def test_a_slope_that_is_none(slope):
    with pytest.raises(ValueError, match=rf"LeakyReLU\({slope}\): choose a slope between 0 and 1"):
        LeakyReLU(slope)


@pytest.mark.usefixtures("backend")
def test_average_pooling_shares_the_gradient_among_a_window():
    x = np.zeros((1, 2, 4, 1))
    x[0, :, :, 0] = [[1, 3, 2, 2], [4, 0, 2, 6]]
    layer = AvgPool2d(2, 1)
    np.testing.assert_array_equal(layer.forward(x, train=True).ravel(), [2, 1.75, 3])
    dx = layer.backward(np.array([4.0, 8.0, 12.0]).reshape(1, 1, 3, 1))
    np.testing.assert_array_equal(dx[0, :, :, 0], [[1, 3, 5, 3], [1, 3, 5, 3]])


@pytest.mark.usefixtures("backend")
def test_max_pooling_gives_the_gradient_to_the_first_of_equals():
    x = np.zeros((1, 2, 4, 1))
    x[0, :, :, 0] = [[1, 3, 2, 2], [3, 0, 2, 2]]
    layer = MaxPool2d(2)
    np.testing.assert_array_equal(layer.forward(x, train=True).ravel(), [3, 2])
    dx = layer.backward(np.array([5.0, 7.0]).reshape(1, 1, 2, 1))
    np.testing.assert_array_equal(dx[0, :, :, 0], [[0, 5, 7, 0], [0, 0, 0, 0]])


@pytest.mark.usefixtures("backend")
def test_global_average(rng):
    x = rng.standard_normal((2, 3, 5, 4))
    layer = GlobalAvgPool2d()
    np.testing.assert_allclose(layer.forward(x, train=True), x.mean(axis=(1, 2)), rtol=1e-13, atol=1e-15)
    dx = layer.backward(np.ones((2, 4)))
    np.testing.assert_allclose(dx, np.full(x.shape, 1 / 15), rtol=1e-13)


@pytest.mark.usefixtures("backend")
def test_subsampling_keeps_every_second_pixel_and_fills_up_with_zeros(rng):
    x = rng.standard_normal((2, 5, 4, 3))
    y = Subsample(2, 7).forward(x)
    assert y.shape == (2, 3, 2, 7)
    np.testing.assert_array_equal(y[..., :3], x[:, ::2, ::2])
    assert not y[..., 3:].any()


def test_an_unknown_shortcut_is_an_error(rng):
    with pytest.raises(ValueError, match="shortcut 'C': choose 'A'"):
        residual_block(3, 5, stride=2, shortcut="C", rng=rng)


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_a_block_that_keeps_the_shape_has_an_identity_for_a_shortcut(shortcut, rng):
    block = residual_block(4, 4, shortcut=shortcut, rng=rng)
    assert block.shortcut.num_parameters() == 0


# Dropout.


@pytest.mark.usefixtures("backend")
class TestDropout:
    def test_drops_at_the_given_rate_and_keeps_the_mean(self, rng):
        layer, x = Dropout(0.3, rng=rng), np.ones((200, 500))
        y = layer.forward(x, train=True)
        np.testing.assert_allclose(np.unique(y), [0, 1 / 0.7], rtol=1e-12)
        assert (y == 0).mean() == pytest.approx(0.3, abs=0.01)
        # No row, column or neighbour is favoured: 5 deviations.
        assert np.abs((y == 0).mean(axis=0) - 0.3).max() < 5 * np.sqrt(0.21 / 200)
        assert np.abs((y == 0).mean(axis=1) - 0.3).max() < 5 * np.sqrt(0.21 / 500)
        assert ((y[:, 1:] == 0) & (y[:, :-1] == 0)).mean() == pytest.approx(0.09, abs=0.01)

    def test_draws_another_mask_every_time_and_for_every_layer(self, rng):
        layers, x = [Dropout(0.5, rng=rng), Dropout(0.5, rng=rng)], np.ones((50, 40))
        masks = [layer.forward(x, train=True) != 0 for layer in layers for _ in range(3)]
        for i, mask in enumerate(masks):
            for other in masks[:i]:
                assert (mask == other).mean() == pytest.approx(0.5, abs=0.06)  # independent ones agree in half

    def test_a_restored_layer_draws_what_the_first_one_would_have_drawn(self, rng):
        layer, other, x = Dropout(0.5, rng=rng), Dropout(0.5, rng=rng), np.ones((9, 9))
        layer.forward(x, train=True)
        other.load_state(snapshot(layer))
        np.testing.assert_array_equal(other.forward(x, train=True), layer.forward(x, train=True))

    def test_keeps_no_mask(self, rng):
        """The seed is enough: one number, whatever the size of x."""
        layer = Dropout(0.5, rng=rng)
        layer.forward(np.ones((100, 100)), train=True)
        assert sum(np.asarray(kept).nbytes for kept in layer.release()) <= 8

    def test_evaluation_is_the_identity(self, rng):
        x = rng.standard_normal((3, 4))
        np.testing.assert_array_equal(Dropout(0.9, rng=rng).forward(x), x)

    @pytest.mark.parametrize("rate", [-0.1, 1.0, 2.0])
    def test_a_rate_out_of_range_is_an_error(self, rate, rng):
        with pytest.raises(ValueError, match=rf"Dropout rate {rate}: choose one in \[0, 1\)"):
            Dropout(rate, rng=rng)


# A chain goes back no further than it must.


def test_backward_ends_at_the_lowest_layer_that_learns(rng):
    chain = Sequential(
        {
            "fixed": Conv2d(2, 3, 3, rng=rng).freeze(),
            "relu": ReLU(),
            "inner": Sequential({"pool": MaxPool2d(2), "conv": Conv2d(3, 4, 1, rng=rng)}),
            "above": Conv2d(4, 5, 1, rng=rng),
        }
    )
    x = rng.standard_normal((2, 8, 8, 2), np.float32)
    dy = np.ones_like(chain.forward(x, train=True))
    with counted() as calls:
        assert chain.backward(dy, need_dx=False) is None
    assert calls == {"conv2d_weight_grad": 2, "conv2d_input_grad": 1, "bias_grad": 2}
    assert not chain.holds_activations


def test_a_chain_without_anything_to_learn_calls_nothing_if_dx_is_not_needed(rng):
    chain = Sequential({"conv": Conv2d(2, 3, 3, rng=rng), "relu": ReLU()}).freeze()
    dy = np.ones_like(chain.forward(rng.standard_normal((1, 5, 5, 2), np.float32), train=True))
    with counted() as calls:
        assert chain.backward(dy, need_dx=False) is None
    assert not calls
    assert not chain.holds_activations


# Sizes that do not fit are refused, before anything is read or written.


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda rng: Conv2d(16, 16, 3, padding=1, rng=rng), (2, 8, 8, 32)),
        (lambda rng: BatchNorm2d(16), (2, 8, 8, 32)),
        (lambda rng: Linear(1024, 512, rng=rng), (8, 2048)),
        (lambda rng: Linear(4, 3, rng=rng), (8, 5)),
        (lambda rng: Residual(Conv2d(4, 6, 1, rng=rng), Identity()), (2, 5, 5, 4)),
        (lambda rng: Subsample(2, 32), (2, 8, 8, 64)),
    ],
)
def test_an_input_that_does_not_fit(layer, shape, rng):
    with pytest.raises(ValueError, match=r"fit together|shortcut|; expected \("):
        layer(rng).forward(np.zeros(shape, np.float32), train=True)


def test_a_gradient_that_does_not_fit(rng):
    conv = Conv2d(3, 16, 3, padding=1, rng=rng)
    conv.forward(np.zeros((2, 8, 8, 3), np.float32), train=True)
    with pytest.raises(ValueError, match=r"\(2, 4, 8, 16\) for NYXK, where .*Y = 8"):
        conv.backward(np.zeros((2, 4, 8, 16), np.float32))


def test_a_block_whose_branches_differ(rng):
    with pytest.raises(ValueError, match="cannot lead from 64 to 32; choose B"):
        residual_block(64, 32, stride=2, rng=rng).output_shape((8, 8, 64))
    with pytest.raises(ValueError, match=r"body gives \(8, 8, 4\), its shortcut \(8, 8, 3\)"):
        Residual(Conv2d(3, 4, 1, rng=rng), Identity()).output_shape((8, 8, 3))


def test_a_window_that_is_too_large():
    with pytest.raises(ValueError, match=r"MaxPool2d\(17, stride=17\): choose windows of at most 16 pixels"):
        MaxPool2d(17)


@pytest.mark.parametrize("kind", [AvgPool2d, MaxPool2d])
@pytest.mark.parametrize(("size", "stride"), [(0, None), (-1, 2), (2, 0)])
def test_a_window_of_nothing(kind, size, stride):
    with pytest.raises(ValueError, match=rf"{kind.__name__}\(-?\d, stride=-?\d\): choose windows of at least 1 pixel"):
        kind(size, stride)


# Arguments that are none.


@pytest.mark.parametrize(("make", "message"), [
    (lambda rng: Conv2d(3, 8.0, 3, rng=rng), "out_channels is 8.0: choose a whole number, at least 1"),
    (lambda rng: Conv2d(3, 8, (3, 3), rng=rng), r"kernel_size is \(3, 3\): choose a whole number"),
    (lambda rng: Conv2d(3, 8, 3, padding="same", rng=rng), "padding is 'same': choose a whole number, at least 0"),
    (lambda rng: Conv2d(3, 8, 3, rng=0), r"rng is 0: give a generator of numbers, as numpy.random.default_rng\(0\)"),
    (lambda rng: Sequential([ReLU()]), "the layers are a list: give them by name"),
    (lambda rng: Sequential({"a": ReLU}), r"a is the class ReLU: give a layer, as ReLU\(\) makes it"),
    (lambda rng: Sequential({"a": "relu"}), "a is 'relu': give a layer"),
])  # fmt: skip
def test_what_no_layer_is_made_of_is_named(make, message, rng):
    with pytest.raises(TypeError, match=message):
        make(rng)


def test_a_convolution_shows_what_decides_its_output(rng):
    assert repr(Conv2d(3, 8, 3, rng=rng)) == "Conv2d(3, 8, 3)"
    assert repr(Conv2d(3, 8, 5, stride=2, padding=2, rng=rng)) == "Conv2d(3, 8, 5, stride=2, padding=2)"
