"""The product that dense layers and wide convolutions are made of: a few rows times a packed panel of weights.

Symbols: a chunk is 16 features; rows come as (chunks, rows, 16), a panel as (depth, 16 VECTORS or 16).
"""

from .emit import INT, LANES, ROWS, VECTORS, emit, multiply_add

__all__ = ["fetch_rows", "multiply_rows"]


def product_of_rows(vectors):
    """y[r, 0 : 16 vectors] += sum over the depth of x[r] * w, for ROWS rows r."""

    def body(v, x, x_chunk, w, y, y_row, chunks):
        cells = [v.at(y, v.times(n // vectors, y_row), LANES * (n % vectors)) for n in range(ROWS * vectors)]

        def along_chunks(c, sums):
            scalars, panel = v.at(x, v.b.mul(c, x_chunk)), v.at(w, v.times(LANES * LANES * vectors, c))

            def along_features(i, sums):
                for s in range(4):
                    step = v.at(panel, v.times(4 * LANES * vectors, i), LANES * vectors * s)
                    row = [v.load(v.at(step, LANES * n)) for n in range(vectors)]
                    column = [v.at(scalars, v.times(4, i), LANES * r + s) for r in range(ROWS)]
                    sums = multiply_add(v, column, row, sums)
                return sums

            return v.loop(INT(LANES // 4), sums, along_features)

        sums = v.loop(chunks, [v.vector(0)] * len(cells), along_chunks)
        for cell, value in zip(cells, sums, strict=True):  # added last: less rounding than first
            v.store(v.add(v.load(cell), value), cell)

    return body


# First argument: 1 where panels are VECTORS chunks wide, else 0.
multiply_rows = emit(product_of_rows(1), product_of_rows(VECTORS))


@emit
def fetch_rows(v, address, row, rows, lines):
    """Ask for so many cache lines at the beginning of each of several rows, whose length is `row`."""

    def along_row(r, carried):
        v.loop(lines, [], lambda i, _: v.prefetch(v.at(address, v.b.mul(r, row), v.times(LANES, i)), False) or [])
        return carried

    v.loop(rows, [], along_row)
