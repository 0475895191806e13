"""Time one training step of incnet against PyTorch on the same cores.

python -m bench.train_step --arch resnet20 --batch-size 128 --peer torch --json -
"""

from __future__ import annotations

from dataclasses import dataclass

import tyro

from bench.compare import Comparison, compare, report
from bench.rivals import Workload

__all__ = ["TrainStep"]


@dataclass(frozen=True)
class TrainStep(Comparison):
    """Time one training step: forward, loss, backward, update of all parameters."""

    arch: str = "resnet20"
    """Architecture, as for incnet.train."""

    batch_size: int = 128
    """Images in a step."""


def main() -> None:
    """Measure and print."""
    options = tyro.cli(TrainStep, prog="python -m bench.train_step")
    report(compare(Workload(options.arch, options.batch_size), options), options.json)


if __name__ == "__main__":
    main()
