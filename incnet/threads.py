"""How many threads compute: one number for the compiled kernels and for the BLAS behind NumPy's products."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["available_threads", "threads_in_use", "use_threads"]

CONTROL_GROUPS = Path("/sys/fs/cgroup")  # of Linux, see cgroups(7)


def use_threads(count: int | None) -> int:
    """Let kernels and BLAS use ``count`` threads each; they take turns, so cores are not oversubscribed.

    Parameters
    ----------
    count : int or None
        At least 1; None for :func:`available_threads`. More than numba has prepared at import (``NUMBA_NUM_THREADS``,
        by default the number of cores) cannot be used.

    Returns
    -------
    int
        The number in use.
    """
    import numba
    import threadpoolctl

    count = min(count or available_threads(), numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    numba.set_num_threads(count)
    threadpoolctl.threadpool_limits(count)
    return count


def threads_in_use() -> int:
    """Threads of the compiled kernels."""
    import numba

    return int(numba.get_num_threads())


def available_threads(processes: int = 1) -> int:
    """Return how many threads find a core to run on, for each of so many processes that share them; at least 1.

    Cores are those that this process may run on; a quota of time, as containers have it, counts as the cores that can
    always run. ``NUMBA_NUM_THREADS``, if it is set, is the most.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    shared = int(min(cores, quota())) // processes
    most = os.environ.get("NUMBA_NUM_THREADS", "")
    return max(1, min(shared, int(most) if most.isdecimal() else shared))


def quota(groups: Path = CONTROL_GROUPS, own: Path = Path("/proc/self/cgroup")) -> float:
    """Return how many cores' time this process's control groups may use; infinity if there is no limit."""
    least = math.inf
    for folder in _own_groups(groups, own):
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):  # no such file, or "max" in it
            if (limit := folder / "cpu.max").exists():
                allowed, period = map(int, limit.read_text().split())
            else:
                allowed, period = (int((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
            if allowed > 0:
                least = min(least, allowed / period)
    return least


def _own_groups(groups: Path, own: Path) -> Iterator[Path]:
    """Yield the folders of this process's groups and of those above, of version 2 and of version 1."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        root = groups / controllers
        if not controllers or "cpu" in controllers.split(","):
            place = root / path.lstrip("/")
            yield from (folder for folder in (place, *place.parents) if folder.is_relative_to(root))
