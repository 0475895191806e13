"""He initialisation."""

import numpy as np
import pytest

from incnet.init import Blank, he_normal


@pytest.mark.parametrize(("shape", "fan_in"), [((3, 3, 64, 50), 576), ((200, 300), 200), ((1, 1, 30, 900), 30)])
def test_deviation(shape, fan_in):
    weights = he_normal(shape, np.random.default_rng(0), np.float64)
    deviation = np.sqrt(2 / fan_in)
    assert abs(weights.mean()) < 4 * deviation / np.sqrt(weights.size)
    assert weights.std() == pytest.approx(deviation, rel=4 / np.sqrt(2 * weights.size))


def test_every_dtype_gets_the_same_values_rounded():
    single, double = (he_normal((3, 3, 2, 4), np.random.default_rng(5), dtype) for dtype in (np.float32, np.float64))
    assert (single.dtype, double.dtype) == (np.float32, np.float64)
    np.testing.assert_array_equal(single, double.astype(np.float32))


def test_blank_weights_take_no_memory_and_cannot_be_used_by_mistake():
    weights = he_normal((3, 3, 10**6, 10**6), Blank())
    assert (weights.shape, weights.dtype) == ((3, 3, 10**6, 10**6), np.float32)
    with pytest.raises(ValueError, match="read-only"):
        weights[0, 0, 0, 0] = 1
