"""Ending a run from outside: the first SIGINT or SIGTERM asks it to save and stop, the second ends it at once."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Self

__all__ = ["Interrupted", "StopSignals"]


class Interrupted(Exception):
    """The run has saved what it takes to go on, and stops because of a signal.

    Attributes
    ----------
    exit_code : int
        128 plus the signal's number, as shells have it: 130 for SIGINT, 143 for SIGTERM.
    """

    def __init__(self, received: signal.Signals) -> None:
        super().__init__(f"stopped by {received.name}")
        self.exit_code = 128 + received


class StopSignals:
    """Take SIGINT and SIGTERM in a ``with`` block; outside the main thread, where Python gives none away, take none."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, signal._HANDLER] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise SystemExit(128 + number)
        self.received = signal.Signals(number)
        # Not print(): the signal may have come in the middle of one.
        text = f"\n{self.received.name}: finishing the step, then saving; a second signal ends the run at once\n"
        os.write(2, text.encode())

    def check(self) -> None:
        """Raise :class:`Interrupted` if a signal has come."""
        if self.received is not None:
            raise Interrupted(self.received)
