"""One process to a run folder."""

from __future__ import annotations

import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # not a POSIX system: there is no lock that is sure to end with its process
    fcntl = None  # type: ignore[assignment]

__all__ = ["FolderInUseError", "Lock"]


class FolderInUseError(Exception):
    """Another process holds the lock."""


class Lock:
    """Exclusive right to a folder, by ``flock`` on a file in it: the system takes it back when the process ends.

    The file itself stays: to remove it would let two processes lock two files of one name.

    Parameters
    ----------
    path : Path
        Of the file, made if need be.

    Raises
    ------
    FolderInUseError
        If another process holds it, naming its number.
    OSError
        If the file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        try:
            if fcntl is not None:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, f"{os.getpid()}\n".encode())
        except BlockingIOError:
            holder = os.read(self._descriptor, 20).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise FolderInUseError(f"process {holder or 'unknown'} is at work there") from None
        except OSError:
            os.close(self._descriptor)
            raise

    def release(self) -> None:
        """Give the right back."""
        os.close(self._descriptor)
