"""To the CPU's kernels numbers that are subnormal are zero: they would make each instruction that meets one slow."""

import numpy as np
import pytest

from incnet.kernels import cpu
from incnet.kernels.cpu.emit import X86
from incnet.kernels.cpu.parallel import SERIAL

SUBNORMAL = np.float32(1e-40)


@pytest.mark.skipif(not X86, reason="only x86 is told so")
@pytest.mark.parametrize("size", [100, 2 * SERIAL], ids=["one thread", "all threads"])
def test_what_decays_below_the_smallest_normal_number_is_zero(size):
    """The weights of a unit that is never active: their only gradient is the weight decay's."""
    data, grad, square, velocity = (np.full(size, value, np.float32) for value in (SUBNORMAL, 0, SUBNORMAL, SUBNORMAL))
    cpu.rmsprop_step_all([(data, grad, square, velocity, 0.1)], 1e-3, 0.9, 0.9, 1e-7)
    average = np.full(size, SUBNORMAL, np.float32)
    cpu.lerp_all([(average, data)], 0.5)
    assert not any(array.any() for array in (data, square, velocity, average))


@pytest.mark.parametrize("size", [100, 2 * SERIAL], ids=["one thread", "all threads"])
def test_what_is_computed_elsewhere_keeps_them(size):
    cpu.relu(np.ones(size, np.float32))
    assert SUBNORMAL * np.float32(1) == SUBNORMAL
    assert (np.full(size, SUBNORMAL) + np.float32(0)).all()
