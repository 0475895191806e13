"""Winograd convolution F(4x4, 3x3): 3x3 kernels, stride 1, padding 1, float32, channels in multiples of 16.

4x4 output pixels are computed from a 6x6 tile of the input with 36 multiplications, not 144. With d a tile, g a kernel,
Y its outputs and o the elementwise product (Lavin and Gray, 2015, arXiv:1509.09308)::

    forward           Y  = A^T [ (G g G^T) o (B^T d B) ] A     summed over input channels
    input gradient    the same on dY, with g rotated by 180 degrees and its channels swapped
    weight gradient   dg = G^T [ (B^T d B) o (A dY A^T) ] G    summed over tiles: forward's transpose in g

A 2-D transform is a vertical 1-D one, then a horizontal one, and that is the blocking. A block is a few *tile rows* (4
rows of an image). The vertical transform runs over whole rows, which neighbouring tiles share; then, for each of the 6
rows that it gives, the horizontal transform, 6 products (tiles x C times C x K) and the horizontal inverse pass through
buffers of a few KiB. With each product goes the prefetch of a 36th of the next block: fetched in bursts, it would fill
the queue of outstanding loads, and hold up what is being computed.

The arrays have no borders: a row outside the image is read from a row of zeros; the outer columns of buffers are zero.

While the vertical transform reads rows, it may compute them from others (a *prologue*: batch norm or its gradient);
while its inverse writes rows, it may mask and sum them (an *epilogue*). `fused` says what they are good for.

Error against float64, relative, for normal data: 1e-6 (16 channels) to 5e-6 (512).

Symbols
-------
N, H, W, C, K    images, rows, columns, channels of the input, channels of the output
S                tiles in a tile row: W / 4, rounded up
B, T             tile rows in a block; tiles in it, rounded up to a multiple of 8
i, j             row and column of a transformed tile, 0..5
u, v, m          transformed kernels, transformed tiles of the input, their products
chunk            16 channels: the buffers are laid out (..., chunk, pixel or tile, 16)
plane            one of the 6 rows or columns of a buffer
"""

from array import array
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from .calls import keep
from .coefficients import total
from .emit import INT, LANES, ROWS, VECTORS, add_to_double, call, clear, emit, kernel, multiply_add, numbers
from .memory import SECOND_WORKSPACE, WORKSPACE, address, round_up, zero_row
from .parallel import threads_for
from .recipes import (
    BIAS,
    BIAS_ADD_RELU,
    BIAS_RELU,
    MASK_BIAS,
    MASK_BY_NORM,
    MASK_BY_OUTPUT,
    MASK_BY_OUTPUT_ADD,
    MOMENTS,
    NORM_ADD_RELU,
    NORM_GRADIENT,
    NORM_RELU,
    NORM_RELU_KEPT,
    SAME,
    Recipe,
)

TRANSFORM = 128  # operations, about, to transform 16 kernels
GAP = 16  # floats between planes: those a multiple of 4096 bytes apart would share one set of the L1 cache
FLOAT, DOUBLE = 4, 8  # bytes
PIECE = 1 << 17  # bytes of an operand that both gradients read before they go on: of up to five, in 1 MiB of L2 cache
BLOCK = 9 * LANES * LANES  # floats of 16x16 kernels

# Tiles in a block, by channels: more tiles reuse the transformed weights more often, fewer stay in the L1 cache.
NARROW, MEDIUM = 16, 64
FORWARD_TILES, GRADIENT_TILES = {"narrow": 16, "medium": 8, "wide": 32}, {"narrow": 16, "medium": 16, "wide": 32}

# What the vertical transform may compute of the rows that it reads, and its inverse of those that it writes. The
# kernels know a recipe by its place here.
PROLOGUES = (SAME, NORM_RELU, NORM_RELU_KEPT, NORM_ADD_RELU, NORM_GRADIENT)
KEEPING = (NORM_RELU_KEPT, NORM_ADD_RELU)
DY_PROLOGUES = (SAME, NORM_GRADIENT)
EPILOGUES = (
    SAME, BIAS, BIAS_RELU, BIAS_ADD_RELU, NORM_RELU, NORM_ADD_RELU, MASK_BIAS, MOMENTS, MASK_BY_NORM, MASK_BY_OUTPUT,
    MASK_BY_OUTPUT_ADD,
)  # fmt: skip


# The 1-D transforms, for the points 0, 1, -1, 2, -2 and infinity: functions of a VectorBuilder v and a list of vectors.


def input_transform(v, d):
    """B^T, 6 -> 6."""
    a, b, c, e = v.fma(-4, d[2], d[4]), v.fma(-4, d[1], d[3]), v.sub(d[4], d[2]), v.sub(d[3], d[1])
    first, last = v.fma(4, d[0], v.fma(-5, d[2], d[4])), v.fma(4, d[1], v.fma(-5, d[3], d[5]))
    return [first, v.add(a, b), v.sub(a, b), v.fma(2, e, c), v.fma(-2, e, c), last]


def output_transform(v, m):
    """A^T, 6 -> 4."""
    s, d, s2, d2 = v.add(m[1], m[2]), v.sub(m[1], m[2]), v.add(m[3], m[4]), v.sub(m[3], m[4])
    return [v.add(v.add(m[0], s), s2), v.fma(2, d2, d), v.fma(4, s2, s), v.add(v.fma(8, d2, d), m[5])]


def output_gradient_transform(v, y):
    """A, 4 -> 6."""
    a, b, c, e = v.add(y[0], y[2]), v.add(y[1], y[3]), v.fma(4, y[2], y[0]), v.fma(4, y[3], y[1])
    return [y[0], v.add(a, b), v.sub(a, b), v.fma(2, e, c), v.fma(-2, e, c), y[3]]


def filter_transform(v, g):
    """G, 3 -> 6."""
    a, b = v.mul(-1 / 6, v.add(g[0], g[2])), v.fma(1 / 24, g[0], v.mul(1 / 6, g[2]))
    c, d = v.mul(1 / 6, g[1]), v.mul(1 / 12, g[1])
    return [v.mul(1 / 4, g[0]), v.sub(a, c), v.add(a, c), v.add(b, d), v.sub(b, d), g[2]]


def filter_gradient_transform(v, u):
    """G^T, 6 -> 3."""
    s, d, s2, d2 = v.add(u[1], u[2]), v.sub(u[2], u[1]), v.add(u[3], u[4]), v.sub(u[3], u[4])
    outer = v.fma(-1 / 6, s, v.mul(1 / 4, u[0]))
    return [v.fma(1 / 24, s2, outer), v.fma(1 / 12, d2, v.mul(1 / 6, d)), v.fma(1 / 6, s2, v.fma(-1 / 6, s, u[5]))]


def rows_transform(network, size, recipe):
    """Vertical transform of `size` rows of one chunk, some of them outside the image, of what a recipe makes of them.

    Row r of the recipe's inputs lies at x + r * pitch (and x2 + ...); bit r of `inside` says if it is in the image.
    If not, the inputs are read at `zeros` and the last coefficient, the constant term, is zero: so is the row. The
    table holds the coefficients, C floats apart. Results go to dst, a plane apart. The values of rows 1 to 4, those
    that belong to this tile row, are also stored at `kept` if the recipe is one of KEEPING: they are needed again.
    """

    def body(v, x, x2, kept, pitch, inside, zeros, table, C, dst, plane, count):
        table = [v.load(v.at(table, v.times(i, C))) for i in range(recipe.coefficients)]
        within = [v.bit(inside, r) for r in range(size)]
        tables = [[*table[:-1], v.select(bit, table[-1], v.vector(0))] if table else [] for bit in within]
        sources = [
            [v.select(within[r], v.at(array, v.times(r, pitch)), v.pointer(zeros)) for r in range(size)]
            for array in (x, x2)[: recipe.inputs]
        ]

        def step(p, carried):
            here = v.b.mul(p, C)
            inputs = [[v.load(v.at(rows[r], here)) for rows in sources] for r in range(size)]
            values = [recipe.function(v, inputs[r], tables[r])[0] for r in range(size)]
            if recipe in KEEPING:
                for r in range(1, 5):
                    v.store(values[r], v.at(kept, v.times(r, pitch), here))
            for n, value in enumerate(network(v, values)):
                v.store(value, v.at(dst, v.times(n, plane), v.times(LANES, p)))
            return carried

        v.loop(count, [], step)

    return body


input_rows = emit(*(rows_transform(input_transform, 6, recipe) for recipe in PROLOGUES))
output_gradient_rows = emit(*(rows_transform(output_gradient_transform, 4, recipe) for recipe in DY_PROLOGUES))


def tiles_transform(network, size, step_in, step_out):
    """Horizontal transform of count tiles of one chunk: tile t starts at src + 16 * step_in * t.

    Forward transforms read neighbouring pixels and write planes; the inverse reads planes and writes pixels.
    """
    inverse = step_out > 1

    def body(v, src, dst, plane, count):
        def step(t, carried):
            source, target = (v.at(a, v.times(LANES * s, t)) for a, s in ((src, step_in), (dst, step_out)))
            values = [v.load(v.at(source, v.times(n, plane) if inverse else LANES * n)) for n in range(size)]
            for n, value in enumerate(network(v, values)):
                v.store(value, v.at(target, LANES * n if inverse else v.times(n, plane)))
            return carried

        v.loop(count, [], step)

    return body


input_tiles = emit(tiles_transform(input_transform, 6, 4, 1))
output_gradient_tiles = emit(tiles_transform(output_gradient_transform, 4, 4, 1))
output_tiles = emit(tiles_transform(output_transform, 6, 1, 4))


def rows_inverse(recipe):
    """Vertical inverse of one tile row of one chunk, and what a recipe makes of its results.

    Output row r goes to y + r * pitch; the recipe's other inputs lie at the same offset. Bit r of `inside` says whether
    the row is in the image; if not, it goes to `dump`. Sums are added to `part`, K floats apart.
    """

    def body(v, src, plane, y, pitch, inside, dump, K, y_below, a_below, skip, table, part, count):
        table = [v.load(v.at(table, v.times(i, K))) for i in range(recipe.coefficients)]
        cells = [v.at(part, v.times(i, K)) for i in range(recipe.terms)]
        targets = [v.select(v.bit(inside, r), v.at(y, v.times(r, pitch)), v.pointer(dump)) for r in range(4)]
        special = {MASK_BIAS: (a_below,), BIAS_ADD_RELU: (skip,), NORM_ADD_RELU: (skip,)}
        arrays = special.get(recipe, (y_below, a_below, skip)[: recipe.inputs - 1])
        sources = [[v.at(array, v.times(r, pitch)) for r in range(4)] for array in arrays]

        def step(p, sums):
            here, more = v.b.mul(p, K), []
            values = [v.load(v.at(src, v.times(n, plane), v.times(LANES, p))) for n in range(6)]
            for r, value in enumerate(output_transform(v, values)):
                value, terms = recipe.function(v, [value, *(v.load(v.at(rows[r], here)) for rows in sources)], table)
                v.store(value, v.at(targets[r], here))
                more.append(terms)
            return [v.add(old, v.total(new)) for old, new in zip(sums, zip(*more, strict=True), strict=True)]

        for cell, value in zip(cells, v.loop(count, [v.load(cell) for cell in cells], step), strict=True):
            v.store(value, cell)

    return body


output_rows = emit(*(rows_inverse(recipe) for recipe in EPILOGUES))


def product_of_chunks(vectors, unroll):
    """m[r, 0 : 16 vectors] = sum over the channels of v[r] * u, for ROWS tiles r; v, m and u in chunks."""
    rows = ROWS

    def body(v, a, a_chunk, b, out, out_chunk, chunks):
        def along_chunks(c, sums):
            scalars, panel = v.at(a, v.b.mul(c, a_chunk)), v.at(b, v.times(LANES * LANES * vectors, c))

            def along_channels(i, sums):
                for s in range(unroll):
                    row = [v.load(v.at(panel, v.times(unroll * LANES * vectors, i), LANES * (s * vectors + n)))
                           for n in range(vectors)]  # fmt: skip
                    column = [v.at(scalars, v.times(unroll, i), LANES * r + s) for r in range(rows)]
                    sums = multiply_add(v, column, row, sums)
                return sums

            return v.loop(INT(LANES // unroll), sums, along_channels)

        for n, value in enumerate(v.loop(chunks, [v.vector(0)] * (rows * vectors), along_chunks)):
            v.store(value, v.at(out, v.times(n % vectors, out_chunk), LANES * (n // vectors)))

    return body


def product_of_tiles(rows, vectors):
    """du[r, 0 : 16 vectors] += sum over the tiles of v[r] * dy, for so many of a chunk's input channels r."""
    unroll = 4

    def body(v, a, b, b_chunk, out, out_row, tiles):
        cells = [v.at(out, v.times(n // vectors, out_row), LANES * (n % vectors)) for n in range(rows * vectors)]

        def step(i, sums):
            here = v.times(unroll * LANES, i)
            for t in range(unroll):
                row = [v.load(v.at(b, v.times(n, b_chunk), here, LANES * t)) for n in range(vectors)]
                sums = multiply_add(v, [v.at(a, here, LANES * t + r) for r in range(rows)], row, sums)
            return sums

        sums = v.loop(v.b.udiv(tiles, INT(unroll)), [v.vector(0)] * (rows * vectors), step)
        for cell, value in zip(cells, sums, strict=True):  # added last: less rounding than first
            v.store(v.add(v.load(cell), value), cell)

    return body


# First argument: 1 where the channels of the output are a multiple of VECTORS chunks, else 0.
# Unrolled by 16, LLVM would load so much ahead in the wide one that it runs out of registers.
product = emit(product_of_chunks(1, 16), product_of_chunks(VECTORS, 4))
product_over_tiles = emit(product_of_tiles(2 * ROWS, 1), product_of_tiles(ROWS, VECTORS))


def prefetch_floats(write):
    """Ask for count floats to be brought into the L2 cache."""

    def body(v, address, count):
        def step(i, carried):
            v.prefetch(v.at(address, v.times(LANES, i)), write)
            return carried

        v.loop(v.b.udiv(v.b.add(count, INT(LANES - 1)), INT(LANES)), [], step)

    return body


fetch, fetch_to_write = emit(prefetch_floats(False)), emit(prefetch_floats(True))


@emit
def weight_transform(v, w, tap, u, plane):
    """``u = G g G^T of 16 kernels g``; the 9 taps lie `tap` floats apart, the 36 results a plane apart."""
    columns = [filter_transform(v, [v.load(v.at(w, v.times(3 * kh + kw, tap))) for kh in range(3)]) for kw in range(3)]
    for i in range(6):
        for j, value in enumerate(filter_transform(v, [column[i] for column in columns])):
            v.store(value, v.at(u, v.times(6 * i + j, plane)))


@emit
def weight_gradient_transform(v, du, plane, part_size, parts, dw, tap):
    """``dw = G^T [sum of the parts of du] G``, for 16 kernels."""

    def add_part(t, sums):
        part = v.at(du, v.b.mul(t, part_size))
        return [v.add(total, v.load(v.at(part, v.times(n, plane)))) for n, total in enumerate(sums)]

    u = v.loop(parts, [v.vector(0)] * 36, add_part)
    columns = [filter_gradient_transform(v, u[j::6]) for j in range(6)]
    for kh in range(3):
        for kw, value in enumerate(filter_gradient_transform(v, [column[kh] for column in columns])):
            v.store(value, v.at(dw, v.times(3 * kh + kw, tap)))


@emit
def rotate_block(v, w, K, tap, dst):
    """``w (3, 3, 16 of C, 16 of K) -> dst (3, 3, 16 of K, 16 of C)``, the taps in reverse order."""
    for n in range(9):
        block = [v.load(v.at(w, v.times(n, tap), v.times(c, K))) for c in range(LANES)]
        for k, row in enumerate(v.transpose(block)):
            v.store(row, v.at(dst, LANES * (LANES * (8 - n) + k)))


@kernel
def transform_weights(t, threads, arguments):
    """``w (3, 3, C, K), or rotated (3, 3, K, C), -> u (6, 6, K / panel, C, panel)``, U floats between the 36 planes."""
    w, C, K, panel, rotated, u, U, scratch = numbers(arguments, 8)
    block, tap = scratch + FLOAT * t * BLOCK, C * K
    for c in range(t * (C // LANES) // threads * LANES, (t + 1) * (C // LANES) // threads * LANES, LANES):
        for k in range(0, K, LANES):
            if rotated:
                rotate_block(w + FLOAT * (k * C + c), C, tap, block)
            for r in range(LANES):
                there = u + FLOAT * ((k // panel * C + c + r) * panel + k % panel)
                if rotated:
                    weight_transform(block + FLOAT * LANES * r, LANES * LANES, there, U)
                else:
                    weight_transform(w + FLOAT * ((c + r) * K + k), tap, there, U)


@kernel
def convolve(t, threads, arguments):
    """``y (N, H, W, K) = epilogue(convolution of prologue(x (N, H, W, C)) with the transformed weights u)``.

    x2 and kept are like x; y_below, a_below and skip like y; before and after are tables of coefficients; sums is
    (workers, 2, K), float64. All arrays are addresses, 0 where the prologue or the epilogue has no use for one.

    Workers have scratch memory and sums of their own. Where there are more threads than workers, these are the pieces
    of a worker's share, and the first one clears its memory: see `convolve_backward`.
    """
    (
        N, H, W, C, K, B, T, IN, OUT, V, M, prologue, x, x2, kept, before, u, U, epilogue, y, y_below, a_below,
        skip, after, sums, zeros, scratch, scratch_size, workers,
    ) = numbers(arguments, 29)  # fmt: skip
    worker, piece = divmod(t, threads // workers)
    S, tile_rows, wide = (W + 3) // 4, N * ((H + 3) // 4), int(K % (VECTORS * LANES) == 0)
    blocks, panel = (tile_rows + B - 1) // B, LANES * VECTORS if wide else LANES
    # What to prefetch, of inputs and of outputs, during one of a block's 36 products.
    part_in, part_out = (4 * B * W * C + 35) // 36, (4 * B * W * K + 35) // 36
    rows_in = scratch + FLOAT * worker * scratch_size
    rows_out = rows_in + FLOAT * 6 * IN
    tiles = rows_out + FLOAT * 6 * OUT
    products = tiles + FLOAT * 6 * V
    part = products + FLOAT * 6 * M
    dump = part + FLOAT * 2 * K
    if piece == 0:
        clear(rows_in, 6 * IN)
        clear(part, 2 * K)
        clear(sums + DOUBLE * worker * 2 * K, 4 * K)
    for block in range(t * blocks // threads, (t + 1) * blocks // threads):
        rows = min(B, tile_rows - block * B)
        for b in range(rows):
            n, h = divmod(block * B + b, (H + 3) // 4)
            inside = 0
            for r in range(6):
                inside |= (0 <= 4 * h - 1 + r < H) << r
            for c in range(0, C, LANES):
                here = FLOAT * ((n * H + 4 * h - 1) * W * C + c)
                there = rows_in + FLOAT * ((b * C + c) * (4 * S + 2) + LANES)
                input_rows(
                    prologue, x + here, x2 + here, kept + here, W * C, inside, zeros, before + FLOAT * c, C,
                    there, IN, W,
                )  # fmt: skip
        for i in range(6):
            for b in range(rows):
                for c in range(0, C, LANES):
                    here = rows_in + FLOAT * (i * IN + (b * C + c) * (4 * S + 2))
                    input_tiles(here, tiles + FLOAT * (c * T + b * S * LANES), V, S)
            for j in range(6):
                then = FLOAT * (((block + 1) * B * 4 + 1) * W * C + (6 * i + j) * part_in)
                now = FLOAT * (block * B * 4 * W * K + (6 * i + j) * part_out)
                fetch(x + then, part_in)
                fetch_to_write(y + now, part_out)
                # Of the operands that may be missing, only the address tells.
                if x2:
                    fetch(x2 + then, part_in)
                if kept:
                    fetch_to_write(kept + then, part_in)
                if y_below:
                    fetch(y_below + now, part_out)
                if a_below:
                    fetch(a_below + now, part_out)
                if skip:
                    fetch(skip + now, part_out)
                for k in range(0, K, panel):
                    weights = u + FLOAT * ((6 * i + j) * U + k * C)
                    for m in range(0, rows * S, ROWS):
                        here = tiles + FLOAT * (j * V + m * LANES)
                        there = products + FLOAT * (j * M + k * T + m * LANES)
                        product(wide, here, T * LANES, weights, there, T * LANES, C // LANES)
            for b in range(rows):
                for k in range(0, K, LANES):
                    there = rows_out + FLOAT * (i * OUT + (b * K + k) * 4 * S)
                    output_tiles(products + FLOAT * (k * T + b * S * LANES), there, M, S)
        for b in range(rows):
            n, h = divmod(block * B + b, (H + 3) // 4)
            inside = (1 << min(4, H - 4 * h)) - 1
            for k in range(0, K, LANES):
                here = rows_out + FLOAT * (b * K + k) * 4 * S
                there = FLOAT * ((n * H + 4 * h) * W * K + k)
                output_rows(
                    epilogue, here, OUT, y + there, W * K, inside, dump, K, y_below + there, a_below + there,
                    skip + there, after + FLOAT * k, part + FLOAT * k, W,
                )  # fmt: skip
        add_to_double(part, sums + DOUBLE * worker * 2 * K, 2 * K)


@kernel
def convolve_for_weights(t, threads, arguments):
    """``du (workers, 6, 6, C, K) = parts of the transformed weight gradient``, of x (N, H, W, C) and dy (N, H, W, K).

    The planes of du are U floats apart. x and dy are read through a prologue; y is the second input of that of dy, 0 if
    it has none. All arrays are addresses. Workers are those of `convolve`.
    """
    (
        N, H, W, C, K, B, T, IN, DY, V, Z, prologue, x, before, dy_prologue, dy, y, table, du, U, zeros, scratch,
        scratch_size, workers,
    ) = numbers(arguments, 24)  # fmt: skip
    worker, piece = divmod(t, threads // workers)
    S, tile_rows, wide = (W + 3) // 4, N * ((H + 3) // 4), int(K % (VECTORS * LANES) == 0)
    blocks, panel, rows_c = (tile_rows + B - 1) // B, LANES * VECTORS if wide else LANES, ROWS if wide else 2 * ROWS
    part_x, part_dy = (4 * B * W * C + 35) // 36, (4 * B * W * K + 35) // 36
    rows_x = scratch + FLOAT * worker * scratch_size
    rows_dy = rows_x + FLOAT * 6 * IN
    tiles_x = rows_dy + FLOAT * 6 * DY
    tiles_dy = tiles_x + FLOAT * 6 * V
    if piece == 0:
        clear(rows_x, 6 * (IN + DY + V + Z))
        clear(du + FLOAT * 36 * worker * U, 36 * U)
    for block in range(t * blocks // threads, (t + 1) * blocks // threads):
        for b in range(B):
            n, h = divmod(block * B + b, (H + 3) // 4)
            inside = 0  # a tile row beyond the last image has no rows inside: it is zero, and adds nothing
            if n < N:
                for r in range(6):
                    inside |= (0 <= 4 * h - 1 + r < H) << r
            for c in range(0, C, LANES):
                here = FLOAT * ((n * H + 4 * h - 1) * W * C + c)
                there = rows_x + FLOAT * ((b * C + c) * (4 * S + 2) + LANES)
                input_rows(
                    prologue, x + here, 0, 0, W * C, inside, zeros, before + FLOAT * c, C, there, IN, W
                )  # fmt: skip
            for k in range(0, K, LANES):
                here = FLOAT * ((n * H + 4 * h) * W * K + k)
                there = rows_dy + FLOAT * (b * K + k) * 4 * S
                output_gradient_rows(
                    dy_prologue, dy + here, y + here, 0, W * K, inside >> 1, zeros, table + FLOAT * k, K,
                    there, DY, W,
                )  # fmt: skip
        for i in range(6):
            for b in range(B):
                for c in range(0, C, LANES):
                    here = rows_x + FLOAT * (i * IN + (b * C + c) * (4 * S + 2))
                    input_tiles(here, tiles_x + FLOAT * (c * T + b * S * LANES), V, S)
                for k in range(0, K, LANES):
                    here = rows_dy + FLOAT * (i * DY + (b * K + k) * 4 * S)
                    output_gradient_tiles(here, tiles_dy + FLOAT * (k * T + b * S * LANES), Z, S)
            for j in range(6):
                then_x = FLOAT * (((block + 1) * B * 4 + 1) * W * C + (6 * i + j) * part_x)
                then_dy = FLOAT * ((block + 1) * B * 4 * W * K + (6 * i + j) * part_dy)
                fetch(x + then_x, part_x)
                fetch(dy + then_dy, part_dy)
                if y:
                    fetch(y + then_dy, part_dy)
                for k in range(0, K, panel):
                    for c in range(0, C, rows_c):
                        here = tiles_x + FLOAT * (j * V + c // LANES * LANES * T + c % LANES)
                        there = du + FLOAT * ((36 * worker + 6 * i + j) * U + c * K + k)
                        product_over_tiles(wide, here, tiles_dy + FLOAT * (j * Z + k * T), T * LANES, there, K, T)


@kernel
def transform_weight_gradient(t, threads, arguments):
    """``du (parts, 6, 6, C, K) -> dw (3, 3, C, K)``, summed over the parts in their order; planes U floats apart."""
    du, U, parts, C, K, dw = numbers(arguments, 6)
    for c in range(t * C // threads, (t + 1) * C // threads):
        for k in range(0, K, LANES):
            here = FLOAT * (c * K + k)
            weight_gradient_transform(du + here, U, 36 * U, parts, dw + here, C * K)


@kernel
def convolve_backward(t, threads, arguments):
    """Weight gradient and input gradient in turns, piece by piece of a thread's share of the images.

    Both read dy, and what lies below is read by the one as its input and by the other for its mask: what the first has
    brought into the cache, the second finds there.
    """
    pieces, weight_gradient, its_arguments, input_gradient, whose_arguments = numbers(arguments, 5)
    for piece in range(t * pieces, (t + 1) * pieces):
        call(weight_gradient, piece, threads * pieces, its_arguments)
        call(input_gradient, piece, threads * pieces, whose_arguments)


class Prologue(NamedTuple):
    """What is computed of an operand while it is read: a recipe, its second input and coefficients (n, C)."""

    recipe: Recipe = SAME
    x2: np.ndarray | None = None
    table: np.ndarray | None = None
    kept: np.ndarray | None = None  # where one of KEEPING leaves its values


class Epilogue(NamedTuple):
    """What is made of a result while it is written: a recipe, its other inputs and coefficients (n, K)."""

    recipe: Recipe = SAME
    table: np.ndarray | None = None
    y_below: np.ndarray | None = None
    a_below: np.ndarray | None = None
    skip: np.ndarray | None = None


AS_IT_IS, JUST_STORE = Prologue(), Epilogue()


def conv2d(x, weight, out, prologue=AS_IT_IS, epilogue=JUST_STORE, rotated=False):
    """``x (N, H, W, C), weight (3, 3, C, K) -> out (N, H, W, K)``; returns the epilogue's sums (2, K), float64.

    A prologue that keeps its value, and an epilogue that sums or reads arrays, ask for an H that is a multiple of 4.
    Rotated, the weights are (3, 3, K, C), and their taps are taken in reverse order.
    """
    arguments, sums = prepare(x, weight, out, prologue, epilogue, rotated)
    convolve(*arguments, threads=len(sums))
    return total(sums)


def conv2d_input_grad(dy, weight, out, prologue=AS_IT_IS, epilogue=JUST_STORE):
    """``dy (N, H, W, K), weight (3, 3, C, K) -> out (N, H, W, C)``; returns the epilogue's sums (2, C), float64."""
    return conv2d(dy, weight, out, prologue, epilogue, rotated=True)


def conv2d_weight_grad(x, dy, out, prologue=AS_IT_IS, dy_prologue=AS_IT_IS):
    """``x (N, H, W, C), dy (N, H, W, K) -> out (3, 3, C, K)``; prologues NORM_RELU of x, NORM_GRADIENT of dy."""
    arguments, du = prepare_for_weights(x, dy, prologue, dy_prologue, WORKSPACE)
    convolve_for_weights(*arguments, threads=du.workers)
    return du.transform(out)


def conv2d_grads(x, dy, weight, dw, dx, prologue, dy_prologue, epilogue):
    """`conv2d_weight_grad` into dw and `conv2d_input_grad` into dx, with the very same results; returns dx's sums."""
    forward, sums = prepare(dy, weight, dx, dy_prologue, epilogue, rotated=True)
    for_weights, du = prepare_for_weights(x, dy, prologue, dy_prologue, SECOND_WORKSPACE)
    pieces = -(-FLOAT * x.size // (du.workers * PIECE))
    for_weights, forward = array("q", for_weights), array("q", forward)
    keep(for_weights)
    keep(forward)
    convolve_backward(
        pieces, convolve_for_weights.address, for_weights.buffer_info()[0], convolve.address, forward.buffer_info()[0],
        threads=du.workers,
    )  # fmt: skip
    du.transform(dw)
    return total(sums)


def prepare(x, weight, out, prologue, epilogue, rotated):
    """Transform the weights; return the arguments of `convolve`, and the sums (threads, 2, K) that it will leave."""
    (N, H, W, C), K = x.shape, out.shape[3]
    threads, of_weights, division, panel, U, share, buffers = forward_plan(N, H, W, C, K)
    u, sums, block, scratch = WORKSPACE.carve(*buffers)
    transform_weights(address(weight), C, K, panel, int(rotated), u, U, block, threads=of_weights)
    arguments = (
        N, H, W, C, K, *division,
        PROLOGUES.index(prologue.recipe), address(x), address(prologue.x2), address(prologue.kept),
        address(prologue.table), u, U,
        EPILOGUES.index(epilogue.recipe), address(out), address(epilogue.y_below), address(epilogue.a_below),
        address(epilogue.skip), address(epilogue.table), sums, zero_row(W * C), scratch, share, threads,
    )  # fmt: skip
    return arguments, WORKSPACE.doubles(sums, threads, 2, K)


class Parts(NamedTuple):
    """The transformed weight gradient (workers, 6, 6, C, K) at an address, with U floats from plane to plane."""

    address: int
    U: int
    workers: int

    def transform(self, dw):
        """Sum the parts and transform them into dw (3, 3, C, K)."""
        C, K = dw.shape[2:]
        threads = threads_for(TRANSFORM * C * K // LANES)
        transform_weight_gradient(*self, C, K, address(dw), threads=threads)
        return dw


def prepare_for_weights(x, dy, prologue, dy_prologue, workspace):
    """Return the arguments of `convolve_for_weights`, and the parts of the gradient that it will leave."""
    (N, H, W, C), K = x.shape, dy.shape[3]
    threads, division, U, share, buffers = gradient_plan(N, H, W, C, K)
    du, scratch = workspace.carve(*buffers)
    arguments = (
        N, H, W, C, K, *division, PROLOGUES.index(prologue.recipe), address(x), address(prologue.table),
        DY_PROLOGUES.index(dy_prologue.recipe), address(dy), address(dy_prologue.x2), address(dy_prologue.table),
        du, U, zero_row(W * max(C, K)), scratch, share, threads,
    )  # fmt: skip
    return arguments, Parts(du, U, threads)


class ForwardPlan(NamedTuple):
    """Numbers that `convolve` and `transform_weights` ask for, and floats of what is carved for them."""

    threads: int
    threads_of_weights: int
    division: tuple[int, ...]  # B, T, IN, OUT, V, M
    panel: int
    U: int
    share: int
    buffers: tuple[int, ...]  # transformed weights, sums, 16x16 kernels, and a share for each thread


class GradientPlan(NamedTuple):
    """Numbers that `convolve_for_weights` asks for, and floats of what is carved for it."""

    threads: int
    division: tuple[int, ...]  # B, T, IN, DY, V, Z
    U: int
    share: int
    buffers: tuple[int, ...]  # the parts of the gradient, and a share for each thread


def forward_plan(N, H, W, C, K):
    """Plan of a convolution on the threads in use."""
    threads, of_weights = threads_for(operations(N, H, W, C, K)), threads_for(TRANSFORM * C * K // LANES)
    return plan_forward(N, H, W, C, K, threads, of_weights)


def gradient_plan(N, H, W, C, K):
    """Plan of a weight gradient on the threads in use."""
    return plan_gradient(N, H, W, C, K, threads_for(operations(N, H, W, C, K)))


@lru_cache(512)
def plan_forward(N, H, W, C, K, threads, of_weights):
    """Plan of a convolution on so many threads."""
    panel = VECTORS * LANES if K % (VECTORS * LANES) == 0 else LANES
    division, U = divide(N, H, W, C, K, FORWARD_TILES[width(C, K)], threads), C * K + GAP
    share = round_up(6 * sum(division[2:]) + 2 * K + W * K, LANES)
    buffers = 36 * U, 4 * threads * K, of_weights * BLOCK, threads * share
    return ForwardPlan(threads, of_weights, division, panel, U, share, buffers)


@lru_cache(512)
def plan_gradient(N, H, W, C, K, threads):
    """Plan of a weight gradient on so many threads."""
    division, U = divide(N, H, W, C, K, GRADIENT_TILES[width(C, K)], threads), C * K + GAP
    share = 6 * sum(division[2:])
    return GradientPlan(threads, division, U, share, (36 * threads * U, threads * share))


def operations(N, H, W, C, K):
    """About how many operations on vectors the products take."""
    return N * H * W * C * K * 9 // 4 // LANES


def width(C, K):
    """Class of a layer by its channels."""
    return "narrow" if max(C, K) <= NARROW else "medium" if max(C, K) <= MEDIUM else "wide"


def divide(N, H, W, C, K, tiles, threads):
    """Tile rows and tiles in a block, and a block's floats: of either operand's rows, and of its transformed ones."""
    S, B, T = blocking(N, H, W, tiles, threads)
    return B, T, B * (4 * S + 2) * C + GAP, B * 4 * S * K + GAP, T * C + GAP, T * K + GAP


def blocking(N, H, W, tiles, threads):
    """Tiles in a tile row (S), tile rows in a block (B), tiles in a block (T), for about so many tiles in a block."""
    S, tile_rows, unit = -(-W // 4), N * -(-H // 4), 8
    most = max(1, min(2 * tiles // S, -(-tile_rows // threads)))
    B = max(range(1, most + 1), key=lambda B: (B * S / round_up(B * S, unit), -abs(B * S - tiles)))
    return S, B, round_up(B * S, unit)
