"""Which GPU a rank computes on, and what carries its sums."""

import re

import pytest

from incnet.backend import DeviceError
from incnet.communicator import Communicator
from incnet.parallel.transport import Place, choose, device_of_rank, nccl_version
from tests.cuda import strict_cupy

CPU = Place(None, None)


def gpus(*addresses, machine=0, nccl="2.27.7"):
    return [Place((machine, address), nccl) for address in addresses]


@pytest.mark.parametrize(
    ("asked", "places", "kind", "reason"),
    [
        ("auto", [CPU, CPU], "mpi", "the ranks compute on CPUs"),
        ("auto", gpus("a", "b"), "nccl", "every rank has a GPU of its own"),
        ("nccl", gpus("a", "b"), "nccl", "every rank has a GPU of its own"),
        ("auto", gpus("a", "b") + gpus("a", "b", machine=2), "nccl", "every rank has a GPU of its own"),
        ("staged", gpus("a", "b"), "staged", "as --allreduce staged says"),
        ("auto", gpus("a", "b", "a", "a"), "staged", "ranks 0, 2 and 3 share a GPU, which NCCL refuses"),
        (
            "auto",
            gpus("a") + gpus("b", nccl=None),
            "staged",
            "CuPy finds no NCCL for rank 1 (pip install nvidia-nccl-cu13",
        ),
        (
            "auto",
            gpus("a") + gpus("b", nccl="2.30.3"),
            "staged",
            "the ranks have different versions of NCCL (2.27.7, ",
        ),
    ],
)
def test_the_choice_and_its_reason(asked, places, kind, reason):
    found, why = choose(asked, places)
    assert found == kind
    assert why.startswith(reason)


@pytest.mark.parametrize(
    ("asked", "places", "message"),
    [
        ("nccl", gpus("a", "a"), "--allreduce nccl: ranks 0 and 1 share a GPU"),
        ("nccl", [CPU, CPU], "--allreduce nccl: the ranks compute on CPUs; leave it out, or choose --device gpu"),
        ("staged", [CPU, CPU], "--allreduce staged: the ranks compute on CPUs"),
        ("auto", [*gpus("a", "b"), CPU], "no GPU for rank 2 of 3, and some for the others; choose --device cpu"),
    ],
)
def test_what_is_refused(asked, places, message):
    with pytest.raises(DeviceError, match=re.escape(message)):
        choose(asked, places)


@pytest.mark.parametrize(
    ("device", "rank", "ranks", "found"),
    [
        ("cpu", 1, 2, "cpu"),
        ("gpu", 0, 1, "cuda"),
        ("gpu:1", 0, 1, "cuda:1"),
        ("gpu", 0, 2, "cuda:0"),
        ("gpu", 1, 2, "cuda:1"),
        ("auto", 3, 4, "cuda:1"),
    ],
)
def test_ranks_of_a_machine_take_its_gpus_in_turn(device, rank, ranks, found):
    communicator = Communicator()
    communicator.local_rank, communicator.local_size = rank, ranks
    with strict_cupy.installed(devices=2):
        assert device_of_rank(device, communicator) == found


def test_a_numbered_gpu_is_for_one_rank_of_a_machine():
    communicator = Communicator()
    communicator.local_size = 2
    with (
        strict_cupy.installed(devices=2),
        pytest.raises(DeviceError, match="2 ranks of this machine would share"),
    ):
        device_of_rank("gpu:1", communicator)


def test_the_version_of_nccl():
    with strict_cupy.installed():
        assert nccl_version() == "2.27.7"
    with strict_cupy.installed(nccl=False):
        assert nccl_version() is None


def test_a_process_alone_has_nothing_to_carry():
    assert Communicator().reach_devices("auto") is None
    assert Communicator().carried_by is None
