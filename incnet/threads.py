"""How many threads compute: one number for the compiled kernels and for the BLAS behind NumPy's products."""

from __future__ import annotations

import os

__all__ = ["threads_in_use", "use_threads"]


def use_threads(count: int | None, processes: int = 1) -> int:
    """Let kernels and BLAS use ``count`` threads each; they take turns, so cores are not oversubscribed.

    Parameters
    ----------
    count : int or None
        At least 1; None for the cores that this process may run on. More than numba has prepared at import
        (``NUMBA_NUM_THREADS``, by default the number of cores) cannot be used.
    processes : int
        How many share these cores, and divide them where ``count`` is None.

    Returns
    -------
    int
        The number in use.
    """
    import numba
    import threadpoolctl

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = min(count or max(1, cores // processes), numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    numba.set_num_threads(count)
    threadpoolctl.threadpool_limits(count)
    return count


def threads_in_use() -> int:
    """Threads of the compiled kernels."""
    import numba

    return int(numba.get_num_threads())
