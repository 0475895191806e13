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

# numba's processor name alone leaves AVX-512 on, and PyTorch's two libraries ask for a variable each.
ENVIRONMENTS = {
    "native": {},
    "avx2": {
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "+64bit,+avx,+avx2,+bmi,+bmi2,+cmov,+cx16,+f16c,+fma,+fxsr,+lzcnt,+mmx,+movbe,+popcnt,"
        "+sse,+sse2,+sse3,+sse4.1,+sse4.2,+ssse3,+xsave,+xsaveopt",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
}


@dataclass(frozen=True)
class Comparison:
    """Options that every step benchmark has."""

    peer: Literal["torch", "none"] = "torch"
    """Whom to compare with; PyTorch runs in both memory orders, and the faster one counts."""

    threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Threads that each may use."""

    rounds: int = 12
    """Turns that each takes, of three steps."""

    instructions: Literal["native", "avx2"] = "native"
    """Instructions that each may use: all that the processor has, or none beyond AVX2 and FMA."""

    json: Path | None = None
    """Where to write the result as JSON; - for standard output alone."""


def compare(work: Workload, options: Comparison) -> dict[str, Any]:
    """Result of one comparison, as JSON values; ``ratio`` is incnet's median over the peer's."""
    engines = ["incnet", *(PEERS if options.peer == "torch" else ())]
    timings = take_turns(
        {engine: [*work.rival(engine), "--instructions", options.instructions] for engine in engines},
        threads=options.threads,
        rounds=options.rounds,
        environment=ENVIRONMENTS[options.instructions],
    )
    ours = timings.pop("incnet")
    result = {
        **asdict(work),
        "threads": options.threads,
        "instructions": options.instructions,
        "incnet": ours.as_json(),
    }
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
