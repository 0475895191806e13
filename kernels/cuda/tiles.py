"""How the matrix product behind a convolution is cut into tiles, and its reduction into parts."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

__all__ = ["BK", "FILL", "FILL_REDUCTION", "Plan", "Tile", "plan"]

# Threads that a launch should have at least, so that every multiprocessor of a large card gets some. Constants, so that
# the order of the sums, and with it the result, does not depend on the card.
FILL = 128 * 128
FILL_REDUCTION = 4 * FILL  # where the result is small and the reduction long: a weight gradient
LEAST_REDUCTION = 64  # steps in a part: below, adding the parts costs more than they save


class Tile(NamedTuple):
    """Rows and columns of the result that a block computes, and a thread."""

    bm: int
    bn: int
    tm: int
    tn: int

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.bm // self.tm * (self.bn // self.tn)


class Plan(NamedTuple):
    """A tile, the parts of the reduction, and the steps in each."""

    tile: Tile
    parts: int
    steps: int
    grid: tuple[int, int, int]


BK = 16
# By width, in descending order of height: the tallest one that still fills the card is taken.
TILES = {
    16: (Tile(256, 16, 8, 4), Tile(128, 16, 4, 4), Tile(64, 16, 4, 4)),
    32: (Tile(128, 32, 8, 4), Tile(64, 32, 4, 4)),
    64: (Tile(128, 64, 8, 8), Tile(64, 64, 8, 4)),
}
# Twice the bytes a value: smaller tiles, so that shared memory and registers still hold them.
DOUBLE_TILES = {16: (Tile(64, 16, 4, 4),), 32: (Tile(64, 32, 4, 4),), 64: (Tile(64, 64, 4, 4),)}


def plan(
    m: int, n: int, reduction: int, dtype: np.dtype, *, groups: int = 1, wide: bool = True, threads: int = FILL
) -> Plan:
    """Choose how to compute an (m, n) result from ``reduction`` steps.

    Parameters
    ----------
    groups : int
        Number of such results, rows of which do not share a tile.
    wide : bool
        Whether there are registers for the tallest tile.
    threads : int
        Threads that the launch should have at least; the reduction is split into parts for that.
    """
    tiles = TILES if dtype == np.float32 else DOUBLE_TILES
    candidates = tiles[next((width for width in tiles if n <= width), max(tiles))]

    def launched(tile: Tile) -> int:
        return groups * math.ceil(m / tile.bm) * math.ceil(n / tile.bn) * tile.threads

    if not wide:
        candidates = candidates[1:] or candidates
    tile = next((tile for tile in candidates if launched(tile) >= FILL), candidates[-1])
    parts = max(1, min(threads // launched(tile), reduction // LEAST_REDUCTION))
    steps = math.ceil(reduction / parts / BK) * BK
    grid = (groups * math.ceil(m / tile.bm), math.ceil(n / tile.bn), math.ceil(reduction / steps))
    return Plan(tile, grid[2], steps, grid)
