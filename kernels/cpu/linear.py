"""Dense layers: products of a matrix of a few rows, a batch, with one of many weights. float32.

At batch sizes of tens, a weight takes part in a few dozen multiplications only, so the weights' way through the caches
decides. Each is read once, a *tile* at a time, and packed to lie as the register tiles read it, transposed if it is the
input gradient that is asked for; the next tile is fetched meanwhile. The weight gradient is written once, past the
caches. BLAS does the small products only, those that it does on one thread: its threads, once done, go on spinning for
tens of milliseconds, and take the cores from those of the next kernel.

Error against float64, relative, for normal data: 5e-7.

Symbols
-------
N, C, K    rows of the batch, features of the input x, features of the output y
T          N, rounded up to a multiple of ROWS
tile       DEPTH input features times WIDTH outputs
panel      16 VECTORS (or 16) outputs; a packed tile is (panels, depth, panel), results are (panels, T, panel): rows
           as far apart as those of the weights would all share the same few sets of the caches
"""

import numpy as np

from .emit import LANES, ROWS, VECTORS, emit, kernel, multiply_add, numbers
from .matrix import fetch_rows, multiply_rows
from .memory import address, aligned_empty, whole
from .parallel import threads_for
from .weights import copy_vectors

__all__ = ["linear", "linear_input_grad", "linear_weight_grad"]

FLOAT = 4  # bytes
DEPTH, WIDTH = 32, 128  # of a tile: 16 KiB, so that it stays in the L1 cache beside the rows of the batch
SMALL = 1 << 18  # multiplications: fewer are BLAS's, which needs no rearrangement, and takes one thread


def outer_product(vectors):
    """dw[r, 0 : 16 vectors] = sum over the batch of x[r] * dy, for ROWS neighbouring input features r."""

    def body(v, x, x_row, dy, dy_row, dw, dw_row, count):
        def step(n, sums):
            row = [v.load(v.at(dy, v.b.mul(n, dy_row), LANES * i)) for i in range(vectors)]
            return multiply_add(v, [v.at(x, v.b.mul(n, x_row), r) for r in range(ROWS)], row, sums)

        for n, value in enumerate(v.loop(count, [v.vector(0)] * (ROWS * vectors), step)):
            v.stream(value, v.at(dw, v.times(n // vectors, dw_row), LANES * (n % vectors)))

    return body


# First argument: 1 where the outputs are a multiple of VECTORS chunks, else 0.
multiply_outer = emit(outer_product(1), outer_product(VECTORS))


@emit
def transpose_block(v, src, src_row, dst, dst_row):
    """``dst (16, 16) = transpose of src (16, 16)``."""
    for n, row in enumerate(v.transpose([v.load(v.at(src, v.times(c, src_row))) for c in range(LANES)])):
        v.store(row, v.at(dst, v.times(n, dst_row)))


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
            width = min(WIDTH, last - k)
            for n in range(0, width, LANES):
                there = tile + FLOAT * (n // panel * panel * depth + n % panel)
                copy_vectors(w + FLOAT * (c * K + k + n), K, there, panel, depth)
            # The next tile: to the right, or the first one below.
            if k + WIDTH < last:
                fetch_rows(w + FLOAT * (c * K + k + WIDTH), K, depth, WIDTH // LANES)
            else:
                fetch_rows(w + FLOAT * ((c + DEPTH) * K + first), K, depth, WIDTH // LANES)
            for n in range(0, width, panel):
                for m in range(0, T, ROWS):
                    multiply_rows(
                        wide, x + FLOAT * (c * T + m * LANES), T * LANES, tile + FLOAT * n * depth,
                        y + FLOAT * ((k + n) * T + m * panel), panel, depth // LANES,
                    )  # fmt: skip


@kernel
def multiply_transposed(t, threads, arguments):
    """``dx += dy @ w^T``, w (C, K); dy in chunks, (K / 16, T, 16), dx in panels, (C / panel, T, panel)."""
    T, C, K, wide, dy, w, dx, scratch = numbers(arguments, 8)
    panel = LANES * VECTORS if wide else LANES
    tile = scratch + FLOAT * t * DEPTH * WIDTH
    for c in range(t * (C // panel) // threads * panel, (t + 1) * (C // panel) // threads * panel, panel):
        for k in range(0, K, WIDTH):
            depth = min(WIDTH, K - k)
            for i in range(0, panel, LANES):
                for j in range(0, depth, LANES):
                    transpose_block(w + FLOAT * ((c + i) * K + k + j), K, tile + FLOAT * (j * panel + i), panel)
            if k + WIDTH < K:
                fetch_rows(w + FLOAT * (c * K + k + WIDTH), K, panel, WIDTH // LANES)
            else:
                fetch_rows(w + FLOAT * (c + panel) * K, K, panel, WIDTH // LANES)
            for m in range(0, T, ROWS):
                multiply_rows(
                    wide, dy + FLOAT * (k * T + m * LANES), T * LANES, tile, dx + FLOAT * (c * T + m * panel),
                    panel, depth // LANES,
                )  # fmt: skip


@kernel
def multiply_for_weights(t, threads, arguments):
    """``dw (C, K) = x^T @ dy``, x (N, C), dy (N, K)."""
    N, C, K, wide, x, dy, dw = numbers(arguments, 7)
    panel = LANES * VECTORS if wide else LANES
    for c in range(t * (C // ROWS) // threads * ROWS, (t + 1) * (C // ROWS) // threads * ROWS, ROWS):
        for k in range(0, K, panel):
            multiply_outer(wide, x + FLOAT * c, C, dy + FLOAT * k, K, dw + FLOAT * (c * K + k), K, N)
    finish_streams(dw)


def linear(x, weight, bias):
    """``y (N, K) = x (N, C) @ weight (C, K) + bias (K,)``."""
    if not fast(x, weight, *weight.shape):
        return x @ weight + bias
    K = weight.shape[1]
    weight = columns(weight)
    y = aligned_empty((len(x), K))
    return np.add(run(multiply, x, weight, weight.shape[1])[:, :K], bias, out=y)


def linear_input_grad(dy, weight):
    """``dx (N, C) = dy (N, K) @ weight^T``."""
    if not fast(dy, weight, *weight.shape):
        return dy @ weight.T
    return run(multiply_transposed, columns(dy), columns(weight), len(weight))


def linear_weight_grad(x, dy):
    """``dw (C, K) = x (N, C)^T @ dy (N, K)``."""
    if not fast(x, dy, x.shape[1], dy.shape[1]):
        return x.T @ dy
    x, K = np.ascontiguousarray(x), dy.shape[1]
    dy = columns(dy)
    (N, C), padded = x.shape, dy.shape[1]
    dw = aligned_empty((C, padded))
    multiply_for_weights(
        N, C, padded, int(padded % (LANES * VECTORS) == 0), address(x), address(dy), address(dw),
        threads=threads_for(N * dw.size // LANES),
    )  # fmt: skip
    return np.ascontiguousarray(dw[:, :K])


def fast(rows, other, C, K):
    """Whether the kernels multiply a batch with an array of this type, weights being (C, K)."""
    return rows.dtype == other.dtype == np.float32 and C % LANES == 0 and len(rows) * C * K >= SMALL


def columns(array):
    """Return an array (n, K), contiguous and with zeros for as many more columns as make them a multiple of 16."""
    missing = -array.shape[1] % LANES
    return np.ascontiguousarray(np.pad(array, ((0, 0), (0, missing))) if missing else array)


def run(function, rows, weight, outputs):
    """Multiply a batch, laid out in chunks, by weights (C, K): returns the (N, outputs) that the function computes."""
    (N, depth), T, threads = rows.shape, whole(len(rows), ROWS), threads_for(len(rows) * weight.size // LANES)
    panel = LANES * VECTORS if outputs % (LANES * VECTORS) == 0 else LANES
    chunks, panels = aligned_empty((depth // LANES, T, LANES)), aligned_empty((outputs // panel, T, panel))
    chunks[:, :N] = rows.reshape(N, -1, LANES).transpose(1, 0, 2)
    chunks[:, N:], panels[...] = 0, 0
    scratch = aligned_empty((threads, DEPTH * WIDTH))
    function(
        T, *weight.shape, int(panel > LANES), address(chunks), address(weight), address(panels), address(scratch),
        threads=threads,
    )  # fmt: skip
    out = aligned_empty((N, outputs))
    out.reshape(N, -1, panel)[...] = panels[:, :N].transpose(1, 0, 2)
    return out
