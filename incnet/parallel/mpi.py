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

from incnet.backend import Array, DeviceError, asarray, asnumpy, issue, synchronize
from incnet.communicator import STOP_SIGNALS, Communicator, Pending, process_name
from incnet.parallel.transport import Transport, choose, nccl_version, place

__all__ = ["MpiCommunicator"]

T = TypeVar("T")

# Seconds in which a launcher reads what a rank has printed: when it ends all ranks, whatever it has not read is lost.
LAST_WORDS = 0.5


class MpiCommunicator(Communicator):
    """All processes that one ``mpiexec`` has started.

    As a context manager it ends all ranks when an exception leaves the block on one of them: the others would wait for
    it forever.
    """

    def __init__(self) -> None:
        super().__init__()
        self.heard = set()
        self.comm = MPI.COMM_WORLD
        self.rank, self.size = self.comm.rank, self.comm.size
        machine = self.comm.Split_type(MPI.COMM_TYPE_SHARED)
        self.local_rank, self.local_size = machine.rank, machine.size
        self._machine = machine.bcast(self.rank)  # a number for it: that of its first rank
        mine = cores()  # disjoint where the launcher binds each process to cores of its own, else the same for all
        every = machine.allgather(mine)
        self.core_sharing = max(sum(core in other for other in every) for core in mine)
        machine.Free()
        self.names = self.comm.allgather(process_name())
        self._shared: BaseException | None = None
        self._transport: Transport = HostTransport(self.comm)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or self.is_shared(error):
            if self.carried_by:  # a GPU may still read another one's memory, which ends with that one's process
                synchronize()
                self.comm.Barrier()
            return
        if isinstance(error, SystemExit):
            self.abort(error.code if isinstance(error.code, int) else 1)
        traceback.print_exception(error)
        who, what = f"rank {self.rank}, {self.names[self.rank]}", f"{type(error).__name__}: {error}"
        print(f"error: {who}, failed with {what}; all ranks end", file=sys.stderr)
        self.abort(1)

    @property
    def recordable(self) -> bool:  # type: ignore[override]
        return self._transport.recordable

    def reach_devices(self, asked: str) -> str | None:
        places = self.comm.allgather(place(self._machine))
        kind, reason = self.on_every(lambda: choose(asked, places))
        if kind != "mpi":
            self.names = [f"{name}, GPU {its.gpu[1]}" for name, its in zip(self.names, places, strict=True) if its.gpu]
        if kind == "nccl":
            self._transport = self._connect_nccl()
            self.carried_by = f"NCCL {nccl_version()}"
            return f"sums travel over {self.carried_by}, since {reason}"
        if kind == "staged":
            from incnet.parallel.staged import StagedTransport

            # A communicator of its own: what else ranks say to each other need not come in between at the same place.
            self._transport = StagedTransport(HostTransport(self.comm.Dup()))
            self.carried_by = "page-locked host memory"
            return f"sums travel through {self.carried_by}, and steps are launched one by one, since {reason}"
        return None

    def _connect_nccl(self) -> Transport:
        from cupy.cuda import nccl

        from incnet.parallel.nccl import NcclTransport

        try:
            unique_id = self.on_root(nccl.get_unique_id)
            return self.on_every(lambda: NcclTransport(unique_id, self.rank, self.size))
        except nccl.NcclError as error:
            failed = DeviceError(
                f"NCCL cannot connect the ranks ({error}); NCCL_DEBUG=INFO says more, --allreduce staged works without"
            )
            self._shared = failed
            raise failed from error

    # Numbers and arrays.

    def allreduce_count(self, number: int) -> int:
        message = np.array([number, *(each in self.raised for each in STOP_SIGNALS)], np.int64)
        self.comm.Allreduce(MPI.IN_PLACE, message)
        self.heard = {each for each, raised in zip(STOP_SIGNALS, message[1:], strict=True) if raised}
        return int(message[0])

    def allreduce_async(self, array: Array) -> Pending:
        return self._transport.allreduce_async(array)

    def broadcast(self, arrays: Mapping[str, Array]) -> None:
        self._transport.broadcast(arrays)

    # What may go wrong.

    def on_root(self, function: Callable[[], T]) -> T:
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


class HostTransport:
    """Sums of arrays in host memory. Arrays of a device can be broadcast, too, with the copies that this takes."""

    recordable = True

    def __init__(self, comm: MPI.Comm) -> None:
        self.comm = comm

    def allreduce_async(self, array: Array) -> Pending:
        pending = HostSum(self.comm, array)
        issue(pending.start)
        return pending

    def broadcast(self, arrays: Mapping[str, Array]) -> None:
        for array in arrays.values():
            values = np.ascontiguousarray(asnumpy(array))
            self.comm.Bcast(values)
            array[...] = asarray(values)


class HostSum:
    """A sum of arrays in host memory. Most MPI libraries work on it only while one of their functions is running."""

    def __init__(self, comm: MPI.Comm, array: Array) -> None:
        self.comm, self.array = comm, array

    def start(self) -> None:
        """Send this rank's values off; once in each replay, if the sum is recorded."""
        self.request = self.comm.Iallreduce(MPI.IN_PLACE, self.array)

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
