"""Where compiled kernels are kept from one process to the next.

numba looks for a folder when a function is defined, which is at import, and gives up where neither the package nor the
user's cache can be written, as in containers and on clusters. So a folder is found before.
"""

from __future__ import annotations

import atexit
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numba
from numba.core.ccallback import CFunc
from numba.core.dispatcher import Dispatcher
from numba.misc.appdirs import AppDirs

__all__ = ["find_cache"]


def find_cache() -> None:
    """Let numba keep compiled functions where it can: in a temporary folder, if nowhere else; or not at all."""
    if any(is_writable(folder) for folder in numbas_own()):
        return
    try:
        os.environ["NUMBA_CACHE_DIR"] = str(temporary_folder())  # of the processes that this one starts, too
        numba.config.reload_config()
    except OSError as error:
        print(f"compiled kernels are not kept, since no folder can be written: {error}", file=sys.stderr)
        Dispatcher.enable_caching = CFunc.enable_caching = lambda self: None  # type: ignore


def numbas_own() -> Iterator[Path]:
    """Yield the folders that numba tries: the user's, the package's, the one for all of the user's packages."""
    if named := os.environ.get("NUMBA_CACHE_DIR"):
        yield Path(named)
    yield Path(__file__).parent / "__pycache__"
    folder = Path(AppDirs("numba", appauthor=False).user_cache_dir)
    if folder.is_absolute():  # without a home it would be a folder called ~ in this one
        yield folder


def is_writable(folder: Path) -> bool:
    """Whether files can be made in a folder, which is made if need be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


def temporary_folder() -> Path:
    """Return a folder that nobody else can write to, for what is read from it is executed; if possible a lasting one.

    Raises
    ------
    OSError
        If there is no place for it.
    """
    if hasattr(os, "getuid"):
        folder = Path(tempfile.gettempdir()) / f"incnet-kernels-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
            return folder
    folder = Path(tempfile.mkdtemp(prefix="incnet-kernels-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
