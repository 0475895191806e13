"""The common part of the measurements' commands: options in, JSON out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import tyro

__all__ = ["Output", "main", "report"]


@dataclass(frozen=True, kw_only=True)
class Output:
    """Options that every measurement has."""

    json: Path | None = None
    """Where to write the result as JSON; - for standard output alone."""


Options = TypeVar("Options", bound=Output)


def main(module: str, kind: type[Options], measure: Callable[[Options], Any]) -> None:
    """Be the command ``python -m`` of that module: measure as its options say, and print."""
    options = tyro.cli(kind, prog=f"python -m {module}")
    report(measure(options), options.json)


def report(result: Any, path: Path | None) -> None:
    """Print a result, and write it to a file if one was asked for."""
    text = json.dumps(result, indent=2)
    print(text)
    if path and str(path) != "-":
        path.write_text(text + "\n")
