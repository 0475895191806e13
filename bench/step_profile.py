"""Show where the milliseconds of a step go, kernel by kernel.

    python -m bench.step_profile --arch resnet20 --batch-size 128 --json -

Every call that a recorded step consists of is timed; what is left of the step is Python. The medians over the repeats
are taken call by call, then added up.
"""

from __future__ import annotations

import ctypes
import os
import statistics
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from bench.output import Output, main
from bench.rivals import Workload, incnet_step
from incnet.kernels.cpu import emit
from incnet.kernels.cpu.calls import CallList
from incnet.threads import use_threads

__all__ = ["StepProfile", "profile"]

WARM_UP = 3


@dataclass(frozen=True)
class StepProfile(Output):
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


class Stopwatch:
    """Times the calls that a recorded step consists of, one by one; with ``running`` false, it looks away."""

    def __init__(self) -> None:
        self.seconds: dict[tuple[int, int], list[float]] = defaultdict(list)
        self.names: dict[tuple[int, int], str] = {}
        self.running = False
        kernels: dict[int | None, str] = {}
        call, replay = emit.Kernel.__call__, CallList.replay

        def known(kernel: emit.Kernel, *arguments: int, **options: Any) -> None:
            kernels[kernel.address] = qualified(kernel.function)
            call(kernel, *arguments, **options)

        def timed(calls: CallList) -> None:
            if not self.running:
                replay(calls)
                return
            for number, (function, arguments) in enumerate(calls.calls):
                start = time.perf_counter()
                function(*arguments)
                self.seconds[id(calls), number].append(time.perf_counter() - start)
                self.names[id(calls), number] = name(function, arguments, kernels)

        emit.Kernel.__call__, CallList.replay = known, timed  # type: ignore[method-assign, assignment]

    def totals(self) -> dict[str, dict[str, float]]:
        """Milliseconds and number of calls of each kernel, the slowest first."""
        found: dict[str, dict[str, float]] = defaultdict(lambda: {"ms": 0.0, "calls": 0})
        for call, seconds in self.seconds.items():
            found[self.names[call]]["ms"] += 1e3 * statistics.median(seconds)
            found[self.names[call]]["calls"] += 1
        return dict(sorted(found.items(), key=lambda item: -item[1]["ms"]))


def name(function: Any, arguments: tuple, kernels: dict[int | None, str]) -> str:
    """Return what a call computes: the kernel that is launched on all threads, or on one, or the function itself."""
    if function is emit.launch:
        return kernels[arguments[0]]
    if hasattr(function, "argtypes"):
        return kernels[ctypes.cast(function, ctypes.c_void_p).value]
    inner = arguments[0] if arguments and callable(arguments[0]) else function  # of one opaque call
    return qualified(getattr(inner, "func", inner))


def qualified(function: Any) -> str:
    """Module and name."""
    return f"{function.__module__.rpartition('.')[2]}.{function.__name__.strip('_')}"


def profile(options: StepProfile) -> dict[str, Any]:
    """Milliseconds of each kernel in a step, its number of calls, and what is left: JSON values."""
    use_threads(options.threads)
    K, watch = options.subnetwork, Stopwatch()
    step = incnet_step(Workload(options.arch, options.batch_size, "train", K, max(0, K - 1)))
    for _ in range(WARM_UP):
        step()
    steps = []
    for _ in range(options.repeats):
        watch.running = False
        start = time.perf_counter()
        step()
        steps.append(time.perf_counter() - start)
        watch.running = True
        step()
    kernels, step_ms = watch.totals(), 1e3 * statistics.median(steps)
    return {
        "step_ms": round(step_ms, 2),
        "outside_kernels_ms": round(step_ms - sum(kernel["ms"] for kernel in kernels.values()), 2),
        "kernels": {name: {**kernel, "ms": round(kernel["ms"], 3)} for name, kernel in kernels.items()},
    }


if __name__ == "__main__":
    main("bench.step_profile", StepProfile, profile)
