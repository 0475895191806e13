"""Time one step of incnet against PyTorch on the same cores: of training, of a look-ahead, or of an evaluation.

    python -m bench.train_step --arch resnet20 --batch-size 128 --peer torch --json -
    python -m bench.train_step --lookahead 3
    python -m bench.train_step --evaluate --batch-size 500

In a look-ahead on sub-network K it and the classifier learn, on top of the frozen S1 .. S(K-1); PyTorch runs the same
prefix in eval mode under ``no_grad``. An evaluation is a forward pass in eval mode, with loss and accuracy.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from bench.output import Output, main
from bench.rivals import PEERS, Workload
from bench.turns import take_turns

__all__ = ["TrainStep", "compare"]

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
class TrainStep(Output):
    """Time one step: forward, loss, backward, update of all parameters that learn."""

    arch: str = "resnet20"
    """Architecture, as for incnet.train."""

    batch_size: int = 128
    """Images in a step."""

    lookahead: int = 0
    """K, for a look-ahead on sub-network K; 0 for training the whole network."""

    evaluate: bool = False
    """Evaluate instead."""

    peer: Literal["torch", "none"] = "torch"
    """Whom to compare with; PyTorch runs in both memory orders, and the faster one counts."""

    threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Threads that each may use."""

    rounds: int = 12
    """Turns that each takes, of three steps."""

    instructions: Literal["native", "avx2"] = "native"
    """Instructions that each may use: all that the processor has, or none beyond AVX2 and FMA."""


def compare(options: TrainStep) -> dict[str, Any]:
    """Result of one comparison, as JSON values; ``ratio`` is incnet's median over the peer's."""
    kind, subnetworks = "evaluate" if options.evaluate else "train", options.lookahead
    work = Workload(options.arch, options.batch_size, kind, subnetworks, max(0, subnetworks - 1))
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


if __name__ == "__main__":
    main("bench.train_step", TrainStep, compare)
