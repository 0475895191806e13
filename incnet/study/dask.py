"""Carrying out runs on a Dask cluster (https://distributed.dask.org), one task a run.

All workers see the study's folder, under the same path. A worker that is lost takes its run down with it; Dask gives
the task to another worker, which goes on from the run's last checkpoint.
"""

from __future__ import annotations

import signal
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import dask.config
from distributed import Client, Event, Future, LocalCluster

from incnet.study.executor import INTERVAL, Job, start
from incnet.training.lock import FolderInUseError, Lock

__all__ = ["DaskCluster"]

# Workers that a run may lose before it counts as failed.
LOST_WORKERS = 5


class DaskCluster:
    """An :class:`incnet.study.executor.Executor` on a Dask cluster: a run for each thread of a worker.

    Parameters
    ----------
    address : str
        Of a scheduler, ``tcp://host:8786``; or ``local:N`` for N workers on this machine, of one run each, that end
        with the study.
    """

    def __init__(self, address: str) -> None:
        self.address = address

    def execute(self, jobs: Sequence[Job], watch: Callable[[], bool]) -> Iterator[tuple[Job, int]]:
        """See :class:`incnet.study.executor.Executor`."""
        kind, _, count = self.address.partition(":")
        with dask.config.set({"distributed.scheduler.allowed-failures": LOST_WORKERS}):
            if kind != "local":
                with Client(self.address) as client:
                    yield from self._execute(client, jobs, watch)
                return
            with (
                LocalCluster(
                    n_workers=int(count), threads_per_worker=1, host="127.0.0.1", dashboard_address=None
                ) as cluster,
                Client(cluster) as client,
            ):
                yield from self._execute(client, jobs, watch)

    def _execute(self, client: Client, jobs: Sequence[Job], watch: Callable[[], bool]) -> Iterator[tuple[Job, int]]:
        stop = Event(f"stop-{uuid.uuid4()}", client=client)
        here = Path.cwd()
        futures: dict[Future, Job] = {
            client.submit(carry_out, here, job, stop.name, key=f"{job.name}-{uuid.uuid4()}", pure=False): job
            for job in jobs
        }
        asked = False
        try:
            while futures:
                if not asked and not watch():
                    asked = True
                    stop.set()
                for future in [future for future in futures if future.done()]:
                    job = futures.pop(future)
                    code = future.result() if future.status == "finished" else 1
                    if code is not None:
                        yield job, code
                time.sleep(INTERVAL)
        finally:
            stop.set()
            client.cancel(list(futures))


def carry_out(here: Path, job: Job, stop_name: str) -> int | None:
    """Carry a run out on a worker. Returns its exit code; None if it was not begun, since all are to stop."""
    stop = Event(stop_name)
    if stop.is_set():
        return None
    job = replace(job, arguments=_resumed(here, job.arguments), log=here / job.log)
    process = start(job, here)
    asked = False
    while process.poll() is None:
        if not asked and stop.is_set():
            asked = True
            process.send_signal(signal.SIGINT)
        time.sleep(INTERVAL)
    return process.returncode


def _resumed(here: Path, arguments: list[str]) -> list[str]:
    """Return the arguments that go on with a run, if a worker that was lost has begun it."""
    option = "--out" if "--out" in arguments else "--resume"
    folder = here / arguments[arguments.index(option) + 1]
    if not (folder / "config.json").exists():
        return arguments
    _wait_for(folder / "lock")
    if option == "--resume":
        return arguments
    where = arguments.index("--data-dir") if "--data-dir" in arguments else len(arguments)
    return ["--resume", str(folder), *arguments[where : where + 2]]


def _wait_for(lock: Path) -> None:
    """Wait until the run of a lost worker, which saves and stops when its worker is gone, has left its folder."""
    while True:
        try:
            Lock(lock).release()
            return
        except FolderInUseError:
            time.sleep(INTERVAL)
