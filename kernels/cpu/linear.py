"""Dense layers: products of a matrix of a few rows, a batch, with one of many weights. float32.

At batch sizes of tens, a weight takes part in a few dozen multiplications only, so the weights' way through the caches
decides. Each is read once, along its row, as memory gives them fastest. Forward, a *tile* at a time is packed to lie as
the register tiles read it, while the next one is fetched. Backward, weights are multiplied as they lie in their rows.
The weight gradient is written once, past the caches, or never: see `optimise`. BLAS does the small products only, those
that it does on one thread: its threads, once done, go on spinning for tens of milliseconds, and take the cores from
those of the next kernel.

Error against float64, relative, for normal data: 5e-7.

Symbols
-------
N, C, K    rows of the batch, features of the input x, features of the output y
T          N, rounded up to a multiple of ROWS; of VECTORS in the input gradient
tile       DEPTH input features times WIDTH outputs
panel      16 VECTORS (or 16) outputs; a packed tile is (panels, depth, panel), results are (panels, T, panel): rows
           as far apart as those of the weights would all share the same few sets of the caches
"""

import numpy as np

from ..operands import OuterProduct
from .emit import LANES, ROWS, VECTORS, VectorBuilder, clear, emit, kernel, multiply_add, numbers
from .matrix import fetch_rows, multiply_rows
from .memory import address, aligned_empty, aligned_zeros, contiguous, whole
from .parallel import threads_for
from .tape import call_by_call, issue, unrepeatable

__all__ = ["factored_weight_grad", "linear", "linear_input_grad", "linear_weight_grad"]

FLOAT = 4  # bytes
DEPTH, WIDTH = 32, 128  # of a tile: 16 KiB, so that it stays in the L1 cache beside the rows of the batch
STRETCH = 512  # of a row of weights, backward: ROWS of them are 16 KiB
SMALL = 1 << 18  # multiplications: fewer are BLAS's, which needs no rearrangement, and takes one thread


def pack_row(vectors):
    """Copy a row, a panel of 16 vectors after the other, to places that are `apart` floats apart."""

    def body(v, row, panels, there, apart):
        def step(i, carried):
            for n in range(vectors):
                source = v.at(row, v.times(LANES * vectors, i), LANES * n)
                v.store(v.load(source), v.at(there, v.b.mul(i, apart), LANES * n))
            return carried

        v.loop(panels, [], step)

    return body


# First argument, here and below: 1 where the outputs are a multiple of VECTORS chunks, else 0.
row_to_panels = emit(pack_row(1), pack_row(VECTORS))


@emit
def multiply_along_rows(v, w, w_row, dy, dy_row, sums, chunks):
    """``sums[n, c] += w[c] * dy[n]``, lane by lane along rows: of ROWS rows c, VECTORS rows n; sums is (n, 16, 16)."""
    cells = [v.at(sums, LANES * (LANES * n + c)) for c in range(ROWS) for n in range(VECTORS)]

    def step(i, carried):
        weights = [v.load(v.at(w, v.times(c, w_row), v.times(LANES, i))) for c in range(ROWS)]
        gradients = [v.load(v.at(dy, v.times(n, dy_row), v.times(LANES, i))) for n in range(VECTORS)]
        pairs = [(a, b) for a in weights for b in gradients]
        return [v.fma(a, b, value) for (a, b), value in zip(pairs, carried, strict=True)]

    for cell, value in zip(cells, v.loop(chunks, [v.load(cell) for cell in cells], step), strict=True):
        v.store(value, cell)


@emit
def add_lanes(v, sums, out):
    """``out (16,) = the sums of the rows of sums (16, 16)``."""
    v.store(v.total(v.transpose([v.load(v.at(sums, LANES * c)) for c in range(LANES)])), v.at(out))


def outer_product(vectors, put):
    """dw[r, 0 : 16 vectors] = sum over the batch of x[r] * dy, for ROWS neighbouring input features r."""

    def body(v, x, dy, count, dw, dw_row):
        def step(n, sums):
            row = [v.load(v.at(dy, v.times(LANES * vectors, n), LANES * i)) for i in range(vectors)]
            return multiply_add(v, [v.at(x, v.times(ROWS, n), r) for r in range(ROWS)], row, sums)

        for n, value in enumerate(v.loop(count, [v.vector(0)] * (ROWS * vectors), step)):
            put(v, value, v.at(dw, v.times(n // vectors, dw_row), LANES * (n % vectors)))

    return body


# What is streamed goes to memory, what is stored is read again at once.
stream_outer = emit(outer_product(1, VectorBuilder.stream), outer_product(VECTORS, VectorBuilder.stream))
store_outer = emit(outer_product(1, VectorBuilder.store), outer_product(VECTORS, VectorBuilder.store))


@emit
def finish_streams(v, address):
    """What was stored past the caches is in memory before anything that follows."""
    v.b.fence("seq_cst")


@kernel
def multiply(t, threads, arguments):
    """``y += x @ w (C, K)``; x in chunks, (C / 16, T, 16), y in panels, (K / panel, T, panel)."""
    T, C, K, wide, x, w, y, scratch = numbers(arguments, 8)
    panel = LANES * VECTORS if wide else LANES
    tile = scratch + FLOAT * t * DEPTH * WIDTH
    first, last = t * (K // panel) // threads * panel, (t + 1) * (K // panel) // threads * panel
    for c in range(0, C, DEPTH):
        depth = min(DEPTH, C - c)
        for k in range(first, last, WIDTH):
            panels = min(WIDTH, last - k) // panel
            for i in range(depth):
                row_to_panels(
                    wide, w + FLOAT * ((c + i) * K + k), panels, tile + FLOAT * i * panel, depth * panel
                )  # fmt: skip
            # The next tile, to the right or the first one below, comes a few rows with each product: the cache has room
            # for a few requests only, and makes all others wait.
            coming = w + FLOAT * (c * K + k + WIDTH if k + WIDTH < last else (c + DEPTH) * K + first)
            products, fetched = panels * (T // ROWS), 0
            for i in range(products):
                n, m = i // (T // ROWS) * panel, i % (T // ROWS) * ROWS
                due = DEPTH * (i + 1) // products
                if due > fetched:
                    fetch_rows(coming + FLOAT * fetched * K, K, due - fetched, WIDTH // LANES)
                    fetched = due
                multiply_rows(
                    wide, x + FLOAT * (c * T + m * LANES), T * LANES, tile + FLOAT * n * depth,
                    y + FLOAT * ((k + n) * T + m * panel), panel, depth // LANES,
                )  # fmt: skip


@kernel
def multiply_transposed(t, threads, arguments):
    """``dx (N, C) = dy @ w^T``, dy (T, K), w (C, K); 16 input features at a time, whose sums are (T, 16, 16)."""
    N, T, C, K, dy, w, dx, scratch = numbers(arguments, 8)
    sums = scratch + FLOAT * t * T * LANES * LANES
    for c in range(t * (C // LANES) // threads * LANES, (t + 1) * (C // LANES) // threads * LANES, LANES):
        clear(sums, T * LANES * LANES)
        for k in range(0, K, STRETCH):
            for r in range(0, LANES, ROWS):
                for n in range(0, T, VECTORS):
                    multiply_along_rows(
                        w + FLOAT * ((c + r) * K + k), K, dy + FLOAT * (n * K + k), K,
                        sums + FLOAT * (n * LANES + r) * LANES, min(STRETCH, K - k) // LANES,
                    )  # fmt: skip
        for n in range(N):
            add_lanes(sums + FLOAT * n * LANES * LANES, dx + FLOAT * (n * C + c))


@kernel
def multiply_for_weights(t, threads, arguments):
    """``dw (C, K) = x^T @ dy``; both packed, x (C / ROWS, N, ROWS), dy (K / panel, N, panel)."""
    N, C, K, wide, x, dy, dw = numbers(arguments, 7)
    panel = LANES * VECTORS if wide else LANES
    for c in range(t * (C // ROWS) // threads * ROWS, (t + 1) * (C // ROWS) // threads * ROWS, ROWS):
        for k in range(0, K, panel):
            stream_outer(wide, x + FLOAT * c * N, dy + FLOAT * k * N, N, dw + FLOAT * (c * K + k), K)
    finish_streams(dw)


@call_by_call
def linear(x, weight, bias):
    """``y (N, K) = x (N, C) @ weight (C, K) + bias (K,)``."""
    if not fast(x, weight, *weight.shape):
        unrepeatable()
        return x @ weight + bias
    weight = columns(weight)
    (N, depth), K = x.shape, weight.shape[1]
    T, threads, panel = whole(N, ROWS), threads_for(N * weight.size // LANES), panel_of(K)
    chunks, panels = aligned_empty((depth // LANES, T, LANES)), aligned_empty((K // panel, T, panel))
    issue(np.copyto, chunks[:, :N], x.reshape(N, -1, LANES).transpose(1, 0, 2))
    issue(np.copyto, chunks[:, N:], 0)
    issue(np.copyto, panels, 0)
    scratch = aligned_empty((threads, DEPTH * WIDTH))
    multiply(
        T, *weight.shape, int(panel > LANES), address(chunks), address(weight), address(panels), address(scratch),
        threads=threads,
    )  # fmt: skip
    y = aligned_empty((N, K))
    rows, biases = panels[:, :N].transpose(1, 0, 2), columns(bias[None]).reshape(-1, panel)
    issue(np.add, rows, biases, y.reshape(N, -1, panel))
    return contiguous(y[:, : len(bias)])


@call_by_call
def linear_input_grad(dy, weight):
    """``dx (N, C) = dy (N, K) @ weight^T``."""
    if not fast(dy, weight, *weight.shape):
        unrepeatable()
        return dy @ weight.T
    N, T, threads = len(dy), whole(len(dy), VECTORS), threads_for(len(dy) * weight.size // LANES)
    dy, weight = columns(dy, T), columns(weight)
    dx, scratch = aligned_empty((N, len(weight))), aligned_empty((threads, T * LANES * LANES))
    multiply_transposed(
        N, T, *weight.shape, address(dy), address(weight), address(dx), address(scratch), threads=threads
    )
    return dx


@call_by_call
def linear_weight_grad(x, dy):
    """``dw (C, K) = x (N, C)^T @ dy (N, K)``."""
    if not fast(x, dy, x.shape[1], dy.shape[1]):
        unrepeatable()
        return x.T @ dy
    (N, C), K = x.shape, dy.shape[1]
    x, dy, wide = packed_factors(x, columns(dy))
    dw = aligned_empty((C, whole(K, LANES)))
    multiply_for_weights(
        N, *dw.shape, wide, address(x), address(dy), address(dw), threads=threads_for(N * dw.size // LANES)
    )
    return contiguous(dw[:, :K])


def factored_weight_grad(x, dy):
    """``dw (C, K) = x (N, C)^T @ dy (N, K)``, as its factors where the optimizer computes it on the way."""
    return OuterProduct(x, dy) if computed_on_the_way(x, dy) else linear_weight_grad(x, dy)


def computed_on_the_way(x, dy):
    """Whether an optimizer computes the gradient x^T @ dy a few rows at a time, so that it is never stored.

    That is never slower: the product is computed once either way. But x and dy live on until the step, so they have to
    be smaller than the gradient. And no more outputs are computed than there are.
    """
    (N, C), K = x.shape, dy.shape[1]
    return fast(x, dy, C, K) and K % LANES == 0 and N * (C + K) < C * K


def packed_factors(x, dy):
    """Lay out x and dy, of whole chunks, as `outer_product` reads them; and say which one, by its first argument."""
    panel = panel_of(dy.shape[1])
    return packed(x, ROWS), packed(dy, panel), int(panel > LANES)


def packed(rows, width):
    """Rows (N, features) as (features / width, N, width)."""
    panels = aligned_empty((rows.shape[1] // width, len(rows), width))
    issue(np.copyto, panels, rows.reshape(len(rows), -1, width).transpose(1, 0, 2))
    return panels


def panel_of(outputs):
    """How many outputs a panel holds, if there are so many, a multiple of 16."""
    return LANES * VECTORS if outputs % (LANES * VECTORS) == 0 else LANES


def fast(rows, other, C, K):
    """Whether the kernels multiply a batch with an array of this type, weights being (C, K)."""
    return rows.dtype == other.dtype == np.float32 and C % LANES == 0 and len(rows) * C * K >= SMALL


def columns(array, rows=0):
    """Return an array (n, K), contiguous, with zeros for as many more columns as make them a multiple of 16.

    And for as many more rows as make them ``rows``, if there are fewer.
    """
    shape = max(rows, len(array)), whole(array.shape[1], LANES)
    if shape == array.shape:
        return contiguous(array)
    padded = aligned_zeros(shape, array.dtype)
    issue(np.copyto, padded[: len(array), : array.shape[1]], array)
    return padded
