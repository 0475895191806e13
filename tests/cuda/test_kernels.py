"""Every CUDA kernel, run on the CPU, against the reference: in several schedules, and with every access checked."""

import numpy as np
import pytest

from incnet.backend import asarray, asnumpy, ops
from incnet.kernels import reference

from .cases import CONVOLUTIONS, FUSED, cases, error, results, truth

TOLERANCE = {np.float32: 2e-6, np.float64: 1e-13}
# What remains of the digits when values with a mean of 40 and a deviation of 3 are centred.
LOOSE = {np.float32: 2e-5, np.float64: 1e-12}


def listed(dtype, *convolutions):
    return [
        pytest.param(case, dtype, id=f"{case.kernel}-{case.name}-{dtype.__name__}")
        for case in cases(dtype, np.random.default_rng(0), *convolutions)
    ]


def compare(case, expected, dtype):
    found = results(case, ops, asarray, asnumpy)
    assert len(found) == len(expected)
    for got, wanted in zip(found, expected, strict=True):
        if case.exact:
            np.testing.assert_array_equal(got, wanted)
            assert got.dtype == wanted.dtype
        else:
            tolerance = LOOSE if case.kernel.startswith("batch_norm") else TOLERANCE
            assert error(got, wanted) < tolerance[dtype]


@pytest.mark.parametrize(("case", "dtype"), listed(np.float32) + listed(np.float64, CONVOLUTIONS[:3], FUSED[:2]))
def test_values(device, case, dtype):
    expected = truth(case, reference)
    for device.schedule in (0, 1, 2, 3):
        compare(case, expected, dtype)


@pytest.mark.parametrize(("case", "dtype"), listed(np.float32, CONVOLUTIONS, FUSED[:4]))
def test_no_race_and_no_access_out_of_bounds(device, case, dtype):
    device.checked, device.schedule = True, 4
    compare(case, truth(case, reference), dtype)
