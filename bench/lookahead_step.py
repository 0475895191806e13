"""Time one look-ahead step: sub-network K and the classifier learn, on top of the frozen sub-networks below.

    python -m bench.lookahead_step --arch resnet20 --subnetwork 3 --peer torch --json -

PyTorch runs the same prefix in eval mode under ``no_grad``.
"""

from __future__ import annotations

from dataclasses import dataclass

import tyro

from bench.compare import Comparison, compare, report
from bench.rivals import Workload

__all__ = ["LookaheadStep"]


@dataclass(frozen=True)
class LookaheadStep(Comparison):
    """Time one look-ahead step."""

    arch: str = "resnet20"
    """Architecture, as for incnet.train."""

    subnetwork: int = 3
    """K: S1 .. S(K-1) are frozen."""

    batch_size: int = 128
    """Images in a step."""


def main() -> None:
    """Measure and print."""
    options = tyro.cli(LookaheadStep, prog="python -m bench.lookahead_step")
    work = Workload(options.arch, options.batch_size, "train", options.subnetwork, options.subnetwork - 1)
    report(compare(work, options), options.json)


if __name__ == "__main__":
    main()
