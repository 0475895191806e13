"""Every CUDA kernel, run on the CPU, against the reference: in several schedules, and with every access checked."""

import numpy as np
import pytest

from incnet import backend
from incnet.backend import asarray, asnumpy, ops
from incnet.doctor.cases import CONVOLUTIONS, FUSED, cases, error, in_double, mapped, results, truth
from incnet.kernels import reference
from incnet.kernels.im2col import Im2col

from .cases import in_tf32, products

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


def listed_convolutions(dtype, *convolutions):
    """Those cases that can be computed by im2col."""
    return [each for each in listed(dtype, *convolutions) if hasattr(Im2col, each.values[0].kernel)]


@pytest.mark.parametrize(
    ("case", "dtype"), listed_convolutions(np.float32) + listed_convolutions(np.float64, CONVOLUTIONS[:3])
)
def test_values_by_im2col(device, case, dtype):
    backend.use("cuda", convolution="im2col")
    expected = truth(case, reference)
    for device.schedule in (0, 3):
        compare(case, expected, dtype)


@pytest.mark.parametrize(("case", "dtype"), listed_convolutions(np.float32))
def test_im2col_without_a_race_or_an_access_out_of_bounds(device, case, dtype):
    backend.use("cuda", convolution="im2col")
    device.checked, device.schedule = True, 4
    compare(case, truth(case, reference), dtype)


@pytest.mark.parametrize(("case", "dtype"), listed(np.float32, CONVOLUTIONS, FUSED[:4]))
def test_no_race_and_no_access_out_of_bounds(device, case, dtype):
    device.checked, device.schedule = True, 4
    compare(case, truth(case, reference), dtype)


@pytest.mark.parametrize(("case", "dtype"), listed(np.float32, CONVOLUTIONS[:1], FUSED[:1]))
def test_mixed_types_are_refused_or_right(device, case, dtype):
    """No kernel takes the bits of one type for those of another, whichever argument differs."""
    found_types = []
    for argument in case.arguments:
        mapped(lambda array: found_types.append(array.dtype), argument)
    count = found_types.count(dtype)

    def widened(odd):
        places = iter(range(count))
        return lambda array: in_double(array) if array.dtype == dtype and next(places) == odd else array

    for odd in range(count):
        widen = widened(odd)
        mixed = case._replace(arguments=tuple(mapped(widen, argument) for argument in case.arguments))
        try:
            found = results(mixed, ops, asarray, asnumpy)
        except TypeError:
            continue
        for got, wanted in zip(found, truth(mixed._replace(exact=False), reference), strict=True):
            assert error(got, wanted) < LOOSE[dtype]


def listed_products(*convolutions):
    return [
        pytest.param(case, id=f"{case.kernel}-{case.name}")
        for case in products(cases(np.float32, np.random.default_rng(0), *convolutions))
    ]


@pytest.mark.parametrize("case", listed_products(CONVOLUTIONS, FUSED[:3]))
def test_tf32_rounds_the_factors_and_nothing_else(device, case):
    backend.use("cuda", tf32=True)
    device.schedule = 3
    if case.kernel in ("conv2d", "conv2d_input_grad", "conv2d_weight_grad"):
        x, y, *rest = case.arguments
        rounded = case._replace(arguments=(in_tf32(x), in_tf32(y), *rest))
        compare(case, truth(rounded, reference), np.float32)
    found, expected = results(case, ops, asarray, asnumpy), truth(case, reference)
    worst = max(error(got, wanted) for got, wanted in zip(found, expected, strict=True))
    assert 1e-5 < worst < 1e-3


@pytest.mark.parametrize("case", listed_products(CONVOLUTIONS[:3], FUSED[:2]))
def test_tf32_without_a_race_or_an_access_out_of_bounds(device, case):
    backend.use("cuda", tf32=True)
    device.checked, device.schedule = True, 4
    results(case, ops, asarray, asnumpy)


def test_tf32_leaves_double_precision_alone(device):
    backend.use("cuda", tf32=True)
    case = next(products(cases(np.float64, np.random.default_rng(0))))
    compare(case, truth(case, reference), np.float64)
