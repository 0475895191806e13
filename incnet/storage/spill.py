"""SpillStore for large arrays: in memory up to a limit, beyond it in files that are mapped into memory."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from incnet.backend import Array, empty
from incnet.storage.files import TEMPORARY, write_all, writing

__all__ = ["SpillStore"]

_ZEROS = bytes(2**20)


class SpillStore:
    """Lend uninitialised arrays, of the backend in use as long as they fit its memory.

    Parameters
    ----------
    limit : int
        Bytes of memory that they may take in all. An array that no longer fits lies in a file.
    folder : Path
        Where such files are made. They end in ``.tmp``: what a killed process leaves is removed with the other
        temporary files when the folder is opened again.
    name : str
        What they are called, with a number; of other processes in the folder they must be called otherwise.
    """

    def __init__(self, limit: int, folder: Path, name: str = "array") -> None:
        self.limit, self.folder, self.name = limit, folder, name
        self._used = 0
        self._files: list[Path] = []

    def array(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return an array; one in a file is NumPy's, whatever the backend.

        Raises
        ------
        WriteError
            If the disk has no room for it: the file is as large as the array from the beginning, since a mapped file
            that cannot grow would end the process.
        """
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if self._used + size <= self.limit:
            self._used += size
            return empty(shape, dtype)
        path = self.folder / f"{self.name}{len(self._files) + 1}{TEMPORARY}"
        self._files.append(path)
        with writing(path):
            try:
                _reserve(path, size)
                return np.memmap(path, dtype, "r+", shape=shape)
            except BaseException:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
                raise

    def close(self) -> None:
        """Remove the files. The arrays must not be used any more."""
        while self._files:
            path = self._files.pop()
            with writing(path):
                path.unlink(missing_ok=True)


def _reserve(path: Path, size: int) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
        else:  # macOS
            for start in range(0, size, len(_ZEROS)):
                write_all(descriptor, _ZEROS[: size - start])
    finally:
        os.close(descriptor)
