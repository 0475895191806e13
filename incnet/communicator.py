"""Communication between the processes of a run, and the single process, for which all of it is a no-op.

The processes of a parallel run are its *ranks*, counted from 0. Each has the whole network and a part of every batch;
rank 0 also reads the command line and the data, and is the only one that writes anything.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Protocol, Self, TypeVar

from incnet.backend import Array

__all__ = ["ALONE", "HANGUP", "STOP_SIGNALS", "Communicator", "Pending", "process_name"]

T = TypeVar("T")

HANGUP: signal.Signals | None = getattr(signal, "SIGHUP", None)  # which Windows has not
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, *filter(None, [HANGUP]))


class Pending(Protocol):
    """A sum that is on its way."""

    def progress(self) -> None:
        """Give the library that carries it a moment to work on it."""

    def wait(self) -> None:
        """Return when the array holds the sum; on a device, when whatever is launched from now on finds it there."""


class Communicator:
    """A process by itself: what is asked of all ranks, it answers alone. Those of several ranks override every method.

    Methods are collective, except :meth:`abort` and :meth:`is_shared`: every rank calls them, in the same order.

    Attributes
    ----------
    rank, size : int
        Of this process, from 0, and number of ranks.
    names : list of str
        Process and machine of every rank, and its GPU.
    local_rank, local_size : int
        Of this process, from 0, among those on this machine, and their number.
    core_sharing : int
        How many of the ranks may run on the same cores as this one, itself included.
    recordable : bool
        Whether sums may be among the calls that are recorded; see :mod:`incnet.training.replay`. A subclass
        whose sums cannot be repeated from their arrays alone says no.
    carried_by : str or None
        What carries the sums of device arrays; None where there are none.
    raised, heard : set of Signals
        What this rank has received, and what any rank had received at the last :meth:`allreduce_count`, the same on all
        ranks. A process by itself hears at once.
    """

    rank = local_rank = 0
    size = local_size = core_sharing = 1
    recordable = True
    carried_by: str | None = None

    def __init__(self) -> None:
        self.names = [process_name()]
        self.raised: set[signal.Signals] = set()
        self.heard = self.raised

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which reads and writes for all."""
        return self.rank == 0

    def reach_devices(self, asked: str) -> str | None:
        """Prepare for arrays of the backend in use, now that every rank has chosen it.

        Parameters
        ----------
        asked : {"auto", "nccl", "staged"}
            What is to carry the sums of device arrays; see :func:`incnet.parallel.transport.choose`.

        Returns
        -------
        str or None
            What does, and why, in words; None where there is nothing to carry.

        Raises
        ------
        DeviceError
            If it cannot be had.
        """
        return None

    # Numbers and arrays.

    def allreduce_count(self, number: int) -> int:
        """Sum of a number over the ranks. The signals that ranks have received come along."""
        return number

    def allreduce_async(self, array: Array) -> Pending:
        """Begin to replace an array of the backend in use, of one shape on all ranks, by its sum over the ranks.

        The array must be contiguous, and stay unread and unchanged until the sum was waited for.
        """
        return Done()

    def allreduce(self, array: Array) -> None:
        """:meth:`allreduce_async`, and wait."""
        self.allreduce_async(array).wait()

    def broadcast(self, arrays: Mapping[str, Array]) -> None:
        """Overwrite named arrays of the backend in use by those of rank 0."""

    # What may go wrong on one rank, and is then to end all of them in the same way.

    def on_root(self, function: Callable[[], T]) -> T:
        """Call ``function`` on rank 0; return its result, or raise what it raised, on every rank."""
        return function()

    def on_every(self, function: Callable[[], T]) -> T:
        """Call ``function`` on every rank and return its result; where one raises, all raise the same."""
        return function()

    def is_shared(self, error: BaseException) -> bool:
        """Whether every rank has raised ``error``, so that none waits for this one."""
        return True

    def check_equal(self, arrays: Mapping[str, Array], what: str) -> None:
        """Raise RuntimeError, naming ``what``, unless all ranks have the very bits of rank 0's ``arrays``."""

    def abort(self, code: int) -> None:
        """End the processes of all ranks at once with an exit code."""


def process_name() -> str:
    """Number of this process, and its machine."""
    return f"process {os.getpid()} on {socket.gethostname()}"


class Done:
    """A sum that was there from the beginning."""

    def progress(self) -> None:
        """Nothing is left to do."""

    def wait(self) -> None:
        """Nothing to wait for."""


# For what is done by a single process; it takes no signals.
ALONE = Communicator()
