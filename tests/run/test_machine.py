"""A run that is made in Python computes where and how its configuration says, or is refused."""

import pytest

from incnet import backend
from incnet.backend import DeviceError, selected
from incnet.communicator import Communicator
from incnet.config import MACHINE, Config
from incnet.fusion import FusedSequential
from incnet.options import described
from incnet.run.machine import use_as_asked
from incnet.run.run import Run
from incnet.storage.silent import SilentFolder
from incnet.threads import threads_in_use, use_threads


def make(**options):
    return Run(Config(arch="resnet8", limit=60, **options).resolve())


def is_fused(run):
    return any(isinstance(layer, FusedSequential) for layer in run.state.subnetworks["S1"].layers())


@pytest.fixture(autouse=True)
def _threads_afterwards():
    before = threads_in_use()
    yield
    use_threads(before)


def test_how_to_convolve():
    run = make(convolution="im2col")
    assert (selected().convolution, is_fused(run)) == ("im2col", False)
    run = make()
    assert (selected().convolution, is_fused(run)) == ("auto", True)


def test_where_to_compute():
    make(device="reference")
    assert (backend.ops.name, threads_in_use()) == ("reference", 1)
    make()
    assert backend.ops.name == "reference"  # which auto leaves as it is
    make(device="cpu")
    assert backend.ops.name == "cpu"
    with pytest.raises(DeviceError, match="--device gpu:9: "):
        make(device="gpu:9")


def test_tensor_cores():
    with pytest.raises(DeviceError, match="--tf32: the cpu backend has no tensor cores; leave it out"):
        make(tf32=True)


def test_threads():
    use_threads(2)
    make()
    assert threads_in_use() == 2
    make(threads=1)
    assert threads_in_use() == 1


class Ranks(Communicator):
    """Two of them, which note what they were asked to send sums of device arrays by."""

    size = 2

    def reach_devices(self, asked):
        self.carried_by = asked


def test_what_carries_the_sums_of_ranks_on_gpus(monkeypatch):
    monkeypatch.setattr(type(backend.ops), "on_device", True)
    ranks = Ranks()
    for asked, expected in (("staged", "staged"), ("nccl", "staged")):  # a second run sends them as the first one does
        use_as_asked(Config(allreduce=asked).resolve(), ranks)
        assert ranks.carried_by == expected


def test_no_option_of_the_machine_is_forgotten():
    options = {name for name, facts in described(Config).items() if facts.group == MACHINE}
    assert options == {"device", "convolution", "tf32", "threads", "allreduce"}


def test_a_run_stays_where_it_was_made():
    run = make(epochs=1, method="baseline")
    make(device="reference", convolution="im2col")
    run.train(SilentFolder("nowhere"))
    assert selected() == ("cpu", "auto", False)
