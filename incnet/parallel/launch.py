"""Whether this process is one of several, and how it gets to talk to the others."""

from __future__ import annotations

import os

from incnet.parallel.communicator import Communicator

__all__ = ["LaunchError", "connect", "started_by_mpi"]

# What launchers tell each process about itself: its rank, and the number of processes where they say it. MPICH's Hydra,
# Intel MPI and Slurm's PMI-1 and PMI-2; Open MPI; Slurm's PMIx, and others that speak it.
LAUNCHERS = {
    "PMI_RANK": "PMI_SIZE",
    "OMPI_COMM_WORLD_RANK": "OMPI_COMM_WORLD_SIZE",
    "PMIX_RANK": None,
}


class LaunchError(Exception):
    """Several processes were started that cannot talk to each other."""


def started_by_mpi() -> bool:
    """Whether an MPI launcher has started this process."""
    return any(rank in os.environ for rank in LAUNCHERS)


def connect() -> Communicator:
    """Return the communicator of all processes that were started together; MPI is imported only if there may be some.

    Raises
    ------
    LaunchError
        If a launcher has started this process, and mpi4py is missing or belongs to another MPI library: each process
        would train by itself, all of them in one folder.
    """
    if not started_by_mpi():
        return Communicator()
    launched = next(os.environ.get(size or "") for rank, size in LAUNCHERS.items() if rank in os.environ)
    try:
        from incnet.parallel.mpi import MPI, MpiCommunicator
    except (ImportError, RuntimeError) as error:  # mpi4py raises the latter where it finds no MPI library
        raise LaunchError(
            f"started by mpiexec, but mpi4py cannot be used ({error}): pip install 'incnet[mpi]', or start one process"
        ) from error
    communicator = MpiCommunicator()
    if launched is not None and communicator.size != int(launched):
        library = MPI.Get_library_version().split("\n")[0].strip("\0 ")
        raise LaunchError(
            f"mpiexec has started {launched} processes, but mpi4py's MPI library ({library}) sees "
            f"{communicator.size}: use the mpiexec that belongs to it"
        )
    return communicator if communicator.size > 1 else Communicator()
