"""Kernels are tested on as many threads as they have in use: a race needs two."""

import numba
import pytest

from incnet.kernels.cpu import parallel
from incnet.threads import use_threads


@pytest.fixture(autouse=True, scope="package")
def _all_threads(_one_thread):
    use_threads(None)
    yield
    use_threads(1)


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request, monkeypatch):
    """Run on one thread, then on two, however small the arrays are."""
    if request.param > numba.config.NUMBA_NUM_THREADS:
        pytest.skip("needs two threads")
    before = numba.get_num_threads()
    numba.set_num_threads(request.param)
    monkeypatch.setattr(parallel, "SERIAL", 0)
    yield request.param
    numba.set_num_threads(before)
