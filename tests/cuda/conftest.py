"""Fixtures of the ladder: the double of CuPy, and counts for the summary."""

import pytest

from incnet import backend

from . import strict_cupy


@pytest.fixture
def device():
    """The double of CuPy as the backend in use; yields the counters."""
    with strict_cupy.installed() as device:
        backend.use("cuda")
        yield device
        backend.use("cpu")
