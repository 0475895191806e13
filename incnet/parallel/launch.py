"""Whether this process is one of several, and how it gets to talk to the others."""

from __future__ import annotations

import os
from typing import NamedTuple

from incnet.communicator import Communicator
from incnet.extras import install

__all__ = ["LAUNCHER_PREFIXES", "LaunchError", "Launched", "connect", "is_first", "launched"]

# What launchers tell each process about itself: its rank, the number of processes, and what begins the names of the
# variables by which it reaches the launcher. MPICH's Hydra, Intel MPI and Slurm's PMI-1 and PMI-2; Open MPI; Slurm's
# PMIx, and others that speak it.
LAUNCHERS = {
    "PMI_RANK": ("PMI_SIZE", ("PMI_FD", "PMI_PORT")),
    "OMPI_COMM_WORLD_RANK": ("OMPI_COMM_WORLD_SIZE", ("PMIX_SERVER_",)),
    "PMIX_RANK": ("SLURM_STEP_NUM_TASKS", ("PMIX_SERVER_",)),
}
# Of the variables that a launcher means for one process, and not for those that it starts.
LAUNCHER_PREFIXES = ("PMI_", "PMIX_", "OMPI_", "MPI_LOCAL", "HYDI_", "HYDRA_")


class LaunchError(Exception):
    """Several processes were started that cannot talk to each other."""


class Launched(NamedTuple):
    """Which process this is of those that an MPI launcher has started, and their number; None if that is unknown."""

    rank: int
    size: int | None


def launched() -> Launched | None:
    """Return what a launcher has told this process; None for a process by itself.

    That is what one of one is, too, and one that nobody can be reached from: shells of a batch system keep the
    variables of a launcher that has started nothing but the shell.
    """
    for rank, (size, server) in LAUNCHERS.items():
        mine, count = _number(rank), _number(size)
        reachable = any(name.startswith(server) for name in os.environ)
        if mine is not None and (reachable if count is None else count > 1):
            return Launched(mine, count)
    return None


def is_first() -> bool:
    """Whether this process is the one that works, where several were started for a command that takes one."""
    by_launcher = launched()
    return by_launcher is None or by_launcher.rank == 0


def _number(variable: str) -> int | None:
    text = os.environ.get(variable, "")
    return int(text) if text.isdecimal() else None


def connect() -> Communicator:
    """Return the communicator of all processes that were started together; MPI is imported only if there may be some.

    Raises
    ------
    LaunchError
        If a launcher has started this process, and mpi4py is missing or belongs to another MPI library: each process
        would train by itself, all of them in one folder.
    """
    by_launcher = launched()
    if by_launcher is None:
        return Communicator()
    try:
        from incnet.parallel.mpi import MPI, MpiCommunicator
    except (ImportError, RuntimeError) as error:  # mpi4py raises the latter where it finds no MPI library
        raise LaunchError(
            f"started by mpiexec, but mpi4py cannot be used ({error}): {install('mpi')}, or start one process"
        ) from error
    communicator = MpiCommunicator()
    if by_launcher.size is not None and communicator.size != by_launcher.size:
        library = MPI.Get_library_version().split("\n")[0].strip("\0 ")
        raise LaunchError(
            f"mpiexec has started {by_launcher.size} processes, but mpi4py's MPI library ({library}) sees "
            f"{communicator.size}: use the mpiexec that belongs to it"
        )
    return communicator if communicator.size > 1 else Communicator()
