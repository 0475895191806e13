"""The command ``python -m incnet.report RUN... --out FIGURE``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from incnet.report.curves import learning_curves


@dataclass(frozen=True)
class Report:
    """Draw the learning curves of finished or unfinished runs. Needs matplotlib: pip install incnet[docs]."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders."""

    out: Path = Path("curves.svg")
    """File to write; its ending, .svg, .png or .pdf, says in which format."""


def main() -> int:
    """Draw. Returns the exit code: 0, or 2 for a folder that is no run."""
    options = tyro.cli(Report, prog="python -m incnet.report")
    try:
        learning_curves(options.runs).savefig(options.out, dpi=150)
    except (OSError, ValueError) as error:
        print(f"error: {error}; give run folders that hold a metrics.jsonl", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
