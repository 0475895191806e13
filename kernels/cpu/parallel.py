"""When a kernel is worth more than one thread, and how threads wait.

To start the other threads and to wait for them takes microseconds, on a busy machine milliseconds: small arrays are
done sooner by one.
"""

import importlib
import os
import sys
from contextlib import suppress

from numba import get_num_threads

__all__ = ["threads_for"]

# A thread that waits for the next kernel, or for the others to end theirs, gives its core up after some microseconds.
# OpenMP's default is to spin for milliseconds: alone on a machine that gains little, but where cores are shared, the
# thread that is waited for is the one that gets no core. OpenMP reads this when numba first starts its threads.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def load_openmp() -> None:
    """Load numba's OpenMP threads now, with an OpenMP library of their own.

    PyTorch brings one along whose functions come first for all that is loaded later, and which has read the environment
    when it was imported: numba's threads would spin for milliseconds. RTLD_DEEPBIND lets the library that numba is
    linked with come first, whatever was imported before. Where there is no such flag, or no OpenMP, nothing is changed.
    """
    flags = sys.getdlopenflags() if hasattr(os, "RTLD_DEEPBIND") else None
    if flags is None:
        return
    sys.setdlopenflags(flags | os.RTLD_DEEPBIND)
    try:
        with suppress(ImportError):
            importlib.import_module("numba.np.ufunc.omppool")
    finally:
        sys.setdlopenflags(flags)


load_openmp()

SERIAL = 1 << 17  # vector operations or elements: up to so many, the other threads would come too late


def threads_for(operations: int) -> int:
    """How many threads to use for so many operations."""
    return 1 if operations <= SERIAL else get_num_threads()
