import sys

import numpy as np
import pytest

from incnet.data.dataset import DataError
from incnet.data.digits import load_digits


def test_digits():
    digits = load_digits()
    assert digits.image_shape == (8, 8, 1)
    assert (len(digits.train), len(digits.test)) == (1438, 359)
    assert digits.train.images.min() == 0
    assert digits.train.images.max() == 255
    assert np.ptp(np.bincount(digits.test.labels)) <= 3
    again = load_digits()
    np.testing.assert_array_equal(digits.test.images, again.test.images)


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(DataError, match=r'pip install "incnet\[demo\]"'):
        load_digits()
