"""The product that dense layers and wide convolutions are made of: a few rows times a packed panel of weights.

Symbols: a chunk is 16 features; rows come as (chunks, rows, 16), a panel as (depth, 16 VECTORS or 16).
"""

from functools import lru_cache

import numpy as np

from .emit import INT, LANES, ROWS, VECTORS, emit, multiply_add

__all__ = ["fetch_schedule", "multiply_rows"]

FLOAT = 4  # bytes


def product_of_rows(vectors):
    """y[r, 0 : 16 vectors] += sum over the depth of x[r] * w, for ROWS rows r.

    With each chunk, a few cache lines at `coming` are brought into the L2 cache, by their offsets in a schedule. There
    is room for a few such requests only, and all others wait: bursts would hold up the product.
    """

    def body(v, x, x_chunk, w, y, y_row, chunks, coming, schedule, lines):
        cells = [v.at(y, v.times(n // vectors, y_row), LANES * (n % vectors)) for n in range(ROWS * vectors)]
        offsets = v.b.bitcast(v.at(schedule), INT.as_pointer())

        def along_chunks(c, sums):
            scalars, panel = v.at(x, v.b.mul(c, x_chunk)), v.at(w, v.times(LANES * LANES * vectors, c))

            def fetch(i, carried):
                offset = v.b.load(v.b.gep(offsets, [v.b.add(v.b.mul(lines, c), i)]))
                v.prefetch(v.pointer(v.b.add(coming, offset)))
                return carried

            def along_features(i, sums):
                for s in range(4):
                    step = v.at(panel, v.times(4 * LANES * vectors, i), LANES * vectors * s)
                    row = [v.load(v.at(step, LANES * n)) for n in range(vectors)]
                    column = [v.at(scalars, v.times(4, i), LANES * r + s) for r in range(ROWS)]
                    sums = multiply_add(v, column, row, sums)
                return sums

            v.loop(lines, [], fetch)
            return v.loop(INT(LANES // 4), sums, along_features)

        sums = v.loop(chunks, [v.vector(0)] * len(cells), along_chunks)
        for cell, value in zip(cells, sums, strict=True):  # added last: less rounding than first
            v.store(v.add(v.load(cell), value), cell)

    return body


# First argument: 1 where panels are VECTORS chunks wide, else 0.
multiply_rows = emit(product_of_rows(1), product_of_rows(VECTORS))


@lru_cache(256)
def fetch_schedule(blocks, block, rows, row, columns, steps):
    """Offsets (steps, lines) in bytes: the cache lines that each step of a product asks for, for the next ones.

    They are those of a few blocks of rows of so many columns; blocks and rows are so many floats apart.
    """
    columns //= LANES
    total = blocks * rows * columns
    lines = -(-total // steps)
    wanted = np.minimum((np.arange(steps) * total // steps)[:, None] + np.arange(lines), total - 1)
    wanted[1:][wanted[1:] <= wanted[:-1]] = 0  # asked for before: the first line is there, and costs nothing
    n, r, column = np.unravel_index(wanted, (blocks, rows, columns))
    return FLOAT * (n * block + r * row + column * LANES)
