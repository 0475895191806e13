"""Time training steps whose batch ranks share: strong scaling on one machine, and what communication takes of it.

    python -m bench.rank_steps --arch resnet20 --batch-size 128 --json -

One rank and several, each rank on one thread, take turns; the whole batch is the same. *Waiting* is the time in which a
rank does nothing but communicate: it waits for sums, counts images with the others, or gives MPI a moment. With
``--device gpu`` ranks take GPUs in turn; what a GPU waits for sums over NCCL is not told apart from computing.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from bench.output import Output, report
from bench.rivals import HYPER, Workload
from incnet.backend import Array, asarray, synchronize, use
from incnet.communicator import Communicator, Pending
from incnet.data.shard import Shard
from incnet.optim import RMSProp
from incnet.parallel.launch import connect
from incnet.parallel.step import ParallelStep
from incnet.parallel.transport import device_of_rank
from incnet.threads import use_threads
from incnet.training.replay import Replay

__all__ = ["RankSteps", "Timed", "measure"]

WARM_UP = 3


@dataclass(frozen=True)
class RankSteps(Output):
    """Time steps of one rank and of several that share its batch."""

    arch: str = "resnet20"
    """Architecture, as for incnet.train."""

    batch_size: int = 128
    """Images in a step, on all ranks together."""

    ranks: int = 2
    """How many share a batch; each computes on one thread."""

    frozen: int = 0
    """How many sub-networks, from the input up, are frozen."""

    rounds: int = 12
    """Turns that each number of ranks takes, of three steps."""

    steps: int = 3
    """Steps in a turn."""

    sync_bn: bool = False
    """Batch norm by the statistics of the whole batch."""

    device: Literal["cpu", "gpu"] = "cpu"
    """Where to compute, as for incnet.train."""

    allreduce: Literal["auto", "nccl", "staged"] = "auto"
    """What carries the sums of GPUs, as for incnet.train."""

    serve: bool = False
    """Be one of the ranks; used by the measurement itself."""


class Timed(Communicator):
    """Passes everything on, and adds up the seconds that it takes."""

    def __init__(self, inner: Communicator) -> None:
        self.inner, self.seconds = inner, 0.0
        self.rank, self.size, self.recordable = inner.rank, inner.size, inner.recordable

    def clocked(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call ``function`` and count its seconds."""
        start = time.perf_counter()
        try:
            return function(*arguments)
        finally:
            self.seconds += time.perf_counter() - start

    def allreduce_count(self, number: int) -> int:
        return self.clocked(self.inner.allreduce_count, number)

    def allreduce_async(self, array: Array) -> Pending:
        return TimedSum(self, self.clocked(self.inner.allreduce_async, array))


class TimedSum:
    """A sum whose progress and end are counted."""

    def __init__(self, communicator: Timed, pending: Pending) -> None:
        self.communicator, self.pending = communicator, pending

    def progress(self) -> None:
        """Pass on."""
        self.communicator.clocked(self.pending.progress)

    def wait(self) -> None:
        """Pass on."""
        self.communicator.clocked(self.pending.wait)


def serve(options: RankSteps) -> None:
    """Take as many steps as each line of rank 0's standard input says; answer with seconds, of steps and of waiting."""
    communicator = connect()
    use(device_of_rank(options.device, communicator))
    communicator.reach_devices(options.allreduce)
    timed = Timed(communicator)
    use_threads(1)
    work = Workload(options.arch, options.batch_size, frozen=options.frozen)
    step = Replay(ParallelStep(work.network(), RMSProp(**HYPER), timed, sync_bn=options.sync_bn))
    shard = Shard(communicator.rank, communicator.size).of(options.batch_size)
    images, labels = (asarray(array[shard]) for array in work.batch())

    def take(steps: int) -> dict[str, Any]:
        seconds, timed.seconds = [], 0.0
        for _ in range(steps):
            start = time.perf_counter()
            step.gradients(images, labels)
            step.update()
            synchronize()
            seconds.append(time.perf_counter() - start)
        return {"seconds": seconds, "waiting": timed.seconds, "bytes": step.bytes}

    take(WARM_UP)
    if communicator.first:
        print("ready", flush=True)
    while line := next_line(communicator):
        answer = take(int(line))
        if communicator.first:
            print(json.dumps(answer), flush=True)


def next_line(communicator: Communicator) -> str:
    """Return a line of rank 0's standard input; the others sleep meanwhile, since MPI would keep their cores busy."""
    if communicator.size == 1:
        return sys.stdin.readline()
    comm = communicator.comm  # type: ignore[attr-defined]
    if communicator.first:
        line = sys.stdin.readline()
        for rank in range(1, communicator.size):
            comm.send(line, rank)
        return line
    while not comm.iprobe(0):
        time.sleep(0.001)
    return comm.recv(source=0)


def measure(options: RankSteps) -> dict[str, Any]:
    """Result as JSON values: median milliseconds of a step by ranks, the speed-up, and the share of waiting."""
    limits = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    mpiexec = Path(sys.executable).with_name("mpiexec")
    worker = [sys.executable, "-m", "bench.rank_steps", "--serve", "--arch", options.arch]
    worker += ["--batch-size", str(options.batch_size), "--frozen", str(options.frozen)]
    worker += ["--device", options.device, "--allreduce", options.allreduce]
    worker += ["--sync-bn"] if options.sync_bn else []
    counts = (1, options.ranks)
    processes = {
        ranks: subprocess.Popen(
            [*([str(mpiexec), "-launcher", "fork", "-n", str(ranks)] if ranks > 1 else []), *worker],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | dict.fromkeys(limits, "1"),
        )
        for ranks in counts
    }

    def ask(process: subprocess.Popen, line: str) -> str:
        assert process.stdin is not None
        assert process.stdout is not None
        if line:
            process.stdin.write(line)
            process.stdin.flush()
        return process.stdout.readline()

    seconds: dict[int, list[float]] = {ranks: [] for ranks in counts}
    waiting, sent = dict.fromkeys(counts, 0.0), 0
    try:
        for process in processes.values():
            ask(process, "")
        for _ in range(options.rounds):
            for ranks, process in processes.items():
                answer = json.loads(ask(process, f"{options.steps}\n"))
                seconds[ranks] += answer["seconds"]
                waiting[ranks] += answer["waiting"]
                sent = answer["bytes"]
    finally:
        for process in processes.values():
            process.communicate()
    medians = {ranks: statistics.median(taken) for ranks, taken in seconds.items()}
    return {
        **{name: getattr(options, name) for name in ("arch", "batch_size", "ranks", "frozen", "sync_bn", "device")},
        "ms": {ranks: round(median * 1e3, 2) for ranks, median in medians.items()},
        "speed_up": round(medians[1] / medians[options.ranks], 2),
        "waiting": round(waiting[options.ranks] / sum(seconds[options.ranks]), 3),
        "bytes": sent,
    }


def main() -> None:
    """Measure and print."""
    options = tyro.cli(RankSteps, prog="python -m bench.rank_steps")
    if options.serve:
        serve(options)
    else:
        report(measure(options), options.json)


if __name__ == "__main__":
    main()
