"""Aligned arrays whose memory is recycled.

A training step creates and drops the same arrays again and again. Fresh memory of this size comes from the operating
system as untouched pages, and touching one costs as much as a kernel's whole work on it. So `aligned_empty` lends
*blocks*: when the last array that views a block is gone, the block waits in a free list for the next array of its size.

Vectors that straddle cache lines cost up to half of a kernel's speed, so every array starts at a multiple of 64 bytes.
"""

import math
import threading
from collections import deque
from typing import Any

import numpy as np

ALIGNMENT = 64  # bytes: one cache line, one 16-lane float32 vector
SMALL = 16 * 1024  # bytes: below it the C library recycles well enough
SLACK = 1.5  # lent and waiting blocks may take this many times the most that was ever lent


def aligned_empty(shape: int | tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """Return an uninitialised C-contiguous array at a multiple of 64 bytes; its memory is recycled when it dies."""
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if size < SMALL:
        raw = np.empty(size + ALIGNMENT, np.uint8)
        start = -raw.ctypes.data % ALIGNMENT
        return raw[start : start + size].view(dtype).reshape(shape)
    return np.ndarray(shape, dtype, np.asarray(POOL.lend(size)))


def aligned_zeros(shape: int | tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """Return `aligned_empty`, filled with zeros."""
    array = aligned_empty(shape, dtype)
    array[...] = 0
    return array


def address(array: np.ndarray | None) -> int:
    """Where an array's first element lies, 0 for None. The caller keeps the array alive."""
    return 0 if array is None else array.ctypes.data


def whole(size: int, unit: int) -> int:
    """Round up to a whole number of units."""
    return -(-size // unit) * unit


class Loan:
    """One lent block. Every array on it keeps its loan alive, through `ndarray.base`; dying, it returns the block."""

    __slots__ = ("__array_interface__", "block", "returned")

    def __init__(self, block: np.ndarray, returned: deque) -> None:
        start = -block.ctypes.data % ALIGNMENT
        self.block, self.returned = block, returned
        self.__array_interface__ = {
            "version": 3,
            "typestr": "|u1",
            "shape": (block.size - ALIGNMENT,),
            "data": (block.ctypes.data + start, False),
        }

    def __del__(self) -> None:
        # A destructor may run inside any other code, a locked section too: so it only appends, which is atomic.
        self.returned.append(self.block)


class Pool:
    """Blocks that wait to be lent again, by size."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.returned: deque[np.ndarray] = deque()
        self.waiting: dict[int, list[np.ndarray]] = {}  # least recently returned size first
        self.lent = self.most_lent = self.waiting_bytes = 0

    def lend(self, size: int) -> Loan:
        """Return a loan of at least size bytes."""
        size = size_class(size) + ALIGNMENT
        with self.lock:
            self._take_back()
            self.lent += size
            self.most_lent = max(self.most_lent, self.lent)
            blocks = self.waiting.get(size)
            if blocks:
                block = blocks.pop()
                self.waiting_bytes -= size
            else:
                self._trim()
                block = np.empty(size, np.uint8)
        return Loan(block, self.returned)

    def _take_back(self) -> None:
        while self.returned:
            block = self.returned.popleft()
            self.lent -= block.size
            self.waiting_bytes += block.size
            blocks = self.waiting.pop(block.size, [])
            self.waiting[block.size] = [*blocks, block]

    def _trim(self) -> None:
        """Free the sizes that were returned longest ago, until what is held is in proportion to what was lent."""
        while self.waiting and self.lent + self.waiting_bytes > SLACK * self.most_lent:
            size = next(iter(self.waiting))
            blocks = self.waiting[size]
            if blocks:
                blocks.pop()
                self.waiting_bytes -= size
            else:
                del self.waiting[size]


def size_class(size: int) -> int:
    """Round up to one of eight sizes between powers of two: nearly equal sizes share their blocks."""
    step = 1 << max(size.bit_length() - 4, 6)
    return whole(size, step)


POOL = Pool()
