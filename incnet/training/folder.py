"""The run folder: what was asked for, what happened, what came out."""

from __future__ import annotations

import json
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from incnet import __version__
from incnet.training.events import Event, record

__all__ = ["RunFolder", "RunFolderError", "environment"]


class RunFolderError(Exception):
    """A run folder cannot be made or written."""


class RunFolder:
    """A new folder for one run.

    Parameters
    ----------
    path : Path
        Must not exist yet, or be an empty folder: nothing is ever overwritten.
    config : dict
        The resolved options, as JSON values.

    Raises
    ------
    RunFolderError
        If the folder is in use or cannot be written.
    """

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):
                raise RunFolderError(f"--out {path}: the folder is not empty; choose a new one, nothing is overwritten")
            self.write("config.json", {"config": config, "environment": environment()})
            self._metrics = open(path / "metrics.jsonl", "x", encoding="utf-8")  # noqa: SIM115, closed in close()
        except OSError as error:
            raise RunFolderError(f"--out {path}: {error.strerror}; choose a folder that can be written") from error
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        """Time since the run began."""
        return time.monotonic() - self._start

    def log(self, event: Event) -> None:
        """Append one line to ``metrics.jsonl``."""
        self._metrics.write(json.dumps(record(event, self.seconds)) + "\n")
        self._metrics.flush()

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Write ``content`` as an indented JSON file."""
        (self.path / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    def close(self) -> None:
        """Close the log."""
        self._metrics.close()


def environment() -> dict[str, str]:
    """Versions of what computes, and the kind of machine."""
    found = {"incnet": __version__, "python": platform.python_version(), "machine": platform.platform()}
    for package in ("numpy", "numba", "cupy-cuda13x", "cupy-cuda12x"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
