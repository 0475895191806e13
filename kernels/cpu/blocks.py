"""A caching allocator: blocks of memory that are freed are kept, and allocated again.

Fresh memory comes from the operating system as untouched pages, and touching one costs as much as a kernel's whole work
on it. A training step creates and drops the same arrays again and again: a `Pool` keeps their memory for the next ones.
"""

import threading
from collections import deque
from typing import NamedTuple

import numpy as np

from ..pages import pages

PAGE = 4096
ALIGNMENT = 64  # bytes: one cache line, one 16-lane float32 vector
# Times the size asked for: the largest block that is allocated for it; images lose half of their bytes at a time.
MAX_OVERSIZE = 2.1
SLACK = 2.0  # allocated and waiting blocks may take this many times the most that was ever allocated
TIGHT = 1.5  # the same, where a limit is planned: whatever waits leaves room for fewer images in a step


def round_up(size: int, unit: int) -> int:
    """Round up to a whole number of units."""
    return -(-size // unit) * unit


class Block(NamedTuple):
    """Raw memory of a pool, and the address in it where an array may start."""

    raw: np.ndarray
    start: int


class Allocation:
    """A block in use. Every array on it keeps this alive, through `ndarray.base`; dying, it returns the block."""

    __slots__ = ("__array_interface__", "block", "returned")

    def __init__(self, block: Block, size: int, returned: deque) -> None:
        self.block, self.returned = block, returned
        self.__array_interface__ = {"version": 3, "typestr": "|u1", "shape": (size,), "data": (block.start, False)}

    def __del__(self) -> None:
        # A destructor may run inside any other code, a locked section too: so it only appends, which is atomic.
        self.returned.append(self.block)


class Pool:
    """Blocks that wait to be allocated again, by size.

    Attributes
    ----------
    limit : int or None
        Bytes that allocated and waiting blocks may take together, unless the allocated ones alone take more. None for
        `slack` times the most that was ever allocated.
    slack, max_oversize : float
        See `SLACK` and `MAX_OVERSIZE`. With a limit a block serves its own size alone, so that what is allocated is
        what the arrays take, whatever came before.
    allocated, waiting_bytes : int
        Bytes of the blocks that are in use, and of those that wait.
    peak_allocated, peak_held : int
        The most that were ever allocated, and the most that were ever allocated or waiting.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.returned: deque[Block] = deque()
        self.waiting: dict[int, list[tuple[int, Block]]] = {}  # with the number of its return, in that order
        self.limit: int | None = None
        self.slack, self.max_oversize = SLACK, MAX_OVERSIZE
        self.allocated = self.peak_allocated = self.peak_held = self.waiting_bytes = self.made = self.returns = 0

    def allocate(self, size: int) -> Allocation:
        """Return a block for so many bytes."""
        capacity = round_up(size_class(size) + PAGE, PAGE)
        with self.lock:
            self._take_back()
            block = self._waiting_block(capacity)
            self.allocated += capacity if block is None else block.raw.size
            self.peak_allocated = max(self.peak_allocated, self.allocated)
            if block is None:
                self._trim()
                block = self._make(capacity)
            self.peak_held = max(self.peak_held, self.allocated + self.waiting_bytes)
        return Allocation(block, size, self.returned)

    def _waiting_block(self, capacity: int) -> Block | None:
        """Return the smallest block that waits and is large enough, but not far too large.

        In a chain of ever smaller images, two blocks then serve all of it; each size with blocks of its own would hold
        several times what is ever in use, so that some would be freed and made again in every step.
        """
        size = capacity
        if not self.waiting.get(capacity):
            most = self.max_oversize * capacity
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
            self.allocated -= capacity
            self.waiting_bytes += capacity
            self.returns += 1
            self.waiting.setdefault(capacity, []).append((self.returns, block))

    def _trim(self) -> None:
        """Free the blocks that were returned longest ago, until what is held keeps to the limit."""
        limit = self.slack * self.peak_allocated if self.limit is None else self.limit
        while self.waiting_bytes and self.allocated + self.waiting_bytes > limit:
            _, capacity = min((blocks[0][0], capacity) for capacity, blocks in self.waiting.items() if blocks)
            del self.waiting[capacity][0]
            self.waiting_bytes -= capacity

    def limit_to(self, limit: int | None) -> None:
        """Set the limit, and keep to it from now on."""
        with self.lock:
            self.limit, self.max_oversize = limit, MAX_OVERSIZE if limit is None else 1
            self._take_back()
            self._trim()

    def free(self) -> None:
        """Give the waiting blocks back to the system, and forget how much was allocated before."""
        with self.lock:
            self._take_back()
            self.waiting.clear()
            self.waiting_bytes, self.peak_allocated, self.peak_held = 0, self.allocated, self.allocated

    def _make(self, capacity: int) -> Block:
        raw = pages(capacity)
        lines = PAGE // ALIGNMENT
        self.made += 1
        place = self.made * 13 % lines * ALIGNMENT  # 13: neighbours in time lie far apart, all places are used
        return Block(raw, raw.ctypes.data + place)


def size_class(size: int) -> int:
    """Round up to one of eight sizes between powers of two: nearly equal sizes share their blocks."""
    step = 1 << max(size.bit_length() - 4, 6)
    return round_up(size, step)
