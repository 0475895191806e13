"""The page of a run that goes on, in its own folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from incnet.report import MISSING, read_runs
from incnet.storage.files import replace_file
from incnet.training.events import Epoch, Event

__all__ = ["LiveReport"]

# Part of the run's time that pages may take, the last one aside.
SHARE = 0.02
# What the first page is expected to take, in seconds: mostly for importing matplotlib.
FIRST = 1.0
# Seconds after which a browser asks for the next page, as long as there will be one.
RELOAD = 20


class LiveReport:
    """Keeps ``report.html`` in a run folder up to date.

    After an epoch a new page is written, unless pages would then have taken more than a fiftieth of the time. The page
    is not worth a run: whatever goes wrong with it is said, and the run goes on.

    Parameters
    ----------
    folder : Path
        Of the run.
    say : callable
        Takes a line for the user.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._folder, self._say = folder, say
        self._begun, self._spent, self._cost = time.monotonic(), 0.0, FIRST
        self._working = all(find_spec(library) for library in ("matplotlib", "jinja2"))
        if not self._working:
            say(f"no report.html is written: it {MISSING}, or choose --no-report")

    def event(self, event: Event) -> None:
        """Write a page after an epoch, if it is time."""
        if isinstance(event, Epoch) and self._spent + self._cost <= SHARE * (time.monotonic() - self._begun):
            self._write(RELOAD)

    def close(self) -> None:
        """Write the last page of this process, which does not reload itself, and say where it is."""
        self._write(None)
        if self._working:
            self._say(f"report: {self._folder / 'report.html'}")

    def _write(self, reload: int | None) -> None:
        if not self._working:
            return
        start = time.monotonic()
        try:
            from incnet.report.page import render

            runs, problems = read_runs([self._folder])
            page = render(runs, problems, reload=reload)
            replace_file(self._folder / "report.html", [page.encode(errors="backslashreplace")])
        except Exception as error:
            self._say(f"warning: report.html is not up to date: {error}; the run goes on without it")
            self._working = False
        self._cost = time.monotonic() - start
        self._spent += self._cost
