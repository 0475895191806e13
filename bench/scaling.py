"""Measure how a training step grows with the batch, the depth and the threads.

python -m bench.scaling --json -
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from bench.output import Output, main
from bench.rivals import Workload
from bench.turns import Timing, take_turns

__all__ = ["Scaling", "measure"]

BATCHES = (32, 64, 128, 256, 512)
DEPTHS = (20, 32, 44, 56)


@dataclass(frozen=True)
class Scaling(Output):
    """Measure how a training step scales."""

    threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Most threads."""

    rounds: int = 8
    """Turns that each setting takes, of three steps."""


def measure(options: Scaling) -> dict[str, Any]:
    """Result as JSON values: milliseconds for each batch size and depth, and the speed-up by threads."""

    def run(works: dict[Any, Workload], threads: int | dict[Any, int] = options.threads) -> dict[Any, Timing]:
        return take_turns({k: w.rival("incnet") for k, w in works.items()}, threads=threads, rounds=options.rounds)

    batches = run({n: Workload("resnet20", n) for n in BATCHES})
    depths = run({d: Workload(f"resnet{d}", 128) for d in DEPTHS})
    counts = sorted({1, options.threads})
    by_threads = run(dict.fromkeys(counts, Workload("resnet20", 128)), {t: t for t in counts})
    return {
        "us_per_image": {n: round(timing.median_ms / n * 1e3, 1) for n, timing in batches.items()},
        "ms_by_depth": {d: round(timing.median_ms, 2) for d, timing in depths.items()},
        "ms_by_threads": {t: round(timing.median_ms, 2) for t, timing in by_threads.items()},
        "speed_up": round(by_threads[1].median_ms / by_threads[options.threads].median_ms, 2),
    }


if __name__ == "__main__":
    main("bench.scaling", Scaling, measure)
