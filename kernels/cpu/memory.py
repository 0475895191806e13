"""Aligned arrays whose memory is recycled.

`aligned_empty` allocates a block of a pool: when the last array that views it is gone, the block waits for the next
array of its size.

Vectors that straddle cache lines cost up to half of a kernel's speed, so every array starts at a multiple of 64 bytes.
And a load whose address equals a recent store's in the last 12 bits waits for it, so arrays start at different places
of a page: otherwise those of a training step, whose sizes are powers of two, would all collide.
"""

import math
import threading
from functools import lru_cache
from itertools import accumulate
from typing import Any

import numpy as np

from .blocks import ALIGNMENT, Pool, round_up
from .calls import issue, keep, own_pool

SMALL = 16 * 1024  # bytes: below it the C library recycles well enough


def aligned_empty(shape: int | tuple[int, ...], dtype: Any = np.float32, pool: Pool | None = None) -> np.ndarray:
    """Return an uninitialised C-contiguous array at a multiple of 64 bytes; its memory is recycled when it dies.

    It comes from `pool`; without one from that of the calls that are being recorded, or else the common one.
    """
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if size < SMALL:
        raw = np.empty(size + ALIGNMENT, np.uint8)
        start = -raw.ctypes.data % ALIGNMENT
        return raw[start : start + size].view(dtype).reshape(shape)
    return np.ndarray(shape, dtype, np.asarray((pool or own_pool() or POOL).allocate(size)))


def aligned_zeros(shape: int | tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """Return `aligned_empty`, filled with zeros."""
    array = aligned_empty(shape, dtype)
    issue(np.copyto, array, 0)
    return array


def contiguous(array: np.ndarray) -> np.ndarray:
    """Return the array itself if it is C-contiguous, or else a copy in recycled memory."""
    if array.flags.c_contiguous:
        return array
    copy = aligned_empty(array.shape, array.dtype)
    issue(np.copyto, copy, array)
    return copy


def address(array: np.ndarray | None) -> int:
    """Where an array's first element lies, 0 for None. The caller keeps the array alive.

    Raises `TypeError` for float64: behind an address lie float32 numbers, or integers.
    """
    if array is None:
        return 0
    if array.dtype == np.float64:
        raise TypeError(f"an operand, {array.shape}, is float64, another one float32: convert one of them with astype")
    return address_of_any(array)


def address_of_any(array: np.ndarray) -> int:
    """`address`, of numbers of any type."""
    keep(array)
    place, _ = array.__array_interface__["data"]  # half of the time that array.ctypes.data takes
    return place


def single(*arrays: np.ndarray) -> bool:
    """Whether all are float32, which is what the kernels compute with."""
    return all(array.dtype == np.float32 for array in arrays)


class Workspace(threading.local):
    """A kernel's scratch memory: one buffer for each Python thread, which every kernel uses anew.

    Recorded calls keep the buffer that was there when they were recorded.
    """

    def __init__(self) -> None:
        self.free()

    def free(self) -> None:
        """Return the buffer; the next call of a kernel makes a new one."""
        self.array = aligned_empty(0)
        self.address = 0

    def carve(self, *sizes: int) -> list[int]:
        """Aligned addresses of uninitialised buffers of so many floats, valid until the next call on this thread."""
        starts = [0, *accumulate(round_up(size, ALIGNMENT // 4) for size in sizes)]
        if starts[-1] > self.array.size:
            self.free()  # first, so that there are never two
            self.array = aligned_empty(starts[-1], pool=POOL)
            self.address = address(self.array)
        keep(self.array)
        return [self.address + 4 * start for start in starts[:-1]]

    def doubles(self, place: int, *shape: int) -> np.ndarray:
        """Look at a buffer, at an address that was carved, as an array of float64."""
        start = (place - self.address) // 4
        return self.array[start : start + 2 * math.prod(shape)].view(np.float64).reshape(shape)


@lru_cache(16)
def zero_row(size: int) -> int:
    """Address of at least so many float32 zeros, which nobody may change."""
    array = aligned_empty(size, pool=POOL)
    array[...] = 0
    ZEROS.append(array)
    return address(array)


POOL = Pool()
WORKSPACE, SECOND_WORKSPACE = Workspace(), Workspace()
ZEROS: list[np.ndarray] = []  # what keeps the rows of zeros alive
