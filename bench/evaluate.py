"""Time the evaluation of a batch, forward in eval mode with loss and accuracy, against PyTorch.

python -m bench.evaluate --arch resnet20 --batch-size 500 --peer torch --json -
"""

from __future__ import annotations

from dataclasses import dataclass

import tyro

from bench.compare import Comparison, compare, report
from bench.rivals import Workload

__all__ = ["Evaluate"]


@dataclass(frozen=True)
class Evaluate(Comparison):
    """Time one evaluation."""

    arch: str = "resnet20"
    """Architecture, as for incnet.train."""

    batch_size: int = 500
    """Images in a batch."""


def main() -> None:
    """Measure and print."""
    options = tyro.cli(Evaluate, prog="python -m bench.evaluate")
    report(compare(Workload(options.arch, options.batch_size, "evaluate"), options), options.json)


if __name__ == "__main__":
    main()
