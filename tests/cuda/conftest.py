"""Fixtures of the ladder: the double of CuPy."""

import pytest

from incnet import backend

from . import strict_cupy
from .emulator import executed


@pytest.fixture
def device(record_property):
    """The double of CuPy as the backend in use; yields the counters."""
    executed.clear()
    with strict_cupy.installed() as device:
        backend.use("cuda")
        yield device
        backend.use("cpu")
    record_property("executed", sorted(executed))
