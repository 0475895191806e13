"""A double of ``cupy.cuda.nccl``: ranks that exchange over MPI, on the host, and keep to NCCL's rules.

A collective is a launch on a stream of the double of CuPy, takes place when the stream comes to it, and until then
changes nothing. Refused is what NCCL refuses, and what it would not notice, and hang or compute nonsense: pointers to
other memory than the device's, or past its end; other counts, types or operations on other ranks; two ranks on one
device. A communicator must not be destroyed while a graph holds one of its collectives: NCCL would wait for ever.

One rank needs no MPI.
"""

from __future__ import annotations

import os
import sys
import types
import weakref
from bisect import bisect_right

import numpy as np

VERSION = 22707
# As in nccl.h.
TYPES = {1: np.uint8, 4: np.int64, 7: np.float32, 8: np.float64}
OPERATIONS = {0: "SUM", 1: "PROD", 2: "MAX", 3: "MIN"}


class NcclError(RuntimeError):
    """NCCL's only kind of error."""


def make(device, streams) -> types.ModuleType:
    """Return the module for a double of CuPy."""

    def memory(pointer: int, count: int, kind: int) -> np.ndarray:
        """The array that a collective is about."""
        if kind not in TYPES:
            raise NcclError(f"NCCL_ERROR_INVALID_ARGUMENT: type {kind}")
        starts = sorted(device.allocations)
        place = bisect_right(starts, pointer) - 1
        if place < 0:
            raise NcclError("NCCL_ERROR_INVALID_ARGUMENT: no memory of the device, or given back")
        owner = device.allocations[starts[place]]
        start = owner.extent.start + pointer - starts[place]
        end = start + count * np.dtype(TYPES[kind]).itemsize
        if end > owner.extent.stop:
            raise NcclError("NCCL_ERROR_INVALID_ARGUMENT: no memory of the device, or given back")
        return owner.view(np.ndarray)[start:end].view(TYPES[kind])

    class NcclCommunicator:
        """One rank among several, each on a device of its own."""

        def __init__(self, ndev: int, commId: tuple, rank: int) -> None:
            self.comm = None
            self.graphs: weakref.WeakSet = weakref.WeakSet()
            if ndev == 1:
                return
            from mpi4py import MPI

            self.comm = MPI.COMM_WORLD.Dup()
            index = device.index
            every = self.comm.allgather((commId, rank, index))
            if {each[0] for each in every} != {commId} or sorted(each[1] for each in every) != list(range(ndev)):
                raise NcclError("NCCL_ERROR_INVALID_ARGUMENT: not the ranks of one communicator")
            if len({each[2] for each in every}) < ndev:
                raise NcclError(f"NCCL_ERROR_INVALID_USAGE: Duplicate GPU detected: rank {rank} on CUDA device {index}")

        def __del__(self) -> None:
            if len(self.graphs):
                print("ncclCommDestroy waits for ever for a graph", file=sys.stderr, flush=True)
                os._exit(97)

        def allReduce(self, sendbuf: int, recvbuf: int, count: int, datatype: int, op: int, stream: int) -> None:
            if sendbuf != recvbuf:
                raise NotImplementedError

            def exchange(array: np.ndarray, mpi) -> None:
                self.comm.Allreduce(mpi.IN_PLACE, array, getattr(mpi, OPERATIONS[op]))

            self._launch(("allReduce", count, datatype, op), sendbuf, count, datatype, stream, exchange)

        def bcast(self, buff: int, count: int, datatype: int, root: int, stream: int) -> None:
            def exchange(array: np.ndarray, mpi) -> None:
                self.comm.Bcast(array, root)

            self._launch(("bcast", count, datatype, root), buff, count, datatype, stream, exchange)

        def _launch(self, what: tuple, pointer: int, count: int, datatype: int, stream: int, exchange) -> None:
            memory(pointer, count, datatype)
            captured = streams[stream].captured  # by all ranks or by none

            def collective() -> None:
                array = memory(pointer, count, datatype)
                if self.comm is None:
                    return
                from mpi4py import MPI

                if len(set(every := self.comm.allgather((*what, captured)))) > 1:
                    raise NcclError(f"other collectives on other ranks: {every}")
                exchange(array, MPI)
                device.counts["bytes_summed"] += array.nbytes

            if captured:
                self.graphs.add(device.graph)
            streams[stream].launch("collectives", collective)

    module = types.ModuleType("cupy.cuda.nccl")
    module.available, module.NcclError, module.NcclCommunicator = True, NcclError, NcclCommunicator
    module.NCCL_UINT8, module.NCCL_FLOAT32, module.NCCL_FLOAT64, module.NCCL_SUM = 1, 7, 8, 0
    module.get_version = lambda: VERSION
    module.get_unique_id = lambda: tuple(os.urandom(128))
    return module
