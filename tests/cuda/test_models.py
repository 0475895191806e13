"""Models on the double of CuPy: what they answer on NumPy arrays."""

import numpy as np
import pytest

from incnet import backend
from incnet.deploy import Model
from tests.deploy.products import pictures, stages


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize(("shape", "resize"), [((8, 6, 3), None), ((5, 4, 1), 9)])
def test_a_model_answers_on_the_device_as_on_the_host(shape, resize):
    backend.use("cpu")
    description, weights = list(stages("resnet8", shape, resize=resize))[1]
    images = pictures(shape, 3)
    expected = Model(description, weights).logits(images)
    backend.use("cuda")
    found = Model(description, weights).logits(images)
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
