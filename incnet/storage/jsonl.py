"""A log of JSON objects, one a line, that only grows, and can be cut back to an earlier length."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from incnet.storage.files import write_all, writing

__all__ = ["JsonLines"]


class JsonLines:
    """A file of JSON objects, opened for appending.

    Parameters
    ----------
    path : Path
        Made if need be.

    Raises
    ------
    WriteError
        Here and below, if the file cannot be written; a line may then be there in part.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with writing(path):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)

    def append(self, value: dict[str, Any]) -> None:
        """Add a line. It is with the system at once, and on the disk after :meth:`sync`."""
        with writing(self.path):
            write_all(self._descriptor, json.dumps(value, allow_nan=False).encode() + b"\n")

    def sync(self) -> int:
        """Bring all lines to the disk. Returns the file's length in bytes."""
        with writing(self.path):
            os.fsync(self._descriptor)
        return self.length

    @property
    def length(self) -> int:
        """Of the file, in bytes."""
        return os.fstat(self._descriptor).st_size

    def cut(self, length: int) -> None:
        """Forget all that comes after the first ``length`` bytes."""
        with writing(self.path):
            os.ftruncate(self._descriptor, length)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
