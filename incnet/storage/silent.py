"""The run folder of a rank that writes nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from incnet.storage.checkpoint import Checkpoint, Checkpoints
from incnet.storage.folder import RunFolder
from incnet.storage.jsonl import JsonLines

__all__ = ["SilentFolder"]


class SilentFolder(RunFolder):
    """Stands for the folder that rank 0 has open: takes everything, keeps nothing, and touches no disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics = self.sessions = SilentLines(path)
        self.seconds = 0

    def close(self) -> None:
        """Nothing was opened."""

    def replace(self, name: str, pieces: Iterable[Any]) -> None:
        """Rank 0 writes it."""

    def checkpoints(self, keep: int) -> Checkpoints:
        """Those that rank 0 takes."""
        return SilentCheckpoints(self.path, keep)


class SilentLines(JsonLines):
    """A log that is kept by rank 0."""

    length = sys.maxsize

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, value: dict[str, Any]) -> None:
        """Rank 0 writes it."""

    def sync(self) -> int:
        """Rank 0 knows the length."""
        return 0

    def cut(self, length: int) -> None:
        """Rank 0 cuts."""

    def close(self) -> None:
        """Nothing was opened."""


class SilentCheckpoints(Checkpoints):
    """Checkpoints that are taken by rank 0."""

    def save(self, checkpoint: Checkpoint, epoch: int, batch: int) -> Path:
        """Rank 0 saves."""
        return self.folder
