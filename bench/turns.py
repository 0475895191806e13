"""Time rivals fairly: each in a process of its own, warmed up, taking turns, judged by the median.

Machines are shared and their speed drifts; rivals that take turns within seconds drift together, so that their ratio
can be trusted where their seconds cannot. A rival is a command that calls :func:`serve`.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Timing", "serve", "take_turns"]

WARM_UP = 3


@dataclass(frozen=True)
class Timing:
    """What a rival needed for one step, in milliseconds, and the most memory that its process held, in MB."""

    median_ms: float
    min_ms: float
    peak_rss_mb: float

    def as_json(self) -> dict[str, float]:
        """Values rounded to what they are worth."""
        return {name: round(value, 2) for name, value in vars(self).items()}


def serve(step: Callable[[], Any]) -> None:
    """Warm ``step`` up, then run it as often as each line of standard input says; answer with the seconds."""
    for _ in range(WARM_UP):
        step()
    print("ready", flush=True)
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            start = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - start)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "peak_rss_mb": peak}), flush=True)


def take_turns(
    rivals: Mapping[str, Sequence[str]], *, threads: int | Mapping[str, int], rounds: int = 12, steps: int = 3
) -> dict[str, Timing]:
    """Run ``steps`` steps of each rival in turn, ``rounds`` times.

    Parameters
    ----------
    rivals : mapping of str to sequence of str
        Arguments for ``python`` that start each rival.
    threads : int, or mapping of str to int
        Threads that every library may use: in every process, or in that of each rival.

    Raises
    ------
    RuntimeError
        If a rival's process ends early.
    """
    limits = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    counts = {name: threads if isinstance(threads, int) else threads[name] for name in rivals}
    processes = {
        name: subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {limit: str(counts[name]) for limit in limits},
        )
        for name, arguments in rivals.items()
    }
    try:
        for name, process in processes.items():
            _answer(name, process)
        seconds: dict[str, list[float]] = {name: [] for name in rivals}
        peaks: dict[str, float] = {}
        for _ in range(rounds):
            for name, process in processes.items():
                assert process.stdin is not None
                process.stdin.write(f"{steps}\n")
                process.stdin.flush()
                answer = json.loads(_answer(name, process))
                seconds[name] += answer["seconds"]
                peaks[name] = answer["peak_rss_mb"]
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()
    return {
        name: Timing(statistics.median(taken) * 1e3, min(taken) * 1e3, peaks[name]) for name, taken in seconds.items()
    }


def _answer(name: str, process: subprocess.Popen) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{name} ended with exit code {process.wait()}")
    return line
