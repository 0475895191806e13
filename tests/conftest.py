"""What every test may use: the backends, a generator of its own, and hypothesis without chance or clock."""

import zlib

import numpy as np
import pytest
from hypothesis import settings

from incnet.backend import ops, use
from incnet.models import vgg
from incnet.threads import use_threads
from tests.cuda.summary import pytest_terminal_summary  # noqa: F401

settings.register_profile("incnet", derandomize=True, deadline=None)
settings.load_profile("incnet")


@pytest.fixture(autouse=True)
def _same_backend_afterwards():
    """Leave the backend as it was, whatever a test chooses."""
    before = ops.name
    yield
    use(before)


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Compute on one thread: on a busy machine, to wait for a second one takes longer than small networks compute."""
    use_threads(1)


@pytest.fixture(params=["reference", "cpu"])
def backend(request):
    """Run the test once on each backend of the CPU."""
    use(request.param)
    return request.param


@pytest.fixture
def rng(request):
    """Generator that is another one for every test, and the same one in every run."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture
def slim_vgg(monkeypatch):
    """VGG-16 with all of its layers and a sixteenth of its width: what is counted here does not depend on that."""
    monkeypatch.setattr(vgg, "STAGES", tuple((filters // 16, convolutions) for filters, convolutions in vgg.STAGES))
    monkeypatch.setattr(vgg, "DENSE", tuple(nodes // 64 for nodes in vgg.DENSE))
