"""The common part of the step benchmarks: options, the comparison, its result as JSON."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from bench.rivals import PEERS, Workload
from bench.turns import take_turns

__all__ = ["Comparison", "compare", "report"]


@dataclass(frozen=True)
class Comparison:
    """Options that every step benchmark has."""

    peer: Literal["torch", "none"] = "torch"
    """Whom to compare with; PyTorch runs in both memory orders, and the faster one counts."""

    threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Threads that each may use."""

    rounds: int = 12
    """Turns that each takes, of three steps."""

    json: Path | None = None
    """Where to write the result as JSON; - for standard output alone."""


def compare(work: Workload, options: Comparison) -> dict[str, Any]:
    """Result of one comparison, as JSON values; ``ratio`` is incnet's median over the peer's."""
    engines = ["incnet", *(PEERS if options.peer == "torch" else ())]
    timings = take_turns({e: work.rival(e) for e in engines}, threads=options.threads, rounds=options.rounds)
    ours = timings.pop("incnet")
    result = {**asdict(work), "threads": options.threads, "incnet": ours.as_json()}
    if timings:
        name, best = min(timings.items(), key=lambda item: item[1].median_ms)
        result |= {"peer": {"name": name, **best.as_json()}, "ratio": round(ours.median_ms / best.median_ms, 3)}
    return result


def report(result: Any, path: Path | None) -> None:
    """Print a result, and write it to a file if one was asked for."""
    text = json.dumps(result, indent=2)
    print(text)
    if path and str(path) != "-":
        path.write_text(text + "\n")
