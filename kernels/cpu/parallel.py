"""When a kernel is worth more than one thread, and how threads wait.

To start the other threads and to wait for them takes microseconds, on a busy machine milliseconds: small arrays are
done sooner by one.
"""

import os

from numba import get_num_threads

__all__ = ["threads_for"]

# A thread that waits for the next kernel, or for the others to end theirs, gives its core up after some microseconds.
# OpenMP's default is to spin for milliseconds: alone on a machine that gains little, but where cores are shared, the
# thread that is waited for is the one that gets no core. OpenMP reads this when numba first starts its threads.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

SERIAL = 1 << 17  # vector operations or elements: up to so many, the other threads would come too late


def threads_for(operations: int) -> int:
    """How many threads to use for so many operations."""
    return 1 if operations <= SERIAL else get_num_threads()
