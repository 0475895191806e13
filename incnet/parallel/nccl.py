"""Arrays that go from GPU to GPU, by NCCL (https://developer.nvidia.com/nccl)."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping

import cupy as cp
import numpy as np
from cupy.cuda import nccl

from incnet.backend import Array
from incnet.communicator import Pending

__all__ = ["NcclTransport"]

TYPES = {
    np.dtype(np.uint8): nccl.NCCL_UINT8,
    np.dtype(np.float32): nccl.NCCL_FLOAT32,
    np.dtype(np.float64): nccl.NCCL_FLOAT64,
}


class NcclTransport:
    """Sums by launches on a stream of their own, beside those of backward; nothing on the host waits for any.

    A sum begins when what was launched before ``allreduce_async`` is done, and what is launched after its ``wait``
    begins when the sum is there. Both are orders between streams, which a recorded step keeps: what is captured while
    the current stream is, belongs to the same CUDA graph. So steps are recorded with their sums, by all ranks at the
    same step, and a replay sums without any Python code, as NCCL allows with one communicator per process.

    Parameters
    ----------
    unique_id : tuple
        That ``nccl.get_unique_id()`` returned on one rank, for all.
    rank, size : int
        Of this process, and number of ranks, each of which has a GPU of its own and makes its transport at the same
        time.
    """

    recordable = True

    def __init__(self, unique_id: tuple[int, ...], rank: int, size: int) -> None:
        self._ranks = nccl.NcclCommunicator(size, unique_id, rank)
        # It is never destroyed, but ends with the process: destroying it would wait until all CUDA graphs with its sums
        # are gone, and for ever where somebody still holds one.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._ranks))
        # Non-blocking: a blocking stream would take turns with the default one, and could not run beside backward.
        self._stream = cp.cuda.Stream(non_blocking=True)

    def allreduce_async(self, array: Array) -> Pending:
        self._after(array)
        here = array.data.ptr
        self._ranks.allReduce(here, here, array.size, TYPES[array.dtype], nccl.NCCL_SUM, self._stream.ptr)
        return NcclSum(array, self._stream.record())

    def broadcast(self, arrays: Mapping[str, Array]) -> None:
        for array in arrays.values():
            self._after(array)
            self._ranks.bcast(array.data.ptr, array.nbytes, nccl.NCCL_UINT8, 0, self._stream.ptr)
        cp.cuda.get_current_stream().wait_event(self._stream.record())

    def _after(self, array: Array) -> None:
        """Let what comes on the own stream begin after all that was launched, as far as it is about ``array``."""
        if not array.flags.c_contiguous:
            raise ValueError(f"an array of shape {array.shape} and strides {array.strides}: NCCL takes contiguous ones")
        self._stream.wait_event(cp.cuda.get_current_stream().record())


class NcclSum:
    """A sum on the way. Holds the array: in memory that is given back, others would write meanwhile."""

    def __init__(self, array: Array, arrived: cp.cuda.Event) -> None:
        self.array, self.arrived = array, arrived

    def progress(self) -> None:
        """The device works on it without the host."""

    def wait(self) -> None:
        """Let whatever is launched from now on find the sum."""
        cp.cuda.get_current_stream().wait_event(self.arrived)
