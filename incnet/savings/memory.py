"""How much memory is free for what comes."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from incnet.backend import ops

__all__ = ["available_bytes"]

# Of Linux: what programs can get without swapping, and what a container may have.
MEMINFO, CONTAINER = Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max")


def available_bytes() -> int:
    """Bytes that this process can still get: of the device in use, or of the machine as far as that is known."""
    if ops.on_device:
        import cupy

        return cupy.cuda.runtime.memGetInfo()[0]
    limits = [sys.maxsize]
    if hasattr(os, "sysconf"):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    if MEMINFO.exists() and (found := re.search(r"MemAvailable:\s*(\d+) kB", MEMINFO.read_text())):
        limits.append(1024 * int(found[1]))
    if CONTAINER.exists() and (limit := CONTAINER.read_text().strip()).isdecimal():
        limits.append(int(limit))
    return min(limits)
