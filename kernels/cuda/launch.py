"""How many threads a launch gets, and how wide they read."""

from __future__ import annotations

import math

import cupy as cp

__all__ = ["PARTS", "contiguous", "elements", "finish_grid", "rows_grid", "vector_width"]

THREADS = 256
MAX_BLOCKS = 2048  # of a flat launch; its threads loop over what is left
# Partial sums of a reduction over many rows. A constant, so that a result does not depend on the card.
PARTS = 512
FINISH_LANES = 4  # columns of partial sums in a block: few, so that many threads share the parts of each


def contiguous(*arrays):
    """Return C-contiguous arrays, copied where they are not yet; None stays None."""
    return [None if array is None else cp.ascontiguousarray(array) for array in arrays]


def vector_width(length: int, *arrays) -> int:
    """4 if rows of ``length`` values can be read in packs of four in all ``arrays`` (None is skipped), else 1."""
    aligned = all(array is None or array.data.ptr % (4 * array.itemsize) == 0 for array in arrays)
    return 4 if length % 4 == 0 and aligned else 1


def elements(count: int) -> tuple[tuple[int], tuple[int]]:
    """Grid and block of a flat kernel over ``count`` elements."""
    return (max(1, min(math.ceil(count / THREADS), MAX_BLOCKS)),), (THREADS,)


def rows_grid(rows: int, channels: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Grid and block (lanes, rows) of a kernel over the rows of a matrix, its ``channels`` read ``width`` at a time."""
    packs = math.ceil(channels / width)
    x = min(32, 1 << (packs - 1).bit_length())
    block = x, THREADS // x
    parts = max(1, min(math.ceil(rows / (2 * block[1])), PARTS))
    return (math.ceil(packs / x), parts), block


def finish_grid(columns: int) -> tuple[tuple[int], tuple[int, int]]:
    """Grid and block (lanes, parts) of a kernel that adds up partial sums (parts, columns)."""
    return (math.ceil(columns / FINISH_LANES),), (FINISH_LANES, THREADS // FINISH_LANES)
