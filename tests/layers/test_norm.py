"""Batch normalisation against its formulas, written out."""

import numpy as np
import pytest

from incnet.layers import BatchNorm2d
from tests.small_networks import assert_same_state, randomise, snapshot

# Large enough to show where it is put: next to a variance of about 1, 1e-5 would not.
EPS = 0.5


@pytest.fixture
def layer(rng):
    return randomise(BatchNorm2d(3, eps=EPS, decay=0.8, dtype=np.float64), rng)


@pytest.fixture
def x(rng):
    return 2 + 1.5 * rng.standard_normal((4, 5, 3, 3))


def normalised(layer, x, mean, var):
    return layer.gamma.data * (x - mean) / np.sqrt(var + EPS) + layer.beta.data


@pytest.mark.usefixtures("backend")
def test_training_uses_the_batch_and_moves_the_running_statistics(layer, x):
    mean, var = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
    before = snapshot(layer)
    np.testing.assert_allclose(layer.forward(x, train=True), normalised(layer, x, mean, var), rtol=1e-12)
    m = 4 * 5 * 3
    np.testing.assert_allclose(layer.running_mean, 0.8 * before["running_mean"] + 0.2 * mean, rtol=1e-12)
    np.testing.assert_allclose(layer.running_var, 0.8 * before["running_var"] + 0.2 * var * m / (m - 1), rtol=1e-12)


@pytest.mark.usefixtures("backend")
def test_evaluation_uses_the_running_statistics(layer, x):
    expected = normalised(layer, x, layer.running_mean, layer.running_var)
    np.testing.assert_allclose(layer.forward(x), expected, rtol=1e-12)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("statistics", ["eval", "batch"])
def test_frozen(layer, x, rng, statistics):
    """Either way dx is the gradient of what was computed, and nothing moves."""
    layer.freeze()
    layer.frozen_statistics = statistics
    before = snapshot(layer)
    mean, var = layer.running_mean, layer.running_var
    if statistics == "batch":
        mean, var = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
    np.testing.assert_allclose(layer.forward(x, train=True), normalised(layer, x, mean, var), rtol=1e-12)

    dy = rng.standard_normal(x.shape)
    dx = layer.backward(dy)
    x_hat = (x - mean) / np.sqrt(var + EPS)
    through_statistics = dy.mean(axis=(0, 1, 2)) + x_hat * (dy * x_hat).mean(axis=(0, 1, 2))
    expected = layer.gamma.data / np.sqrt(var + EPS) * (dy - (statistics == "batch") * through_statistics)
    np.testing.assert_allclose(dx, expected, rtol=1e-10, atol=1e-12)
    assert layer.gamma.grad is None
    assert layer.beta.grad is None
    assert_same_state(layer, before)


@pytest.mark.usefixtures("backend")
def test_a_gradient_of_ones_vanishes(layer, x):
    """What makes an all-ones gradient useless as a test: batch norm's output does not move with its mean."""
    layer.forward(x, train=True)
    assert np.abs(layer.backward(np.ones_like(x))).max() < 1e-12


def test_one_value_per_channel_is_refused_and_leaves_the_statistics_as_they_are(layer):
    before = layer.running_mean.copy(), layer.running_var.copy()
    with pytest.raises(ValueError, match="use batches of at least 2 images"):
        layer.forward(np.ones((1, 1, 1, 3)), train=True)
    np.testing.assert_array_equal((layer.running_mean, layer.running_var), before)


@pytest.mark.usefixtures("backend")
def test_a_mean_far_from_zero_costs_no_accuracy(rng):
    """Nearly constant channels, in float32: the variance is not a difference of two large numbers."""
    x = (1000 + rng.standard_normal((8, 16, 16, 2))).astype(np.float32)
    layer = BatchNorm2d(2)
    y = layer.forward(x, train=True)
    expected = (x - x.mean(axis=(0, 1, 2), dtype=np.float64)) / x.std(axis=(0, 1, 2), dtype=np.float64)
    np.testing.assert_allclose(y, expected, atol=2e-3)


def test_another_number_of_channels_is_an_error():
    with pytest.raises(ValueError, match=r"BatchNorm2d expects 3 channels, the input has shape \(4, 4, 5\)"):
        BatchNorm2d(3).output_shape((4, 4, 5))
