"""Dense layers: products of a matrix of a few rows, a batch, with one of many weights. float32.

At batch sizes of tens, a weight takes part in a few dozen multiplications only, so the weights' way through the caches
decides. Each is read once: a *tile* at a time is packed to lie as the register tiles read it, transposed for the input
gradient, while the next one is fetched. Whatever is used more often, rows of the batch and sums, stays in the L2 cache.
The weight gradient is written once, past the caches, or never: see `optimise`. BLAS does the small products only, those
that it does on one thread: its threads, once done, go on spinning for tens of milliseconds, and take the cores from
those of the next kernel. Many rows, the patches of a convolution by im2col, are a convolution of images of one pixel:
there weights are few, and used often.

Error against float64, relative, for normal data: 5e-7.

Symbols
-------
N, C, K    rows of the batch, features of the input x, features of the output y
D, M       the features that a product sums over, and those of its result: C and K, or for the input gradient K and C
T          N, rounded up to a multiple of ROWS
tile       16 rows of weights, or for the input gradient a panel of them; LENGTH floats of each
panel      16 VECTORS (or 16) outputs; a packed tile is (panels, depth, panel), sums are (panels, T, panel): rows as far
           apart as those of the weights would all share the same few sets of the caches
chunk      16 features; rows of a batch are packed as (chunks, T, 16)
"""

import numpy as np

from ..operands import OuterProduct
from .calls import issue, not_replayable, replayable
from .convolution import conv2d, conv2d_input_grad, conv2d_weight_grad
from .emit import INT, LANES, ROWS, VECTORS, VectorBuilder, clear, emit, kernel, multiply_add, numbers
from .matrix import fetch_schedule, multiply_rows
from .memory import WORKSPACE, address, aligned_empty, aligned_zeros, contiguous, round_up, zero_row
from .parallel import threads_for

__all__ = ["factored_weight_grad", "linear", "linear_input_grad", "linear_weight_grad"]

FLOAT, LONG = 4, 8  # bytes
LENGTH = 512  # 2 KiB: memory gives long pieces of rows faster than short ones, longer ones push others out of the cache
SUMS = 1 << 16  # floats of the sums of a block of outputs: 256 KiB, a quarter of an L2 cache
SMALL = 1 << 18  # multiplications: fewer are BLAS's, which needs no rearrangement, and takes one thread
MOST_ROWS = 1024  # more are convolved, as pixels


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


def unpack_row(vectors):
    """Collect a row from places that are `apart` floats apart, and add the bias."""

    def body(v, sums, apart, panels, bias, row):
        def step(i, carried):
            for n in range(vectors):
                here = v.times(LANES * vectors, i), LANES * n
                value = v.load(v.at(sums, v.b.mul(i, apart), LANES * n))
                v.store(v.add(value, v.load(v.at(bias, *here))), v.at(row, *here))
            return carried

        v.loop(panels, [], step)

    return body


# First argument, here and below: 1 where the outputs are a multiple of VECTORS chunks, else 0.
row_to_panels, panels_to_row = (emit(body(1), body(VECTORS)) for body in (pack_row, unpack_row))


@emit
def transpose_rows(v, rows, row, blocks, there, panel):
    """Transpose 16 rows, a block of 16 columns after the other, to (16 blocks, panel)."""

    def step(i, carried):
        block = [v.load(v.at(rows, v.times(n, row), v.times(LANES, i))) for n in range(LANES)]
        for n, value in enumerate(v.transpose(block)):
            v.store(value, v.at(there, v.b.mul(v.b.add(v.times(LANES, i), INT(n)), panel)))
        return carried

    v.loop(blocks, [], step)


def outer_product(vectors, put):
    """dw[r, 0 : 16 vectors] = sum over the batch of x[r] * dy, for ROWS neighbouring input features r."""

    def body(v, x, dy, count, dw, dw_row):
        def step(n, sums):
            row = [v.load(v.at(dy, v.times(LANES * vectors, n), LANES * i)) for i in range(vectors)]
            return multiply_add(v, [v.at(x, v.times(LANES, n), r) for r in range(ROWS)], row, sums)

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
    """``y (N, M) = x (N, D) @ w (D, M) + bias (M,)``, or transposed, w (M, D); x in chunks, (D / 16, T, 16).

    A block of outputs at a time. What comes next is fetched by a schedule: so many lines with each chunk of a product.
    """
    (
        N, T, D, M, transposed, wide, block, x, w, bias, y, scratch, share, schedule, lines,
    ) = numbers(arguments, 15)  # fmt: skip
    panel = LANES * VECTORS if wide else LANES
    tile_depth, width = (LENGTH, panel) if transposed else (LANES, LENGTH)
    tile = scratch + FLOAT * t * share
    sums = tile + FLOAT * panel * LENGTH
    first, last = t * (M // panel) // threads * panel, (t + 1) * (M // panel) // threads * panel
    for begin in range(first, last, block):
        end = min(begin + block, last)
        clear(sums, T * (end - begin))
        for d in range(0, D, tile_depth):
            depth = min(tile_depth, D - d)
            for m in range(begin, end, width):
                panels = min(width, end - m) // panel
                if transposed:
                    for n in range(0, panels * panel, LANES):
                        there = tile + FLOAT * (n // panel * panel * depth + n % panel)
                        transpose_rows(w + FLOAT * ((m + n) * D + d), D, depth // LANES, there, panel)
                else:
                    for i in range(depth):
                        here, there = w + FLOAT * ((d + i) * M + m), tile + FLOAT * i * panel
                        row_to_panels(wide, here, panels, there, depth * panel)
                # The next tile comes while this one is multiplied.
                next_m, next_d = (m + width, d) if m + width < end else (begin, d + tile_depth)
                if next_d >= D:
                    next_m, next_d = end, 0
                coming = w + FLOAT * (next_m * D + next_d if transposed else next_d * M + next_m)
                coming_lines = schedule
                for n in range(0, panels * panel, panel):
                    for r in range(0, T, ROWS):
                        multiply_rows(
                            wide, x + FLOAT * (d * T + r * LANES), T * LANES, tile + FLOAT * n * depth,
                            sums + FLOAT * ((m - begin + n) * T + r * panel), panel, depth // LANES,
                            coming, coming_lines, lines,
                        )  # fmt: skip
                        coming_lines += depth // LANES * lines * LONG
        for n in range(N):
            here, there = sums + FLOAT * n * panel, y + FLOAT * (n * M + begin)
            panels_to_row(wide, here, T * panel, (end - begin) // panel, bias + FLOAT * begin, there)


@kernel
def pack(t, threads, arguments):
    """``x (N, F) -> panels (F / panel, T, panel)``, zeros after the last row; panels of chunks if they are not wide."""
    N, T, F, wide, x, panels = numbers(arguments, 6)
    panel = LANES * VECTORS if wide else LANES
    first, last = t * (F // panel) // threads, (t + 1) * (F // panel) // threads
    if first == last:
        return
    for n in range(N):
        here, there = x + FLOAT * (n * F + first * panel), panels + FLOAT * (first * T + n) * panel
        row_to_panels(wide, here, last - first, there, T * panel)
    if T > N:
        for p in range(first, last):
            clear(panels + FLOAT * (p * T + N) * panel, (T - N) * panel)


@kernel
def multiply_for_weights(t, threads, arguments):
    """``dw (C, K) = x^T @ dy``; x in chunks, (C / 16, N, 16), dy in panels, (K / panel, N, panel)."""
    N, C, K, wide, x, dy, dw = numbers(arguments, 7)
    panel = LANES * VECTORS if wide else LANES
    for c in range(t * (C // LANES) // threads * LANES, (t + 1) * (C // LANES) // threads * LANES, LANES):
        for k in range(0, K, panel):
            for r in range(0, LANES, ROWS):
                stream_outer(wide, x + FLOAT * (c * N + r), dy + FLOAT * k * N, N, dw + FLOAT * ((c + r) * K + k), K)
    finish_streams(dw)


@replayable
def linear(x, weight, bias):
    """``y (N, K) = x (N, C) @ weight (C, K) + bias (K,)``, or without bias, None."""
    if len(x) > MOST_ROWS:
        return conv2d(pixels(x), weight[None, None], bias, 1, 0)[:, 0, 0]
    if not fast(x, weight, *weight.shape):
        not_replayable()
        return x @ weight if bias is None else x @ weight + bias
    K, weight = weight.shape[1], columns(weight)
    padded = None if bias is None else columns(bias[None])
    start = zero_row(weight.shape[1]) if bias is None else address(padded)
    return contiguous(product(x, weight, weight.shape[1], start)[:, :K])


@replayable
def linear_input_grad(dy, weight):
    """``dx (N, C) = dy (N, K) @ weight^T``."""
    if len(dy) > MOST_ROWS:
        return conv2d_input_grad(pixels(dy), weight[None, None], (len(dy), 1, 1, len(weight)), 1, 0)[:, 0, 0]
    if not fast(dy, weight, *weight.shape):
        not_replayable()
        return dy @ weight.T
    return product(columns(dy), columns(weight), len(weight), zero_row(len(weight)), transposed=True)


def pixels(rows):
    """Look at rows (N, F) as images of one pixel."""
    return rows[:, None, None]


def product(x, weight, M, bias, transposed=False):
    """``x (N, D) @ weight (D, M) + bias``, or transposed, weight (M, D); the bias is an address, D whole chunks."""
    N, D = x.shape
    T, panel, threads = round_up(N, ROWS), panel_of(M), threads_for(N * D * M // LANES)
    height, row = (panel, D) if transposed else (LANES, M)
    schedule = fetch_schedule(1, 0, height, row, LENGTH, height * LENGTH // (panel * LANES) * T // ROWS)
    chunks, y = packed(x, T), aligned_empty((N, M))
    (scratch,) = WORKSPACE.carve(threads * share(T, M))
    multiply(
        N, T, D, M, int(transposed), int(panel > LANES), block_of(T), address(chunks), address(weight), bias,
        address(y), scratch, share(T, M), address(schedule), schedule.shape[1], threads=threads,
    )  # fmt: skip
    return y


def block_of(T):
    """Outputs whose sums stay in the L2 cache together, for so many rows."""
    return max(LENGTH, SUMS // T // LENGTH * LENGTH)


def share(T, M):
    """Floats of scratch memory that a product with M outputs asks for on each thread."""
    return panel_of(M) * LENGTH + T * min(block_of(T), M)


@replayable
def linear_weight_grad(x, dy):
    """``dw (C, K) = x (N, C)^T @ dy (N, K)``."""
    if len(x) > MOST_ROWS:
        return conv2d_weight_grad(pixels(x), pixels(dy), (1, 1), 1, 0)[0, 0]
    if not fast(x, dy, x.shape[1], dy.shape[1]):
        not_replayable()
        return x.T @ dy
    (N, C), K = x.shape, dy.shape[1]
    x, dy, wide = packed_factors(x, columns(dy))
    dw = aligned_empty((C, round_up(K, LANES)))
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
    return packed(x, len(x)), packed(dy, len(dy), panel), int(panel > LANES)


def packed(rows, T, panel=LANES):
    """Rows (N, F) as panels (F / panel, T, panel), with zeros after the last row."""
    rows = contiguous(rows)
    N, F = rows.shape
    panels = aligned_empty((F // panel, T, panel))
    pack(N, T, F, int(panel > LANES), address(rows), address(panels), threads=threads_for(panels.size))
    return panels


def panel_of(outputs):
    """How many outputs a panel holds, if there are so many, a multiple of 16."""
    return LANES * VECTORS if outputs % (LANES * VECTORS) == 0 else LANES


def fast(rows, other, C, K):
    """Whether the kernels multiply a batch with an array of this type, weights being (C, K)."""
    return rows.dtype == other.dtype == np.float32 and C % LANES == 0 and len(rows) * C * K >= SMALL


def columns(array):
    """Return an array (n, K), contiguous, with zeros for as many more columns as make them a multiple of 16."""
    n, K = array.shape
    if K % LANES == 0:
        return contiguous(array)
    padded = aligned_zeros((n, round_up(K, LANES)), array.dtype)
    issue(np.copyto, padded[:, :K], array)
    return padded
