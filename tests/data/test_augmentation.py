import numpy as np
import pytest

from incnet.data import DATASETS, Augmentation, DataError


def test_draw():
    shifts, flips = Augmentation(shift=2, flip=True).draw(2000, np.random.default_rng(0))
    assert shifts.shape == (2000, 2)
    assert flips.shape == (2000,)
    assert flips.dtype == np.bool_
    for axis in range(2):
        assert np.unique(shifts[:, axis]).tolist() == [-2, -1, 0, 1, 2]
    assert 0.4 < flips.mean() < 0.6


def test_nothing_to_draw():
    shifts, flips = Augmentation(shift=0, flip=False).draw(10, np.random.default_rng(0))
    assert not shifts.any()
    assert not flips.any()


@pytest.mark.parametrize("name", DATASETS)
def test_every_data_set_has_a_default(name):
    assert Augmentation.default_for(name).flip == (name not in ("digits", "mnist"))  # mirrored digits are none


def test_errors():
    with pytest.raises(DataError, match="-1 is negative"):
        Augmentation(shift=-1, flip=True)
    with pytest.raises(DataError, match="no augmentation for 'svhn'"):
        Augmentation.default_for("svhn")
