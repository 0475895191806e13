"""Aligned arrays whose memory is recycled.

A training step creates and drops the same arrays again and again. Fresh memory of this size comes from the operating
system as untouched pages, and touching one costs as much as a kernel's whole work on it. So `aligned_empty` lends
*blocks*: when the last array that views a block is gone, the block waits in a free list for the next array of its size.

Vectors that straddle cache lines cost up to half of a kernel's speed, so every array starts at a multiple of 64 bytes.
And a load whose address equals a recent store's in the last 12 bits waits for it, so arrays start at different places
of a page: otherwise those of a training step, whose sizes are powers of two, would all collide.
"""

import math
import mmap
import threading
from collections import deque
from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from numba import njit

PAGE = 4096
ALIGNMENT = 64  # bytes: one cache line, one 16-lane float32 vector
SMALL = 16 * 1024  # bytes: below it the C library recycles well enough
HUGE = 1 << 22  # bytes: from here on huge pages pay, as NumPy has it for its own arrays
ROOMY = 2.1  # times the size asked for: the largest block that is lent; images lose half of their bytes at a time
SLACK = 2.0  # lent and waiting blocks may take this many times the most that was ever lent
TIGHT = 1.5  # the same, where a limit is planned: whatever waits leaves room for fewer images in a step


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


def contiguous(array: np.ndarray) -> np.ndarray:
    """Return the array itself if it is C-contiguous, or else a copy in recycled memory."""
    if array.flags.c_contiguous:
        return array
    copy = aligned_empty(array.shape, array.dtype)
    copy[...] = array
    return copy


def address(array: np.ndarray | None) -> int:
    """Where an array's first element lies, 0 for None. The caller keeps the array alive."""
    return 0 if array is None else _address(array)


@njit(cache=True)
def _address(array):  # six times as fast as to ask for array.ctypes.data
    return array.ctypes.data


class Workspace(threading.local):
    """A kernel's scratch memory: one buffer for each Python thread, which every kernel uses anew."""

    def __init__(self) -> None:
        self.free()

    def free(self) -> None:
        """Return the buffer; the next call of a kernel makes a new one."""
        self.array = aligned_empty(0)
        self.address = 0

    def carve(self, *sizes: int) -> list[int]:
        """Aligned addresses of uninitialised buffers of so many floats, valid until the next call on this thread."""
        starts = [0, *accumulate(whole(size, ALIGNMENT // 4) for size in sizes)]
        if starts[-1] > self.array.size:
            self.free()  # first, so that there are never two
            self.array = aligned_empty(starts[-1])
            self.address = address(self.array)
        return [self.address + 4 * start for start in starts[:-1]]

    def doubles(self, place: int, *shape: int) -> np.ndarray:
        """Look at a buffer, at an address that was carved, as an array of float64."""
        start = (place - self.address) // 4
        return self.array[start : start + 2 * math.prod(shape)].view(np.float64).reshape(shape)


@lru_cache(16)
def zero_row(size: int) -> int:
    """Address of at least so many float32 zeros, which nobody may change."""
    array = aligned_zeros(size)
    ZEROS.append(array)
    return address(array)


def whole(size: int, unit: int) -> int:
    """Round up to a whole number of units."""
    return -(-size // unit) * unit


def pages(size: int) -> np.ndarray:
    """Uninitialised bytes in pages of their own: freed, they go back to the system, which the C library may put off."""
    private = {"flags": mmap.MAP_PRIVATE} if hasattr(mmap, "MAP_PRIVATE") else {}
    memory = mmap.mmap(-1, size, **private)
    if size >= HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint8)


class Block(NamedTuple):
    """Raw memory of a pool, and the address in it where an array may start."""

    raw: np.ndarray
    start: int


class Loan:
    """One lent block. Every array on it keeps its loan alive, through `ndarray.base`; dying, it returns the block."""

    __slots__ = ("__array_interface__", "block", "returned")

    def __init__(self, block: Block, size: int, returned: deque) -> None:
        self.block, self.returned = block, returned
        self.__array_interface__ = {"version": 3, "typestr": "|u1", "shape": (size,), "data": (block.start, False)}

    def __del__(self) -> None:
        # A destructor may run inside any other code, a locked section too: so it only appends, which is atomic.
        self.returned.append(self.block)


class Pool:
    """Blocks that wait to be lent again, by size.

    Attributes
    ----------
    limit : int or None
        Bytes that lent and waiting blocks may take together, unless the lent ones alone take more. None for `slack`
        times the most that was ever lent.
    slack, roomy : float
        See `SLACK` and `ROOMY`. With a limit a block serves its own size alone, so that what is lent is what the arrays
        take, whatever came before.
    lent, waiting_bytes : int
        Bytes of the blocks that are in use, and of those that wait.
    most_lent, most_held : int
        The most that were ever lent, and the most that were ever lent or waiting.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.returned: deque[Block] = deque()
        self.waiting: dict[int, list[tuple[int, Block]]] = {}  # with the number of its return, in that order
        self.limit: int | None = None
        self.slack, self.roomy = SLACK, ROOMY
        self.lent = self.most_lent = self.most_held = self.waiting_bytes = self.made = self.returns = 0

    def lend(self, size: int) -> Loan:
        """Return a loan of so many bytes."""
        capacity = whole(size_class(size) + PAGE, PAGE)
        with self.lock:
            self._take_back()
            block = self._waiting_block(capacity)
            self.lent += capacity if block is None else block.raw.size
            self.most_lent = max(self.most_lent, self.lent)
            if block is None:
                self._trim()
                block = self._make(capacity)
            self.most_held = max(self.most_held, self.lent + self.waiting_bytes)
        return Loan(block, size, self.returned)

    def _waiting_block(self, capacity: int) -> Block | None:
        """Return the smallest block that waits and is large enough, but not far too large.

        In a chain of ever smaller images, two blocks then serve all of it; each size with blocks of its own would hold
        several times what is ever in use, so that some would be freed and made again in every step.
        """
        size = capacity
        if not self.waiting.get(capacity):
            most = self.roomy * capacity
            fitting = [size for size, blocks in self.waiting.items() if blocks and capacity <= size <= most]
            if not fitting:
                return None
            size = min(fitting)
        self.waiting_bytes -= size
        _, block = self.waiting[size].pop()
        return block

    def _take_back(self) -> None:
        while self.returned:
            block = self.returned.popleft()
            capacity = block.raw.size
            self.lent -= capacity
            self.waiting_bytes += capacity
            self.returns += 1
            self.waiting.setdefault(capacity, []).append((self.returns, block))

    def _trim(self) -> None:
        """Free the blocks that were returned longest ago, until what is held keeps to the limit."""
        limit = self.slack * self.most_lent if self.limit is None else self.limit
        while self.waiting_bytes and self.lent + self.waiting_bytes > limit:
            _, capacity = min((blocks[0][0], capacity) for capacity, blocks in self.waiting.items() if blocks)
            del self.waiting[capacity][0]
            self.waiting_bytes -= capacity

    def limit_to(self, limit: int | None) -> None:
        """Set the limit, and keep to it from now on."""
        with self.lock:
            self.limit, self.roomy = limit, ROOMY if limit is None else 1
            self._take_back()
            self._trim()

    def free(self) -> None:
        """Give the waiting blocks back to the system, and forget how much was lent before."""
        with self.lock:
            self._take_back()
            self.waiting.clear()
            self.waiting_bytes, self.most_lent, self.most_held = 0, self.lent, self.lent

    def _make(self, capacity: int) -> Block:
        raw = pages(capacity)
        lines = PAGE // ALIGNMENT
        self.made += 1
        place = self.made * 13 % lines * ALIGNMENT  # 13: neighbours in time lie far apart, all places are used
        return Block(raw, raw.ctypes.data + place)


def size_class(size: int) -> int:
    """Round up to one of eight sizes between powers of two: nearly equal sizes share their blocks."""
    step = 1 << max(size.bit_length() - 4, 6)
    return whole(size, step)


POOL = Pool()
WORKSPACE, SECOND_WORKSPACE = Workspace(), Workspace()
ZEROS: list[np.ndarray] = []  # what keeps the rows of zeros alive
