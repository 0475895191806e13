"""Writing files so that a crash at any moment leaves the old content or the new one, never a part of it."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["TEMPORARY", "WriteError", "remove_temporary", "replace_file", "sync_folder", "write_all", "writing"]

# Ending of a file that is not complete yet.
TEMPORARY = ".tmp"


class WriteError(Exception):
    """A file cannot be written: the disk is full, failing or read-only. What was there before is untouched.

    Attributes
    ----------
    remedy : str
        What its user can do.
    """

    @property
    def remedy(self) -> str:
        match getattr(self.__cause__, "errno", None):
            case errno.ENOENT | errno.ENOTDIR | errno.ESTALE:
                return "the folder was removed or renamed meanwhile: put it back, or take its new name"
            case errno.EACCES | errno.EPERM | errno.EROFS:
                return "let it be written"
            case _:
                return "make room"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise :class:`WriteError`, naming ``path``, for what goes wrong with the disk in a ``with`` block."""
    try:
        yield
    except OSError as error:
        missing = error.errno == errno.ENOENT and not path.parent.is_dir()
        reason = f"there is no folder {path.parent}" if missing else error.strerror or error
        raise WriteError(f"cannot write {path}: {reason}") from error


def replace_file(path: Path, pieces: Iterable[Any], name: Callable[[], str] | None = None) -> Path:
    """Write ``pieces``, bytes-like and contiguous, one after the other, as the whole content of a file.

    The content goes to a temporary file beside it, to the disk, and only then under its name.

    Parameters
    ----------
    path : Path
        Of the file.
    pieces : iterable of bytes-like
        Taken one at a time.
    name : callable, optional
        Called when all is written; returns the name under which the file then appears in the folder of ``path``.

    Returns
    -------
    Path
        Of the file.

    Raises
    ------
    WriteError
        If anything of this fails; no temporary file is left, and an earlier file of that name is untouched.
    """
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        with writing(path):
            _write(temporary, pieces)
            if name is not None:
                path = path.with_name(name())
            os.replace(temporary, path)
            sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):  # a disk that takes no writes; it is tried again when the run goes on
            temporary.unlink(missing_ok=True)
        raise
    return path


def _write(path: Path, pieces: Iterable[Any]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        for piece in pieces:
            write_all(descriptor, piece)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, content: Any) -> None:
    """Write ``content``, bytes-like; one call of the system may take only a part of it."""
    rest = memoryview(content).cast("B")
    while rest:
        written = os.write(descriptor, rest)
        if written <= 0:
            raise OSError(f"{len(rest):,} bytes were not taken")
        rest = rest[written:]


def sync_folder(folder: Path) -> None:
    """Bring the entries of ``folder`` to the disk, where the system has a call for that."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_temporary(folder: Path) -> None:
    """Remove what a process that was killed while it wrote has left in ``folder``."""
    for path in folder.glob(f"*{TEMPORARY}"):
        with writing(path):
            path.unlink(missing_ok=True)
