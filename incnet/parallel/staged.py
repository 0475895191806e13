"""Device arrays that are summed on the host, by way of page-locked memory: for ranks that NCCL cannot connect."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import cupy as cp
import numpy as np

from incnet.backend import Array
from incnet.communicator import Pending
from incnet.parallel.transport import Transport

__all__ = ["StagedTransport"]


class StagedTransport:
    """Copies arrays to the host, beside backward, has them summed there, and copies the sums back.

    The host has a part in every sum: it waits for the copy, and calls MPI. A CUDA graph repeats launches and no Python
    code, so steps are not recorded but launched one by one, which costs small networks more than the copies do.

    Parameters
    ----------
    host : Transport
        Sums arrays in host memory, and has nothing else to do: all ranks must hand it theirs in the same order.
    """

    recordable = False

    def __init__(self, host: Transport) -> None:
        self.host = host
        self._stream = cp.cuda.Stream(non_blocking=True)
        self._coming: deque[StagedSum] = deque()
        self._leaving: deque[tuple[cp.cuda.Event, np.ndarray]] = deque()

    def allreduce_async(self, array: Array) -> Pending:
        while self._leaving and self._leaving[0][0].done:
            self._leaving.popleft()
        memory = cp.cuda.alloc_pinned_memory(array.nbytes)
        staged = np.ndarray(array.shape, array.dtype, memory)
        self._stream.wait_event(cp.cuda.get_current_stream().record())
        array.get(self._stream, out=staged, blocking=False)
        copied = self._stream.record()
        self._coming.append(StagedSum(self, array, staged, copied))
        return self._coming[-1]

    def send(self, last: StagedSum | None = None) -> None:
        """Hand over what has come to the host, or wait for all up to ``last``: always the oldest first.

        Which copies are done when rank r looks is chance; the order in which they are handed over must not be.
        """
        while self._coming and (self._coming[0].copied.done if last is None else last.sum is None):
            first = self._coming.popleft()
            first.copied.synchronize()
            first.sum = self.host.allreduce_async(first.staged)

    def take_back(self, array: Array, staged: np.ndarray) -> None:
        """Copy from host memory, which is kept until that is done; what is launched later finds it done."""
        array.set(staged)
        self._leaving.append((cp.cuda.get_current_stream().record(), staged))

    def broadcast(self, arrays: Mapping[str, Array]) -> None:
        self.host.broadcast(arrays)


class StagedSum:
    """A sum of which one part after the other is on the way: to the host, between ranks, and, once waited for, back.

    Attributes
    ----------
    sum : Pending or None
        That of the host; None until the array is there.
    """

    def __init__(self, transport: StagedTransport, array: Array, staged: np.ndarray, copied: cp.cuda.Event) -> None:
        self.transport, self.array, self.staged, self.copied = transport, array, staged, copied
        self.sum: Pending | None = None

    def progress(self) -> None:
        """Hand over what has come to the host."""
        self.transport.send()
        if self.sum is not None:
            self.sum.progress()

    def wait(self) -> None:
        """Wait for the sum on the host, and let whatever is launched from now on find it on the device."""
        self.transport.send(self)
        assert self.sum is not None
        self.sum.wait()
        self.transport.take_back(self.array, self.staged)
