"""Time training steps whose batch ranks share: strong scaling on one machine, and what communication takes of it.

    python -m bench.rank_steps --arch resnet20 --batch-size 128 --json -

One rank and several, each rank on one thread, take turns; the whole batch is the same. *Waiting* is the time in which a
rank does nothing but communicate: it waits for sums, counts images with the others, or gives MPI a moment. With
``--device gpu`` ranks take GPUs in turn; what a GPU waits for sums over NCCL is not told apart from computing.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from bench.output import Output, report
from bench.rivals import HYPER, Workload
from bench.turns import WARM_UP, take_turns
from incnet.backend import Array, asarray, use
from incnet.communicator import Communicator, Pending
from incnet.data.shard import Shard
from incnet.optim import RMSProp
from incnet.parallel.launch import connect
from incnet.parallel.step import ParallelStep
from incnet.parallel.transport import device_of_rank
from incnet.threads import use_threads
from incnet.timing.turns import time_steps
from incnet.training.replay import Replay

__all__ = ["RankSteps", "Timed", "measure"]


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
    replay = Replay(ParallelStep(work.network(), RMSProp(**HYPER), timed, sync_bn=options.sync_bn))
    shard = Shard(communicator.rank, communicator.size).of(options.batch_size)
    images, labels = (asarray(array[shard]) for array in work.batch())

    def step() -> None:
        replay.gradients(images, labels)
        replay.update()

    time_steps(step, WARM_UP)
    if communicator.first:
        print("ready", flush=True)
    while line := next_line(communicator):
        timed.seconds = 0.0
        answer = {"seconds": time_steps(step, int(line)), "waiting": timed.seconds, "bytes": replay.bytes}
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
    worker = [sys.executable, "-m", "bench.rank_steps", "--serve", "--arch", options.arch]
    worker += ["--batch-size", str(options.batch_size), "--frozen", str(options.frozen)]
    worker += ["--device", options.device, "--allreduce", options.allreduce]
    worker += ["--sync-bn"] if options.sync_bn else []
    mpiexec = [str(Path(sys.executable).with_name("mpiexec")), "-launcher", "fork", "-n", str(options.ranks)]
    rivals = {"1": worker, str(options.ranks): [*mpiexec, *worker]}
    timings = take_turns(rivals, threads=1, rounds=options.rounds, steps=options.steps)
    alone, together = timings["1"], timings[str(options.ranks)]
    return {
        **{name: getattr(options, name) for name in ("arch", "batch_size", "ranks", "frozen", "sync_bn", "device")},
        "ms": {int(ranks): round(timing.median_ms, 2) for ranks, timing in timings.items()},
        "speed_up": round(alone.median_ms / together.median_ms, 2),
        "waiting": round(sum(answer["waiting"] for answer in together.answers) / sum(map(sum, together.turns)), 3),
        "bytes": together.answers[-1]["bytes"],
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
