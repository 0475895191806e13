"""The CPU's batch normalisation against the definition in float64."""

import numba
import numpy as np
import pytest

from incnet.kernels import cpu, reference
from incnet.kernels.cpu import norm, parallel

SHAPES = [(3, 5, 7, 16), (2, 8, 8, 64), (5, 10), (300, 128), (3, 4, 4, 10), (1, 1, 1, 16), (129, 6, 6, 32)]
EPS = 1e-5


@pytest.fixture(params=SHAPES, ids=str)
def case(request, rng):
    """Return x, dy, residual, gamma, beta in float64."""
    shape, C = request.param, request.param[-1]
    x = rng.uniform(0.5, 2, C) * rng.standard_normal(shape) + rng.standard_normal(C)
    gamma, beta = rng.uniform(0.5, 2, C), rng.standard_normal(C)
    return x, rng.standard_normal(shape), rng.standard_normal(shape), gamma, beta


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-5), (np.float64, 1e-11)])
def test_against_the_definition(case, dtype, tolerance, threads):
    single = [array.astype(dtype) for array in case]
    before = [array.copy() for array in single]
    x, dy, residual, gamma, beta = single
    statistics = norm.batch_norm_stats(x)
    x64, dy64, residual64, gamma64, beta64 = (array.astype(np.float64) for array in single)
    exact = reference.batch_norm_stats(x64)

    def check(actual, expected):
        assert actual.dtype == dtype
        np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * max(1, abs(expected).max()))

    for actual, expected in zip(statistics, exact, strict=True):
        check(actual, expected)
    if x[..., 0].size == 1:
        return  # its variance is zero: gradients are rounding errors
    statistics = [array.astype(dtype) for array in exact]
    for skip, skip64 in ((None, None), (residual, residual64)):
        for relu in (False, True):
            check(norm.batch_norm(x, *statistics, gamma, beta, EPS, skip, relu),
                  reference.batch_norm(x64, *exact, gamma64, beta64, EPS, skip64, relu))  # fmt: skip
    for name in ("batch_norm_grad", "batch_norm_fixed_grad"):
        actual = getattr(norm, name)(dy, x, *statistics, gamma, EPS)
        for a, e in zip(actual, getattr(reference, name)(dy64, x64, *exact, gamma64, EPS), strict=True):
            check(a, e)
    for array, copy in zip(single, before, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("shift", [0, 1e2, 1e4])
def test_a_large_mean_does_not_cancel(shift, rng):
    x = (rng.standard_normal((40, 8, 8, 16)) + shift).astype(np.float32)
    mean, var = norm.batch_norm_stats(x)
    exact = reference.batch_norm_stats(x.astype(np.float64))
    np.testing.assert_allclose(mean, exact[0], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(var, exact[1], rtol=1e-5)


def test_inputs_of_any_layout(rng):
    x = rng.standard_normal((3, 4, 4, 64)).astype(np.float32)[..., ::2]
    dy = rng.standard_normal((3, 4, 64, 4)).astype(np.float32).transpose(0, 1, 3, 2)[..., ::2]
    gamma = np.ones(32, np.float32)
    for a, b in zip(norm.batch_norm_stats(x), norm.batch_norm_stats(x.copy()), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    statistics = norm.batch_norm_stats(x.copy())
    for a, b in zip(norm.batch_norm_grad(dy, x, *statistics, gamma, EPS),
                    norm.batch_norm_grad(dy.copy(), x.copy(), *statistics, gamma, EPS), strict=True):  # fmt: skip
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_nan_is_seen(rng):
    """Divergence must not hide behind a ReLU."""
    x = rng.standard_normal((2, 4, 4, 16)).astype(np.float32)
    x[0, 0, 0, 3] = np.nan
    one, zero = np.ones(16, np.float32), np.zeros(16, np.float32)
    assert np.isnan(norm.batch_norm(x, zero, one, one, zero, EPS, relu=True)).sum() == 1


def test_few_threads_for_few_operations(rng, monkeypatch):
    """Small arrays are done by one thread, with the same result; the setting outlives the call."""
    x, seed = rng.standard_normal((6, 8, 8, 16)).astype(np.float32), np.uint64(7)
    before = numba.get_num_threads()
    results = []
    for serial in (0, x.size):
        monkeypatch.setattr(parallel, "SERIAL", serial)
        results.append((cpu.relu(x), cpu.dropout(x, 0.5, seed), *cpu.max_pool(x, 2, 2), cpu.bias_grad(x)))
        assert numba.get_num_threads() == before
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)
