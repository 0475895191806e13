"""Winograd convolution of small images with many channels: 3x3 kernels, stride 1, padding 1, float32.

Such layers have more weights than pixels, and F(4x4, 3x3) makes four times as many of them: to store those and to read
them again would cost more than all multiplications. So each thread takes *panels* of output channels, and transforms a
panel's weights a few input channels at a time, into a buffer that stays in the L2 cache, just before they are
multiplied. The weight gradient's products, likewise, are transformed back at once.

An image of 2x2 pixels sees nothing but zeros around it, and asks for 9 multiplications where F(4x4, 3x3) does 36 and
the definition 16. Along one axis, with pixels d0 and d1, a kernel g and outputs y0 and y1::

    y0 = g1 d0 + g2 d1 = g1 (d0 + d1) + (g2 - g1) d1
    y1 = g0 d0 + g1 d1 = g1 (d0 + d1) + (g0 - g1) d0

An image of one pixel meets the middle of the kernel alone: one multiplication.

Error against float64, relative, for normal data: 5e-6 (512 channels), 1e-6 for images of 2x2 pixels.

Symbols, beside those of `winograd`
-----------------------------------
T        tiles of all images, rounded up to a multiple of ROWS
point    one of the 36 (or 9, or 1) products of tile and kernel; u, v, z, m: weights, tiles of x, of dy, products there
panel    16 VECTORS (or 16) output channels
depth    input channels whose transformed weights are in the buffer
"""

from collections.abc import Callable
from typing import NamedTuple

from numba import get_num_threads

from . import winograd
from .emit import LANES, ROWS, VECTORS, clear, emit, kernel, numbers
from .matrix import fetch_schedule, multiply_rows
from .memory import WORKSPACE, address, round_up, zero_row
from .winograd import GAP, product_over_tiles, rotate_block

FLOAT, LONG = 4, 8  # bytes
DEPTH = 64


class Transforms(NamedTuple):
    """The 1-D transforms: functions of a VectorBuilder and a list of vectors."""

    input: Callable
    output: Callable
    output_gradient: Callable
    filter: Callable
    filter_gradient: Callable
    pixels_in: int  # of a tile of the image, along an axis
    pixels_out: int
    points: int


def small_input(v, d):
    """2 pixels -> 3 points."""
    return [v.add(d[0], d[1]), d[1], d[0]]


def small_output(v, m):
    """3 points -> 2 pixels."""
    return [v.add(m[0], m[1]), v.add(m[0], m[2])]


def small_output_gradient(v, y):
    """2 pixels -> 3 points."""
    return [v.add(y[0], y[1]), y[0], y[1]]


def small_filter(v, g):
    """3 taps -> 3 points."""
    return [g[1], v.sub(g[2], g[1]), v.sub(g[0], g[1])]


def small_filter_gradient(v, u):
    """3 points -> 3 taps."""
    return [u[2], v.sub(v.sub(u[0], u[1]), u[2]), u[1]]


def as_it_is(v, d):
    """1 pixel -> 1 point, and back."""
    return d


def middle(v, g):
    """3 taps -> 1 point."""
    return [g[1]]


def middle_gradient(v, u):
    """1 point -> 3 taps."""
    return [v.vector(0), u[0], v.vector(0)]


USUAL = Transforms(
    winograd.input_transform,
    winograd.output_transform,
    winograd.output_gradient_transform,
    winograd.filter_transform,
    winograd.filter_gradient_transform,
    6,
    4,
    6,
)
SMALL = Transforms(small_input, small_output, small_output_gradient, small_filter, small_filter_gradient, 2, 2, 3)
PIXEL = Transforms(as_it_is, as_it_is, as_it_is, middle, middle_gradient, 1, 1, 1)


def both_ways(v, network, square):
    """Apply a 1-D transform to the columns, then to the rows, of a square of vectors."""
    columns = [network(v, [row[j] for row in square]) for j in range(len(square))]
    return [network(v, [column[i] for column in columns]) for i in range(len(columns[0]))]


def tile_transform(network, size):
    """Points of a tile, of one chunk. Pixel (r, c) is read where bit r of rows and bit c of columns are set, else 0."""

    def body(v, x, row, C, rows, columns, zeros, dst, plane):
        def pixel(r, c):
            inside = v.b.and_(v.bit(rows, r), v.bit(columns, c))
            return v.load(v.select(inside, v.at(x, v.times(r, row), v.times(c, C)), v.pointer(zeros)))

        square = both_ways(v, network, [[pixel(r, c) for c in range(size)] for r in range(size)])
        for point, value in enumerate(value for line in square for value in line):
            v.store(value, v.at(dst, v.times(point, plane)))

    return body


def tile_inverse(transforms):
    """Pixels of a tile, of one chunk, from its points; those outside the image go to `dump`."""
    points = transforms.points

    def body(v, src, plane, y, row, K, rows, columns, dump):
        square = [[v.load(v.at(src, v.times(points * i + j, plane))) for j in range(points)] for i in range(points)]
        for r, line in enumerate(both_ways(v, transforms.output, square)):
            for c, value in enumerate(line):
                inside = v.b.and_(v.bit(rows, r), v.bit(columns, c))
                v.store(value, v.select(inside, v.at(y, v.times(r, row), v.times(c, K)), v.pointer(dump)))

    return body


def square_transform(network, size):
    """Transform 16 squares, elements of the source so many floats apart, those of the result a plane apart."""

    def body(v, src, step, dst, plane):
        square = [[v.load(v.at(src, v.times(size * i + j, step))) for j in range(size)] for i in range(size)]
        for n, value in enumerate(value for line in both_ways(v, network, square) for value in line):
            v.store(value, v.at(dst, v.times(n, plane)))

    return body


# First argument: the number of the transforms, 0 to 2; of tiles, twice that number, and 1 more for those of dy.
FAMILIES = (USUAL, SMALL, PIXEL)
transform_tile = emit(
    *(
        tile_transform(network, size)
        for family in FAMILIES
        for network, size in ((family.input, family.pixels_in), (family.output_gradient, family.pixels_out))
    )
)
inverse_tile = emit(*(tile_inverse(family) for family in FAMILIES))
transform_kernel = emit(*(square_transform(family.filter, 3) for family in FAMILIES))
inverse_kernel = emit(*(square_transform(family.filter_gradient, family.points) for family in FAMILIES))


@kernel
def transform_tiles(t, threads, arguments):
    """``x (N, H, W, C) -> v (points, C / 16, T, 16)``, points V floats apart; tiles beyond the last one are zero."""
    N, H, W, C, T, V, which, step, size, border, x, v, zeros = numbers(arguments, 13)
    tile_rows, tile_columns = (H + step - 1) // step, (W + step - 1) // step
    for tile in range(t * T // threads, (t + 1) * T // threads):
        row, j = divmod(tile, tile_columns)
        n, i = divmod(row, tile_rows)
        rows, columns, top, left = 0, 0, step * i - border, step * j - border
        for r in range(size):
            rows |= (n < N and 0 <= top + r < H) << r
            columns |= (0 <= left + r < W) << r
        for c in range(0, C, LANES):
            here, there = ((n * H + top) * W + left) * C + c, c * T + tile * LANES
            transform_tile(which, x + FLOAT * here, W * C, C, rows, columns, zeros, v + FLOAT * there, V)


@kernel
def multiply_panels(t, threads, arguments):
    """``y (N, H, W, K) = convolution of the tiles v with w (3, 3, C, K)``; or, rotated, with w (3, 3, K, C)."""
    (
        N, H, W, C, K, T, V, family, step, points, rotated, wide, v, w, y, scratch, scratch_size, schedule, lines,
    ) = numbers(arguments, 19)  # fmt: skip
    panel, tap = LANES * VECTORS if wide else LANES, C * K
    tile_rows, tile_columns = (H + step - 1) // step, (W + step - 1) // step
    U, M = DEPTH * panel + GAP, T * panel + GAP
    u = scratch + FLOAT * t * scratch_size
    m = u + FLOAT * points * U
    block = m + FLOAT * points * M
    for k in range(t * (K // panel) // threads * panel, (t + 1) * (K // panel) // threads * panel, panel):
        clear(m, points * M)
        for c in range(0, C, DEPTH):
            depth = min(DEPTH, C - c)
            for i in range(0, depth, LANES):
                for n in range(0, panel, LANES):
                    if rotated:
                        rotate_block(w + FLOAT * ((k + n) * C + c + i), C, tap, block)
                    for r in range(LANES):
                        there = u + FLOAT * ((i + r) * panel + n)
                        if rotated:
                            transform_kernel(family, block + FLOAT * r * LANES, LANES * LANES, there, U)
                        else:
                            transform_kernel(family, w + FLOAT * ((c + i + r) * K + k + n), tap, there, U)
            # The next weights come while these are multiplied.
            next_k, next_c = (k, c + DEPTH) if c + DEPTH < C else (k + panel, 0)
            coming = w + FLOAT * (next_k * C + next_c if rotated else next_c * K + next_k)
            coming_lines = schedule
            for point in range(points):
                for tile in range(0, T, ROWS):
                    multiply_rows(
                        wide, v + FLOAT * (point * V + c * T + tile * LANES), T * LANES, u + FLOAT * point * U,
                        m + FLOAT * (point * M + tile * panel), panel, depth // LANES,
                        coming, coming_lines, lines,
                    )  # fmt: skip
                    coming_lines += depth // LANES * lines * LONG
        for tile in range(N * tile_rows * tile_columns):
            row, j = divmod(tile, tile_columns)
            n, i = divmod(row, tile_rows)
            rows, columns = (1 << min(step, H - step * i)) - 1, (1 << min(step, W - step * j)) - 1
            for c in range(0, panel, LANES):
                there = ((n * H + step * i) * W + step * j) * K + k + c
                inverse_tile(
                    family, m + FLOAT * (tile * panel + c), M, y + FLOAT * there, W * K, K, rows, columns, block
                )


@kernel
def multiply_panels_for_weights(t, threads, arguments):
    """``dw (3, 3, C, K)``, of the tiles v (points, C / 16, T, 16) of x and z (points, K / 16, T, 16) of dy."""
    C, K, T, V, Z, family, points, wide, v, z, dw, scratch, scratch_size = numbers(arguments, 13)
    panel, rows = LANES * VECTORS if wide else LANES, ROWS if wide else 2 * ROWS
    U = rows * panel + GAP
    du = scratch + FLOAT * t * scratch_size
    for k in range(t * (K // panel) // threads * panel, (t + 1) * (K // panel) // threads * panel, panel):
        for c in range(0, C, rows):
            clear(du, points * U)
            for point in range(points):
                here = v + FLOAT * (point * V + c // LANES * LANES * T + c % LANES)
                there = du + FLOAT * point * U
                product_over_tiles(wide, here, z + FLOAT * (point * Z + k * T), T * LANES, there, panel, T)
            for r in range(rows):
                for n in range(0, panel, LANES):
                    there = dw + FLOAT * ((c + r) * K + k + n)
                    inverse_kernel(family, du + FLOAT * (r * panel + n), U, there, C * K)


class Plan(NamedTuple):
    """How an image size is cut into tiles."""

    family: int
    T: int


def plan(N, H, W):
    """Choose the transforms, and count the tiles."""
    family = {(2, 2): 1, (1, 1): 2}.get((H, W), 0)
    step = FAMILIES[family].pixels_out
    return Plan(family, round_up(N * -(-H // step) * -(-W // step), ROWS))


def plane(T, channels):
    """Floats between two points of so many tiles."""
    return T * channels + GAP


def tiles(x, family, T, gradient, v):
    """Transform x (N, H, W, C), or a gradient like it, to tiles at the address v."""
    transforms = FAMILIES[family]
    size = transforms.pixels_out if gradient else transforms.pixels_in
    border = int(size > transforms.pixels_out)
    transform_tiles(
        *x.shape, T, plane(T, x.shape[3]), 2 * family + gradient, transforms.pixels_out, size, border, address(x), v,
        zero_row(LANES),
    )  # fmt: skip


def convolve(x, weight, out, rotated):
    """Convolve x (N, H, W, C) to out (N, H, W, K)."""
    (N, H, W, C), K, threads = x.shape, out.shape[3], get_num_threads()
    family, T = plan(N, H, W)
    transforms, V = FAMILIES[family], plane(T, C)
    points, wide = transforms.points**2, int(K % (LANES * VECTORS) == 0)
    panel = LANES * VECTORS if wide else LANES
    share = points * (DEPTH * panel + GAP + plane(T, panel)) + 9 * LANES * LANES
    v, scratch = WORKSPACE.carve(points * V, threads * share)
    depth = min(DEPTH, C)
    block = (panel, C, depth) if rotated else (depth, K, panel)  # of weights: rows, how far apart, columns
    schedule = fetch_schedule(9, C * K, *block, points * T // ROWS * depth // LANES)
    tiles(x, family, T, 0, v)
    multiply_panels(
        N, H, W, C, K, T, V, family, transforms.pixels_out, points, rotated, wide, v, address(weight), address(out),
        scratch, share, address(schedule), schedule.shape[1],
    )  # fmt: skip
    return out


def conv2d(x, weight, out):
    """``x (N, H, W, C), weight (3, 3, C, K) -> out (N, H, W, K)``."""
    return convolve(x, weight, out, 0)


def conv2d_input_grad(dy, weight, out):
    """``dy (N, H, W, K), weight (3, 3, C, K) -> out (N, H, W, C)``."""
    return convolve(dy, weight, out, 1)


def conv2d_weight_grad(x, dy, out):
    """``x (N, H, W, C), dy (N, H, W, K) -> out (3, 3, C, K)``."""
    (N, H, W, C), K, threads = x.shape, dy.shape[3], get_num_threads()
    family, T = plan(N, H, W)
    points, wide, V, Z = FAMILIES[family].points ** 2, int(K % (LANES * VECTORS) == 0), plane(T, C), plane(T, K)
    share = points * (2 * ROWS * LANES * VECTORS + GAP)
    v, z, scratch = WORKSPACE.carve(points * V, points * Z, threads * share)
    tiles(x, family, T, 0, v)
    tiles(dy, family, T, 1, z)
    multiply_panels_for_weights(
        C, K, T, V, Z, family, points, wide, v, z, address(out), scratch, share
    )  # fmt: skip
    return out
