"""How arrays get from rank to rank, and which way those of GPUs take.

==========  ===================================  ===========================================================
``mpi``     arrays in host memory                :class:`incnet.parallel.mpi.HostTransport`
``nccl``    device arrays, from GPU to GPU       :class:`incnet.parallel.nccl.NcclTransport`
``staged``  device arrays, through host memory   :class:`incnet.parallel.staged.StagedTransport`
==========  ===================================  ===========================================================
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from incnet.backend import Array, DeviceError, device_count, ops, resolve
from incnet.communicator import Communicator, Pending

__all__ = ["Place", "Transport", "choose", "device_of_rank", "nccl_version", "place"]

INSTALL = "pip install nvidia-nccl-cu13, or -cu12 with CuPy for CUDA 12"


class Transport(Protocol):
    """What a communicator has its arrays carried by.

    Attributes
    ----------
    recordable : bool
        Whether sums may be among the calls that are recorded: with a CUDA graph, whether they are launches and nothing
        else.
    """

    recordable: bool

    def allreduce_async(self, array: Array) -> Pending:
        """Begin to replace an array by its sum over the ranks; see :meth:`Communicator.allreduce_async`."""

    def broadcast(self, arrays: Mapping[str, Array]) -> None:
        """Overwrite arrays by those of rank 0."""


def device_of_rank(device: str, communicator: Communicator) -> str:
    """Backend for ``--device`` on this rank: the ranks of a machine take its GPUs in turn.

    Of the GPUs that the rank sees, that is: where a launcher shows each rank one of its own, all take their first.

    Raises
    ------
    DeviceError
        No such device, or one by number for several ranks of a machine.
    """
    backend = resolve(device)
    if backend == "cuda" and communicator.local_size > 1:
        return f"cuda:{communicator.local_rank % device_count()}"
    if backend.startswith("cuda:") and communicator.local_size > 1:
        number = backend.removeprefix("cuda:")
        raise DeviceError(
            f"--device {device}: {communicator.local_size} ranks of this machine would share that GPU; choose --device "
            f"gpu, and each takes another one (to have them share it, with CUDA_VISIBLE_DEVICES={number})"
        )
    return backend


@dataclass(frozen=True)
class Place:
    """Where a rank computes.

    Attributes
    ----------
    gpu : (int, str) or None
        A number of its machine, and the address there of its GPU; None for a rank on a CPU.
    nccl : str or None
        Version of NCCL that CuPy finds there, if it finds one.
    """

    gpu: tuple[int, str] | None
    nccl: str | None


def place(machine: int) -> Place:
    """Where this rank computes, on a machine of this number, with the backend in use."""
    if not ops.on_device:
        return Place(None, None)
    device = importlib.import_module("cupy").cuda.Device()
    return Place((machine, device.pci_bus_id), nccl_version())


def nccl_version() -> str | None:
    """Version of NCCL that CuPy finds on this machine; None if it finds none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # CuPy warns where NCCL is missing; :func:`choose` says what comes of it
        nccl = importlib.import_module("cupy.cuda.nccl")
    if not nccl.available:
        return None
    version = nccl.get_version()  # 22707
    return f"{version // 10000}.{version // 100 % 100}.{version % 100}"


def choose(asked: str, places: Sequence[Place]) -> tuple[str, str]:
    """Choose ``mpi``, ``nccl`` or ``staged`` for ranks at these places.

    Parameters
    ----------
    asked : {"auto", "nccl", "staged"}
        ``auto`` for NCCL where it works, and else the way through host memory.

    Returns
    -------
    transport, reason
        The reason in words for the user.

    Raises
    ------
    DeviceError
        If some ranks have a GPU and others none, or what was asked for cannot be had.
    """
    on_cpu = [rank for rank, its in enumerate(places) if its.gpu is None]
    if len(on_cpu) == len(places):
        if asked != "auto":
            raise DeviceError(f"--allreduce {asked}: the ranks compute on CPUs; leave it out, or choose --device gpu")
        return "mpi", "the ranks compute on CPUs"
    if on_cpu:
        raise DeviceError(
            f"no GPU for {listed(on_cpu)} of {len(places)}, and some for the others; choose --device cpu, or gpu to be "
            "told what is missing"
        )
    if asked == "staged":
        return "staged", "as --allreduce staged says"
    if trouble := why_not_nccl(places):
        if asked == "nccl":
            raise DeviceError(f"--allreduce nccl: {trouble}")
        return "staged", trouble
    return "nccl", "every rank has a GPU of its own"


def why_not_nccl(places: Sequence[Place]) -> str | None:
    """Return what keeps ranks at these places from NCCL; None if nothing does."""
    if without := [rank for rank, its in enumerate(places) if its.nccl is None]:
        return f"CuPy finds no NCCL for {listed(without)} ({INSTALL})"
    for its in places:
        if len(sharing := [rank for rank, other in enumerate(places) if other.gpu == its.gpu]) > 1:
            return f"{listed(sharing)} share a GPU, which NCCL refuses"
    if len(versions := {its.nccl for its in places}) > 1:
        return f"the ranks have different versions of NCCL ({', '.join(sorted(filter(None, versions)))})"
    return None


def listed(ranks: Sequence[int]) -> str:
    """``ranks 0, 1 and 2``."""
    *most, last = map(str, ranks)
    return f"ranks {', '.join(most)} and {last}" if most else f"rank {last}"
