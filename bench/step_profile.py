"""Show where the milliseconds of a step go, kernel by kernel.

    python -m bench.step_profile --arch resnet20 --batch-size 128 --json -

Every kernel of a step is timed from the call to the return; what is left of the step is Python. The medians over the
repeats are taken call by call, then added up.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from bench.compare import report
from bench.rivals import Workload, incnet_step
from incnet.kernels.cpu import emit, optimise, pointwise, pool, reduce
from incnet.threads import use_threads

__all__ = ["StepProfile", "profile"]

WARM_UP = 3


@dataclass(frozen=True)
class StepProfile:
    """Time the kernels of one training step."""

    arch: str = "resnet20"
    """Architecture, as for incnet.train."""

    batch_size: int = 128
    """Images in a step."""

    subnetwork: int = 0
    """K, for a look-ahead step on it: S1 .. S(K-1) are frozen; 0 for the whole network."""

    threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Threads."""

    repeats: int = 30
    """Steps that are timed."""

    json: Path | None = None
    """Where to write the result as JSON; - for standard output alone."""


class Stopwatch:
    """Times every call of a kernel, in the order of the calls."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        call = emit.Kernel.__call__

        def timed(kernel: Any, *arguments: Any, **options: Any) -> None:
            name = f"{kernel.function.__module__.rpartition('.')[2]}.{kernel.function.__name__}"
            self.time(name, lambda: call(kernel, *arguments, **options))

        emit.Kernel.__call__ = timed
        for module in (optimise, pointwise, pool, reduce):
            self.watch_runs(module)

    def watch_runs(self, module: Any) -> None:
        """Time what a module hands to ``parallel.run``."""
        run, kind = module.run, module.__name__.rpartition(".")[2]
        module.run = lambda f, *rest: self.time(f"{kind}.{f.__name__.strip('_')}", lambda: run(f, *rest))

    def time(self, name: str, function: Callable[[], Any]) -> Any:
        """Call a function, and note how long it took."""
        start = time.perf_counter()
        result = function()
        self.seconds[name].append(time.perf_counter() - start)
        return result


def profile(options: StepProfile) -> dict[str, Any]:
    """Milliseconds of each kernel in a step, its number of calls, and what is left: JSON values."""
    use_threads(options.threads)
    K = options.subnetwork
    step = incnet_step(Workload(options.arch, options.batch_size, "train", K, max(0, K - 1)))
    for _ in range(WARM_UP):
        step()
    watch, steps = Stopwatch(), []
    for _ in range(options.repeats):
        start = time.perf_counter()
        step()
        steps.append(time.perf_counter() - start)
    kernels = {}
    for name, seconds in watch.seconds.items():
        calls = len(seconds) // options.repeats
        kernels[name] = {"ms": 1e3 * sum(statistics.median(seconds[n::calls]) for n in range(calls)), "calls": calls}
    step_ms = 1e3 * statistics.median(steps)
    return {
        "step_ms": round(step_ms, 2),
        "outside_kernels_ms": round(step_ms - sum(kernel["ms"] for kernel in kernels.values()), 2),
        "kernels": {
            name: {"ms": round(kernel["ms"], 3), "calls": kernel["calls"]}
            for name, kernel in sorted(kernels.items(), key=lambda item: -item[1]["ms"])
        },
    }


def main() -> None:
    """Measure and print."""
    options = tyro.cli(StepProfile, prog="python -m bench.step_profile")
    report(profile(options), options.json)


if __name__ == "__main__":
    main()
