"""Model training steps of many ranks on a network, from one process's measured steps and the bytes that it would send.

    python -m bench.rank_model --json -

Every rank keeps its batch, so that the whole batch grows with the ranks. A process alone takes real steps with a
communicator that notes when each sum begins and ends to be needed; each sum is then given the time of a ring::

    2 (R - 1) latency + 2 (R - 1) / R * bytes / bandwidth

Sums go one after the other, none before its bucket is full, and cost the processor nothing; what is not over when
backward is, prolongs the step. All ranks are equally fast, one on each machine.

Source of the ring's time: Patarasuk and Yuan (2009), doi:10.1016/j.jpdc.2008.09.002.
"""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import dataclass, field
from typing import Any

from bench.output import Output, main
from bench.rivals import HYPER, Workload
from incnet.backend import Array, issue
from incnet.communicator import Communicator, Done, Pending
from incnet.optim import RMSProp
from incnet.parallel.step import ParallelStep
from incnet.threads import use_threads
from incnet.training.replay import Replay

__all__ = ["NETWORKS", "RankModel", "Timeline", "prolonged", "ring"]

WARM_UP = 3
NETWORKS = {"10 Gbit/s": (10e9 / 8, 30e-6), "100 Gbit/s": (100e9 / 8, 5e-6)}  # bytes and seconds


@dataclass(frozen=True)
class RankModel(Output):
    """Model steps of many ranks."""

    workloads: tuple[str, ...] = ("resnet56:128", "vgg16:32")
    """Architectures, each with the images of a rank."""

    ranks: tuple[int, ...] = (4, 16, 64, 256)
    """Numbers of ranks."""

    steps: int = 15
    """Steps that are measured; their medians count."""

    threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Threads of a rank."""


class Notes(Communicator):
    """A rank by itself that notes when sums begin, and of how many bytes they are."""

    recordable = True

    def __init__(self) -> None:
        super().__init__()
        self.sums: list[tuple[float, int]] = []

    def allreduce_async(self, array: Array) -> Pending:
        issue(self.begin, array)
        return Done()

    def begin(self, array: Array) -> None:
        """Note a sum, in every replay anew."""
        self.sums.append((time.perf_counter(), array.nbytes))


@dataclass(frozen=True)
class Timeline:
    """A step without anybody to talk to.

    Attributes
    ----------
    seconds, backward_ends : float
        Its length, and when backward is over.
    sums : list of (float, int)
        When each sum could begin, and its bytes.
    """

    seconds: float
    backward_ends: float
    sums: list[tuple[float, int]]

    @property
    def bytes(self) -> int:
        """Of all sums."""
        return sum(size for _, size in self.sums)


def timeline(work: Workload, steps: int) -> Timeline:
    """Measure steps; medians, moment by moment."""
    notes = Notes()
    step = Replay(ParallelStep(work.network(), RMSProp(**HYPER), notes, sync_bn=False))
    images, labels = work.batch()
    lengths, ends, moments = [], [], []
    for number in range(WARM_UP + steps):
        notes.sums = []
        start = time.perf_counter()
        step.gradients(images, labels)
        end = time.perf_counter()
        step.update()
        if number >= WARM_UP:
            lengths.append(time.perf_counter() - start)
            ends.append(end - start)
            moments.append([moment - start for moment, _ in notes.sums])
    begins = map(statistics.median, zip(*moments, strict=True))
    sums = list(zip(begins, (size for _, size in notes.sums), strict=True))
    return Timeline(statistics.median(lengths), statistics.median(ends), sums)


def ring(size: int, ranks: int, bandwidth: float, latency: float) -> float:
    """Seconds of a sum of ``size`` bytes."""
    return 2 * (ranks - 1) * latency + 2 * (ranks - 1) / ranks * size / bandwidth


def prolonged(step: Timeline, ranks: int, bandwidth: float, latency: float) -> float:
    """Seconds by which communication prolongs a step."""
    end = 0.0
    for begin, size in step.sums:
        end = max(end, begin) + ring(size, ranks, bandwidth, latency)
    return max(0.0, end - step.backward_ends)


def model(options: RankModel) -> list[dict[str, Any]]:
    """A record for each architecture and step: in look-ahead on each sub-network, and of the whole network."""
    use_threads(options.threads)
    found = []
    for workload in options.workloads:
        arch, _, images = workload.partition(":")
        count = len(Workload(arch, 1).network().subnetworks)
        for number in range(1, count + 2):
            whole = number > count
            work = Workload(arch, int(images), subnetworks=0 if whole else number, frozen=0 if whole else number - 1)
            step = timeline(work, options.steps)
            efficiency = {
                name: {
                    ranks: round(step.seconds / (step.seconds + prolonged(step, ranks, *network)), 3)
                    for ranks in options.ranks
                }
                for name, network in NETWORKS.items()
            }
            found.append(
                {
                    "arch": arch,
                    "step": "whole network" if whole else f"look-ahead S{number}",
                    "ms": round(step.seconds * 1e3, 1),
                    "bytes": step.bytes,
                    "efficiency": efficiency,
                }
            )
    return found


if __name__ == "__main__":
    main("bench.rank_model", RankModel, model)
