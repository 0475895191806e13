"""Ending a run from outside: the first SIGINT, SIGTERM or SIGHUP lets it save and stop, the second ends it at once."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

from incnet.communicator import HANGUP, STOP_SIGNALS, Communicator

__all__ = ["Interrupted", "StopSignals", "write_line"]


class Interrupted(Exception):
    """The run has saved what it takes to go on, and stops because of a signal.

    Attributes
    ----------
    exit_code : int
        128 plus the signal's number, as shells have it: 130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP.
    """

    def __init__(self, received: signal.Signals) -> None:
        super().__init__(f"stopped by {received.name}")
        self.exit_code = 128 + received


class StopSignals:
    """Take SIGINT, SIGTERM and SIGHUP in a ``with`` block; outside the main thread Python gives none away.

    SIGHUP comes when a connection breaks or a terminal is closed, and often more than once: after the first one it is
    ignored, while the run is saved too. Where it was ignored before, as by ``nohup``, that stays so.

    Parameters
    ----------
    communicator : Communicator, optional
        Of the ranks, which all stop after the same step if one of them receives a signal.
    announce : callable, optional
        Takes a line for the user, within the signal's handler. Unless given, the line goes to standard error.
    """

    def __init__(self, communicator: Communicator | None = None, announce: Callable[[str], None] | None = None) -> None:
        self.communicator, self._announce = communicator or Communicator(), announce or write_line
        self._before: dict[signal.Signals, signal._HANDLER] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                if number != HANGUP or signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def received(self) -> signal.Signals | None:
        """The signal that has come, to whichever rank; None if there is none, or not all ranks know of it yet."""
        return min(self.communicator.heard, default=None)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.communicator.raised:
            raise SystemExit(128 + number)
        self.communicator.raised.add(signal.Signals(number))
        if number == HANGUP:
            self._before.pop(HANGUP)
            signal.signal(HANGUP, signal.SIG_IGN)
        if self.communicator.first:
            name = signal.Signals(number).name
            self._announce(f"{name}: finishing the step, then saving; a second signal ends the run at once")

    def check(self) -> None:
        """Raise :class:`Interrupted` if a signal has come."""
        if self.received is not None:
            raise Interrupted(self.received)


def write_line(text: str) -> None:
    """Write a line to standard error from within a signal's handler."""
    if sys.stderr is not None:  # else the second descriptor may be any file
        with contextlib.suppress(OSError):
            os.write(2, f"\n{text}\n".encode())  # not print(): the signal may have come in the middle of one
