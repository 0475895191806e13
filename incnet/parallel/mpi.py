"""Ranks that talk through MPI (https://www.mpi-forum.org), by mpi4py."""

from __future__ import annotations

import hashlib
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from mpi4py import MPI

from incnet.backend import Array, asarray, asnumpy
from incnet.parallel.communicator import STOP_SIGNALS, Communicator, Pending, process_name

__all__ = ["MpiCommunicator"]

T = TypeVar("T")

# Seconds in which a launcher reads what a rank has printed: when it ends all ranks, whatever it has not read is lost.
LAST_WORDS = 0.5


class MpiCommunicator(Communicator):
    """All processes that one ``mpiexec`` has started; sums are of arrays in host memory.

    As a context manager it ends all ranks when an exception leaves the block on one of them: the others would wait for
    it forever.
    """

    def __init__(self) -> None:
        super().__init__()
        self.heard = set()
        self.comm = MPI.COMM_WORLD
        self.rank, self.size = self.comm.rank, self.comm.size
        machine = self.comm.Split_type(MPI.COMM_TYPE_SHARED)
        self.local_rank = machine.rank
        mine = cores()  # disjoint where the launcher binds each process to cores of its own, else the same for all
        every = machine.allgather(mine)
        self.core_sharing = max(sum(core in other for other in every) for core in mine)
        machine.Free()
        self.names = self.comm.allgather(process_name())
        self._shared: BaseException | None = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or self.is_shared(error):
            return
        if isinstance(error, SystemExit):
            self.abort(error.code if isinstance(error.code, int) else 1)
        traceback.print_exception(error)
        who, what = f"rank {self.rank}, {self.names[self.rank]}", f"{type(error).__name__}: {error}"
        print(f"error: {who}, failed with {what}; all ranks end", file=sys.stderr)
        self.abort(1)

    # Numbers and arrays.

    def count(self, number: int) -> int:
        message = np.array([number, *(each in self.raised for each in STOP_SIGNALS)], np.int64)
        self.comm.Allreduce(MPI.IN_PLACE, message)
        self.heard = {each for each, raised in zip(STOP_SIGNALS, message[1:], strict=True) if raised}
        return int(message[0])

    def start_sum(self, array: Array) -> Pending:
        return HostSum(self.comm.Iallreduce(MPI.IN_PLACE, array))

    def broadcast(self, arrays: Mapping[str, Array]) -> None:
        for array in arrays.values():
            values = np.ascontiguousarray(asnumpy(array))
            self.comm.Bcast(values)
            array[...] = asarray(values)

    # What may go wrong.

    def from_first(self, function: Callable[[], T]) -> T:
        outcome = self.comm.bcast(attempt(function) if self.first else None)
        return self._settle(outcome)

    def on_every(self, function: Callable[[], T]) -> T:
        outcome = attempt(function)
        errors = self.comm.allgather(outcome.error)
        failed = next((rank for rank, error in enumerate(errors) if error is not None), None)
        if failed is None:
            return self._settle(outcome)
        if None in errors:  # some came through: say who did not
            errors[failed].args = (f"rank {failed}, {self.names[failed]}: {errors[failed]}",)
        return self._settle(Outcome(None, errors[failed]))

    def _settle(self, outcome: Outcome) -> Any:
        if outcome.error is not None:
            self._shared = outcome.error
            raise outcome.error
        return outcome.value

    def is_shared(self, error: BaseException) -> bool:
        return error is self._shared

    def check_equal(self, arrays: Mapping[str, Array], what: str) -> None:
        digest = hashlib.blake2b()
        for array in arrays.values():
            digest.update(np.ascontiguousarray(asnumpy(array)).data)
        digests = self.comm.allgather(digest.digest())
        if different := [rank for rank, other in enumerate(digests) if other != digests[0]]:
            raise RuntimeError(f"rank {different[0]} has other {what} than rank 0; they should have stayed the same")

    def abort(self, code: int) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        time.sleep(LAST_WORDS)
        self.comm.Abort(code)


def cores() -> set[int]:
    """Numbers of the cores that this process may run on."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {0}


class HostSum:
    """A sum of arrays in host memory. Most MPI libraries work on it only while one of their functions is running."""

    def __init__(self, request: MPI.Request) -> None:
        self.request = request

    def progress(self) -> None:
        """Let MPI look what has arrived, and send on."""
        self.request.Test()

    def wait(self) -> None:
        """Wait for the sum."""
        self.request.Wait()


class Outcome:
    """What a function returned, or what it raised; the other one is None."""

    def __init__(self, value: Any, error: BaseException | None) -> None:
        self.value, self.error = value, error


def attempt(function: Callable[[], Any]) -> Outcome:
    """Call ``function``, and keep what it raises; a user's interruption goes through."""
    try:
        return Outcome(function(), None)
    except (Exception, SystemExit) as error:
        return Outcome(None, error)
