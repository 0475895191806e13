"""Kernels are tested on as many threads as they have in use: a race needs two."""

import pytest

from incnet.threads import use_threads


@pytest.fixture(autouse=True, scope="package")
def _all_threads(_one_thread):
    use_threads(None)
    yield
    use_threads(1)
