"""Time rivals fairly: each in a process of its own, warmed up, taking turns, as :mod:`incnet.timing.turns` has them.

A rival is a command that calls :func:`serve`.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

from incnet.timing import turns

__all__ = ["Timing", "serve", "take_turns"]

WARM_UP = 3


@dataclass(frozen=True)
class Timing(turns.Timing):
    """Seconds of a rival's steps, and all that its process answered in each turn."""

    answers: tuple[dict[str, Any], ...]

    @property
    def peak_rss_mb(self) -> float:
        """Most memory that its process held, in MB."""
        return self.answers[-1]["peak_rss_mb"]

    @property
    def median_ms(self) -> float:
        """Milliseconds of a step."""
        return 1e3 * self.seconds.median

    def as_json(self) -> dict[str, float]:
        """Values rounded to what they are worth."""
        fastest = 1e3 * min(map(min, self.turns))
        values = {"median_ms": self.median_ms, "min_ms": fastest, "peak_rss_mb": self.peak_rss_mb}
        return {name: round(value, 2) for name, value in values.items()}


def serve(step: Callable[[], Any]) -> None:
    """Warm ``step`` up, then run it as often as each line of standard input says; answer with the seconds."""
    for _ in range(WARM_UP):
        step()
    print("ready", flush=True)
    for line in sys.stdin:
        seconds = turns.time_steps(step, int(line))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "peak_rss_mb": peak}), flush=True)


def take_turns(
    rivals: Mapping[str, Sequence[str]],
    *,
    threads: int | Mapping[str, int],
    rounds: int = 12,
    steps: int = 3,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Timing]:
    """Run ``steps`` steps of each rival in turn, ``rounds`` times.

    Parameters
    ----------
    rivals : mapping of str to sequence of str
        Command that starts each rival.
    threads : int, or mapping of str to int
        Threads that every library may use: in every process, or in that of each rival.
    environment : mapping of str to str
        Variables that every process gets, beside those of this one.

    Raises
    ------
    RuntimeError
        If a rival's process ends early.
    """
    limits = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    counts = {name: threads if isinstance(threads, int) else threads[name] for name in rivals}
    processes = {
        name: subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment, **{limit: str(counts[name]) for limit in limits}},
        )
        for name, command in rivals.items()
    }
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in rivals}
    try:
        for name, process in processes.items():
            _answer(name, process)

        def turn(name: str) -> list[float]:
            process = processes[name]
            assert process.stdin is not None
            process.stdin.write(f"{steps}\n")
            process.stdin.flush()
            answers[name].append(json.loads(_answer(name, process)))
            return answers[name][-1]["seconds"]

        timings = turns.take_turns({name: partial(turn, name) for name in rivals}, rounds)
    finally:
        for process in processes.values():
            process.communicate()  # its standard input ends, and so does it
    return {name: Timing(timing.turns, tuple(answers[name])) for name, timing in timings.items()}


def _answer(name: str, process: subprocess.Popen) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{name} ended with exit code {process.wait()}")
    return line
