"""Measure how long a newcomer waits for the first training step: with nothing compiled yet, and in the next process.

    python -m bench.first_contact --json -

Each is a whole process, from the start of Python to the end of the step, imports included.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import Any

from bench.output import Output, main

__all__ = ["FirstContact", "measure"]

# What is compiled ahead is that of a step like the one that is then taken.
STEP = """
from bench.rivals import Workload, incnet_step
from incnet.backend import prepare

work = Workload({arch!r}, 128)
prepare(lambda: [incnet_step(work)])
incnet_step(work)()
"""


@dataclass(frozen=True)
class FirstContact(Output):
    """Measure the time to the end of the first training step."""

    arch: str = "resnet20"
    """Architecture, as for incnet.train."""

    warm_runs: int = 5
    """Processes that find the compiled kernels on disk; their median counts."""


def measure(options: FirstContact) -> dict[str, Any]:
    """Seconds of a cold and of a warm process, as JSON values."""
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"NUMBA_CACHE_DIR": cache}

        def seconds() -> float:
            start = time.perf_counter()
            command = [sys.executable, "-c", STEP.format(arch=options.arch)]
            subprocess.run(command, check=True, env=environment)
            return time.perf_counter() - start

        cold = seconds()
        warm = sorted(seconds() for _ in range(options.warm_runs))
    return {"arch": options.arch, "cold_s": round(cold, 2), "warm_s": round(warm[len(warm) // 2], 2)}


if __name__ == "__main__":
    main("bench.first_contact", FirstContact, measure)
