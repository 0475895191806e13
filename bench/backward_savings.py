"""Measure what freezing saves: for every boundary, the share of a training step that is left.

    python -m bench.backward_savings --arch resnet20 --json -

For each k the network is whole, and S1 .. Sk are frozen. The predicted ratio is that of the multiply-adds of forward,
weight gradient and input gradient; the measured one that of the median times, all boundaries taking turns.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from bench.compare import report
from bench.rivals import CIFAR, Workload
from bench.turns import take_turns

__all__ = ["BackwardSavings", "measure"]


@dataclass(frozen=True)
class BackwardSavings:
    """Measure what freezing saves at each boundary."""

    arch: str = "resnet20"
    """Architecture, as for incnet.train."""

    batch_size: int = 128
    """Images in a step."""

    threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Threads."""

    rounds: int = 12
    """Turns that each boundary takes, of three steps."""

    json: Path | None = None
    """Where to write the result as JSON; - for standard output alone."""


def measure(options: BackwardSavings) -> dict[str, Any]:
    """Result as JSON values: one entry for each number of frozen sub-networks."""
    whole = Workload(options.arch, options.batch_size)
    subnetworks = len(whole.network().subnetworks)
    works = [Workload(options.arch, options.batch_size, frozen=k) for k in range(subnetworks)]
    rivals = {str(work.frozen): work.rival("incnet") for work in works}
    timings = take_turns(rivals, threads=options.threads, rounds=options.rounds)
    full_macs, full_ms = whole.network().cost(CIFAR).total, timings["0"].median_ms
    boundaries = []
    for work in works:
        macs, timing = work.network().cost(CIFAR).total, timings[str(work.frozen)]
        boundaries.append(
            {
                "frozen": work.frozen,
                "macs_per_image": macs,
                "predicted_ratio": round(macs / full_macs, 3),
                "measured_ratio": round(timing.median_ms / full_ms, 3),
                **timing.as_json(),
            }
        )
    return {
        "arch": options.arch,
        "batch_size": options.batch_size,
        "threads": options.threads,
        "boundaries": boundaries,
    }


def main() -> None:
    """Measure and print."""
    options = tyro.cli(BackwardSavings, prog="python -m bench.backward_savings")
    report(measure(options), options.json)


if __name__ == "__main__":
    main()
