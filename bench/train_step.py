"""Time one training step of incnet against PyTorch on the same cores.

    python -m bench.train_step --arch resnet20 --batch-size 128 --peer torch --json -

PyTorch runs with images in both memory orders, and the faster of the two counts.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from bench.rivals import ENGINES, rival
from bench.turns import take_turns

__all__ = ["TrainStep", "measure"]


@dataclass(frozen=True)
class TrainStep:
    """Time one training step: forward, loss, backward, update of all parameters."""

    arch: str = "resnet20"
    """Architecture, as for incnet.train."""

    batch_size: int = 128
    """Images in a step."""

    peer: Literal["torch", "none"] = "torch"
    """Whom to compare with."""

    threads: int = os.cpu_count() or 1
    """Threads that each may use."""

    rounds: int = 12
    """Turns that each takes, of three steps."""

    json: Path | None = None
    """Where to write the result as JSON; - for standard output."""


def measure(options: TrainStep) -> dict:
    """Result of one comparison, as JSON values; ``ratio`` is incnet's median over the peer's."""
    engines = [engine for engine in ENGINES if engine == "incnet" or options.peer == "torch"]
    rivals = {engine: rival(engine, options.arch, options.batch_size) for engine in engines}
    timings = take_turns(rivals, threads=options.threads, rounds=options.rounds)
    ours = timings.pop("incnet")
    result: dict = {
        "arch": options.arch,
        "batch_size": options.batch_size,
        "threads": options.threads,
        "incnet": ours.as_json(),
    }
    if timings:
        name, best = min(timings.items(), key=lambda item: item[1].median_ms)
        result |= {"peer": {"name": name, **best.as_json()}, "ratio": round(ours.median_ms / best.median_ms, 3)}
    return result


def main() -> None:
    """Measure and print."""
    options = tyro.cli(TrainStep, prog="python -m bench.train_step")
    text = json.dumps(measure(options), indent=2)
    print(text)
    if options.json and str(options.json) != "-":
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
