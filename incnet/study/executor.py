"""Carrying out runs, some at a time. Another way to do that is another :class:`Executor`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from incnet.parallel.launch import LAUNCHER_PREFIXES

__all__ = ["NETWORK", "Executor", "Job", "Outcome", "Processes"]

NETWORK = "--network"  # to a worker, before all options of a run: the file with the network that it begins with

INTERVAL = 0.25  # seconds between two looks

# Of a job: the exit code of its process, or what has kept it from having one, in words.
Outcome = int | str


@dataclass(frozen=True)
class Job:
    """One run to be carried out.

    Attributes
    ----------
    name : str
        Of the run.
    arguments : list of str
        Of ``python -m incnet.train``.
    log : Path
        Takes what it prints; its folder is there.
    threads : int, optional
        It may use unless its options say otherwise: its share of the cores.
    network : Path, optional
        File with the network that a new run begins with, if that is one of the user's own.
    """

    name: str
    arguments: list[str]
    log: Path
    threads: int | None = None
    network: Path | None = None


class Executor(Protocol):
    """Carries out jobs."""

    def execute(self, jobs: Sequence[Job], watch: Callable[[], bool]) -> Iterator[tuple[Job, Outcome]]:
        """Yield each job as it ends, with its outcome. What goes wrong with one is no exception, and the others go on.

        ``watch`` is called several times a second. When it returns False no other job is begun, and those at work are
        asked to save and stop, as by SIGINT; they are yielded too. However this ends, no job is left at work.
        """


class Processes:
    """An :class:`Executor` on this machine, one process a job.

    Parameters
    ----------
    count : int
        Jobs at a time.
    """

    def __init__(self, count: int) -> None:
        self.count = count

    def execute(self, jobs: Sequence[Job], watch: Callable[[], bool]) -> Iterator[tuple[Job, Outcome]]:
        """See :class:`Executor`."""
        waiting, running = deque(jobs), dict[subprocess.Popen, Job]()
        asked = False
        try:
            while waiting or running:
                if not asked and not watch():
                    asked = True
                    waiting.clear()
                    for process in running:
                        process.send_signal(signal.SIGINT)
                while waiting and len(running) < self.count:
                    job = waiting.popleft()
                    try:
                        running[start(job)] = job
                    except OSError as error:
                        yield job, f"it cannot be started: {error}"
                for process in [process for process in running if process.poll() is not None]:
                    yield running.pop(process), process.returncode
                time.sleep(INTERVAL)
        finally:  # a second signal, or an error: runs end at once, and can be resumed from their checkpoints
            for process in running:
                process.terminate()
            for process in running:
                process.wait()


def environment(job: Job) -> dict[str, str]:
    """Return the variables of a job's process: those of this one, less what an MPI launcher says of this one alone."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(LAUNCHER_PREFIXES)}
    return ours if job.threads is None else ours | {"NUMBA_NUM_THREADS": str(job.threads)}


def start(job: Job, folder: Path | None = None) -> subprocess.Popen:
    """Begin a job, in ``folder`` or here. Its process gets no signal from the terminal, only from this one."""
    network = [] if job.network is None else [NETWORK, str(job.network)]
    with open(job.log, "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "incnet.study.worker", *network, *job.arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment(job),
            start_new_session=os.name == "posix",
        )
