"""Softmax cross-entropy by its formula, and where a naive one fails."""

import numpy as np
import pytest

from incnet.backend import ops

pytestmark = pytest.mark.usefixtures("backend")


def mean_loss(logits, labels):
    return ops.softmax_cross_entropy(logits, labels)[0][0] / len(labels)


def test_equal_logits_lose_the_logarithm_of_the_number_of_classes():
    totals, dlogits = ops.softmax_cross_entropy(np.zeros((3, 10)), np.array([1, 0, 9]))
    assert totals[0] == pytest.approx(3 * np.log(10), rel=1e-14)
    assert totals[1] == 1  # the first of equals counts as the prediction
    assert dlogits[0, 1] == pytest.approx(-0.9 / 3)
    assert dlogits[0, 0] == pytest.approx(0.1 / 3)


def test_gradient(rng):
    logits, labels, v = rng.standard_normal((6, 4)), rng.integers(4, size=6), rng.standard_normal((6, 4))
    _, dlogits = ops.softmax_cross_entropy(logits, labels)
    slope = (mean_loss(logits + 1e-5 * v, labels) - mean_loss(logits - 1e-5 * v, labels)) / 2e-5
    assert np.vdot(dlogits, v) == pytest.approx(slope, rel=1e-8)
    np.testing.assert_allclose(dlogits.sum(axis=1), 0, atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_logits_neither_overflow_nor_vanish(dtype):
    logits = np.array([[1e4, 0, -1e4], [-1e4, 0, 1e4]], dtype)
    totals, dlogits = ops.softmax_cross_entropy(logits, np.array([0, 0]))
    np.testing.assert_allclose(totals, [2e4, 1])
    np.testing.assert_allclose(dlogits, [[0, 0, 0], [-0.5, 0, 0.5]], atol=1e-12)
    assert dlogits.dtype == dtype
    assert totals.dtype == np.float64


def test_nan_is_not_hidden():
    totals, _ = ops.softmax_cross_entropy(np.array([[0.0, np.nan], [1.0, 0.0]]), np.array([0, 0]))
    assert np.isnan(totals[0])


def test_a_common_constant_changes_nothing(rng):
    logits, labels = rng.standard_normal((5, 7)), rng.integers(7, size=5)
    assert mean_loss(logits + 100, labels) == pytest.approx(mean_loss(logits, labels), rel=1e-12)


@pytest.mark.parametrize("labels", [np.array([0.0, 1.5]), np.array([True, False])])
def test_labels_that_are_no_integers_are_refused(labels):
    with pytest.raises(TypeError, match=f"labels are {labels.dtype}, which are no integers"):
        ops.softmax_cross_entropy(np.zeros((2, 3), np.float32), labels)
