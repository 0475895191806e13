"""Carrying out runs on a Dask cluster (https://distributed.dask.org), one task a run.

All workers see the study's folder, under the same path. A worker that is lost takes its run down with it; Dask gives
the task to another worker, which goes on from the run's last checkpoint.
"""

from __future__ import annotations

import logging
import signal
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from itertools import pairwise
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import dask.config
from distributed import Client, Event, Future, LocalCluster

from incnet.storage.lock import FolderInUseError, Lock
from incnet.study.executor import INTERVAL, Job, Outcome, start
from incnet.user_code import source_of

__all__ = ["DaskCluster"]

# Workers of a cluster of our own that a run may lose before it counts as failed; a scheduler has a number of its own.
LOST_WORKERS = 5
# Seconds in which a scheduler answers, and after which it is asked again who works for it.
PATIENCE, LOOK = 10.0, 2.0


class NoSchedulerError(Exception):
    """Nobody answers at an address."""


class DaskCluster:
    """An :class:`incnet.study.executor.Executor` on a Dask cluster: a run for each thread of a worker.

    Parameters
    ----------
    address : str
        Of a scheduler, ``tcp://host:8786``; or ``local:N`` for N workers on this machine, of one run each, that end
        with the study.
    say : callable
        Takes a line for the user.
    """

    def __init__(self, address: str, say: Callable[[str], None]) -> None:
        self.address, self._say = address, say
        self._alone = False

    def execute(self, jobs: Sequence[Job], watch: Callable[[], bool]) -> Iterator[tuple[Job, Outcome]]:
        """See :class:`incnet.study.executor.Executor`."""
        for name in ("distributed", "distributed.client"):  # what goes wrong is said here, in a line
            logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            with self._client(watch) as client:
                yield from self._execute(client, jobs, watch)
        except NoSchedulerError as error:
            yield from ((job, str(error)) for job in jobs)

    @contextmanager
    def _client(self, watch: Callable[[], bool]) -> Iterator[Client]:
        kind, _, count = self.address.partition(":")
        if kind != "local":
            with self._connect(watch) as client:
                yield client
            return
        with (
            dask.config.set({"distributed.scheduler.allowed-failures": LOST_WORKERS}),
            _own_cluster(int(count)) as cluster,
            Client(cluster) as client,
        ):
            yield client

    def _connect(self, watch: Callable[[], bool]) -> Client:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return Client(self.address, timeout=1)
            except OSError as error:
                if time.monotonic() > end or not watch():
                    raise NoSchedulerError(f"no scheduler answers at {self.address}") from error

    def _execute(self, client: Client, jobs: Sequence[Job], watch: Callable[[], bool]) -> Iterator[tuple[Job, Outcome]]:
        stop = Event(f"stop-{uuid.uuid4()}", client=client)
        here = Path.cwd()

        def task(job: dict[str, Any]) -> int | None:
            # A function within a function, and arguments of the standard library's types: Dask sends them by value, so
            # that a scheduler can do without incnet, and a worker that lacks it says so.
            from incnet.study.dask import carry_out
            from incnet.study.executor import Job

            return carry_out(here, Job(**job), stop_name)

        stop_name = stop.name
        futures: dict[Future, Job] = {
            client.submit(task, asdict(job), key=f"{job.name}-{uuid.uuid4()}", pure=False): job for job in jobs
        }
        asked, look = False, 0.0
        try:
            while futures:
                if not asked and not watch():
                    asked = True
                    stop.set()
                if client.status == "running" and (asked or time.monotonic() > look):
                    look = time.monotonic() + LOOK
                    self._look_for_workers(client)
                    if asked:
                        _forget_waiting(client, futures)
                for future in [future for future in futures if future.done()]:
                    job, outcome = futures.pop(future), self._outcome(future)
                    if outcome is not None:
                        yield job, outcome
                time.sleep(INTERVAL)
        finally:
            if client.status == "running":
                stop.set()
                client.cancel(list(futures))

    def _look_for_workers(self, client: Client) -> None:
        """Say so when there are no workers, and when there are some again."""
        with suppress(OSError):  # the scheduler is gone: so are the futures, in a moment
            alone = not client.scheduler_info()["workers"]
            if alone != self._alone:
                self._say(f"no worker at {self.address}; waiting for one" if alone else "a worker has come")
            self._alone = alone

    def _outcome(self, future: Future) -> Outcome | None:
        if future.status == "finished":
            return future.result()
        if future.status == "cancelled":
            return f"the scheduler at {self.address} was lost"
        error = future.exception()
        return " ".join(f"{type(error).__name__}: {error}".split())[:300]


@contextmanager
def _own_cluster(workers: int) -> Iterator[LocalCluster]:
    """Start workers on this machine that no SIGINT reaches: a terminal sends it to all, and the study takes it.

    Its thread starts them, the later ones too, and they inherit which signals it takes.
    """
    resource_tracker.ensure_running()  # first, since it lets SIGINT through in the thread that has started it
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if hasattr(signal, "pthread_sigmask") else None
    try:
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
        )
    finally:
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    with cluster:
        yield cluster


def _forget_waiting(client: Client, futures: dict[Future, Job]) -> None:
    """Cancel what no worker has: it would wait for one that never comes."""
    with suppress(OSError):
        held = {key for keys in client.processing().values() for key in keys}
        waiting = [future for future in futures if future.status == "pending" and future.key not in held]
        client.cancel(waiting)
        for future in waiting:
            del futures[future]


def carry_out(here: Path, job: Job, stop_name: str) -> int | None:
    """Carry a run out on a worker. Returns its exit code; None if it was not begun, since all are to stop."""
    stop = Event(stop_name)
    if stop.is_set():
        return None
    job = replace(job, log=here / job.log)
    if not job.log.parent.is_dir():
        raise FileNotFoundError(f"the worker on {socket.gethostname()} does not see {job.log.parent}")
    job = _resumed(here, job)
    process = start(job, here)
    asked = False
    while process.poll() is None:
        if not asked and stop.is_set():
            asked = True
            process.send_signal(signal.SIGINT)
        time.sleep(INTERVAL)
    return process.returncode


def _resumed(here: Path, job: Job) -> Job:
    """Return the job that goes on with a run, if a worker that was lost has begun it."""
    given = dict(pairwise(job.arguments))
    folder = here / (given.get("--out") or given["--resume"])
    if not (folder / "config.json").exists():
        return job
    _wait_for(folder / "lock")
    if "--resume" in given:
        return job
    data = ["--data-dir", given["--data-dir"]] if "--data-dir" in given else []
    trust = ["--trust", source_of(given["--arch"])] if job.network else []
    return replace(job, arguments=["--resume", str(folder), *data, *trust], network=None)


def _wait_for(lock: Path) -> None:
    """Wait until the run of a lost worker, which saves and stops when its worker is gone, has left its folder."""
    while True:
        try:
            Lock(lock).release()
            return
        except FolderInUseError:
            time.sleep(INTERVAL)
