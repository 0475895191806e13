"""What freezing saves, beside PyTorch: ``python -m incnet.savings`` with rivals.

    python -m bench.backward_savings --arch resnet20 --json -

For each k the network is whole, and S1 .. Sk are frozen. Steps of incnet and of PyTorch, each in a process of its own,
take turns with steps of the whole network. What is skipped and predicted is :func:`incnet.savings.boundaries.expect`'s.
Memory is the peak of each process, less that of the whole network's step.

=====================  ===============================================================================================
incnet                 the prefix in eval mode, batch norm and ReLU folded into its convolutions
incnet-unfused         the prefix layer by layer
incnet-cached          the prefix's features are there already, as in a look-ahead with --lookahead-cache
torch                  the prefix in eval mode, requires_grad_(False), under no_grad; the faster of both memory orders
torch-requires_grad    the same without no_grad
=====================  ===============================================================================================
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import Any

from bench.output import Output, main
from bench.rivals import PEERS, Workload
from bench.turns import Timing, take_turns
from incnet.optim import RMSProp
from incnet.savings.boundaries import Setting, expect

__all__ = ["BackwardSavings", "measure"]

ENGINES = ("incnet", "incnet-unfused", "incnet-cached", *PEERS, "torch-requires_grad")


@dataclass(frozen=True)
class BackwardSavings(Output):
    """Measure what freezing saves at each boundary."""

    arch: str = "resnet20"
    """Architecture, as for incnet.train."""

    batch_size: int = 128
    """Images in a step."""

    frozen: tuple[int, ...] = ()
    """Numbers of frozen sub-networks. Default: all but none of them, one after the other."""

    threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Threads."""

    rounds: int = 8
    """Turns that each takes, of three steps."""


def measure(options: BackwardSavings) -> dict[str, Any]:
    """Result as JSON values: one entry for each number of frozen sub-networks."""
    whole = Workload(options.arch, options.batch_size)
    boundaries = options.frozen or range(1, len(whole.network().subnetworks))
    return {
        "arch": options.arch,
        "batch_size": options.batch_size,
        "threads": options.threads,
        "boundaries": [boundary(replace(whole, frozen=frozen), options) for frozen in boundaries],
    }


def boundary(work: Workload, options: BackwardSavings) -> dict[str, Any]:
    """Entry for one number of frozen sub-networks."""
    whole = replace(work, frozen=0)
    rivals = {engine: work.rival(engine) for engine in ENGINES}
    rivals |= {f"whole {engine}": whole.rival(engine) for engine in ("incnet", *PEERS)}
    timings = take_turns(rivals, threads=options.threads, rounds=options.rounds)
    for kind in ("", "whole "):
        timings[f"{kind}torch"] = min((timings.pop(kind + peer) for peer in PEERS), key=lambda timing: timing.median_ms)
    graph = whole.network()
    computed, cached = (
        expect(graph, RMSProp(), work.batch_size, Setting(work.frozen, features)) for features in (False, True)
    )
    return {
        "frozen": work.frozen,
        "skipped_of_backward": round(computed.skipped, 3),
        "predicted_ratio": round(computed.ratio, 3),
        "predicted_ratio_cached": round(cached.ratio, 3),
        "engines": {
            engine: savings(timing, timings[f"whole {engine.partition('-')[0]}"])
            for engine, timing in timings.items()
            if not engine.startswith("whole ")
        },
    }


def savings(timing: Timing, whole: Timing) -> dict[str, float]:
    """What one engine saves, of its own step of the whole network."""
    return {
        "ms": round(timing.median_ms, 2),
        "whole_ms": round(whole.median_ms, 2),
        "ratio": round(timing.ratio_to(whole).median, 3),
        "saved_mb": round(whole.peak_rss_mb - timing.peak_rss_mb),
    }


if __name__ == "__main__":
    main("bench.backward_savings", BackwardSavings, measure)
