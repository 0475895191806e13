"""Memory in whole pages, straight from the operating system."""

import mmap

import numpy as np

HUGE = 1 << 22  # bytes: from here on huge pages pay, as NumPy has it for its own arrays


def pages(size: int) -> np.ndarray:
    """Uninitialised bytes in pages of their own: freed, they go back to the system, which the C library may put off."""
    private = {"flags": mmap.MAP_PRIVATE} if hasattr(mmap, "MAP_PRIVATE") else {}
    memory = mmap.mmap(-1, size, **private)
    if size >= HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint8)
