"""Direct convolution: any kernel size, stride and padding, float32, output channels in multiples of 16.

Convolution is `patches @ weights`, and a patch is Kh *runs* of Kw*C neighbouring floats of the input. So the patches
are never copied: a register tile of pixels reads its runs in place, from offsets looked up in a table, and holds its
sums until the whole patch is done. A few images at a time are copied into a buffer, with the zeros that padding asks
for.

The table makes the kernel general. With stride s, the input gradient is s*s *phases*: the rows (and columns) of dx with
the same remainder modulo s see the same taps of the kernel, so each phase is a convolution of dy with stride 1, with
some of the rotated taps, whose pixels lie s apart in dx.

Where the weights outgrow the L2 cache, threads share out the output channels, and each takes many images at a time;
elsewhere they share out the images.

Error against float64, relative, for normal data: 1e-7 (C = 3) to 1e-6 (C = 512).

Symbols
-------
N, H, W, C    images, rows, columns, channels of the array that patches are read from
K             channels of the array that is summed or multiplied with: y (or dx)
G             images in a group
Hp, Wp        rows and columns of a padded image in the buffer; (above, left) is where the image lies in it
run           floats of a run: Kw*C; a patch has one for each row of the kernel
panel         16 VECTORS (or 16) output channels; packed weights are (panel, tap, C, 16 VECTORS)
pixels        places of a group in the table: offset of the patch in the buffer, offset of the output
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ..shapes import output_size
from .calls import issue
from .coefficients import total
from .emit import INT, LANES, ROWS, VECTORS, add_to_double, clear, copy, emit, kernel, multiply_add, numbers
from .memory import WORKSPACE, address, aligned_empty, round_up, zero_row
from .norm import BLOCK, pixels
from .parallel import threads_for
from .recipes import CENTRED_MOMENTS, NORM_GRADIENT
from .weights import copy_vectors, pack_weights, rotate_weights

FLOAT, DOUBLE = 4, 8  # bytes
L2 = 512 * 1024  # bytes of weights that stay in the L2 cache beside the pixels
UNROLL = 4
STEM = 9  # floats of a run of 3 pixels of 3 channels: a register tile of its own for the first layer


class Phase(NamedTuple):
    """One convolution with stride 1 among those that an input gradient is made of; a forward pass is a single one."""

    taps: np.ndarray  # which taps of the weights (Kh*Kw, C, K), row by row
    runs: int  # rows of taps
    outputs: int  # pixels of an image
    pixels: np.ndarray  # (2, pixels of a group, in multiples of ROWS): offsets of patches, offsets of outputs


class Geometry(NamedTuple):
    """Where the patches of a group of images lie."""

    G: int
    Hp: int
    Wp: int
    above: int
    left: int
    phases: list[Phase]


def pixel_table(G, Hp, Wp, C, rows, columns, out_rows, out_columns, Ho, Wo, K):
    """Offsets of the patches that begin at rows x columns, and of their outputs at out_rows x out_columns."""
    images, patches = np.arange(G)[:, None, None], (rows[:, None] * Wp + columns) * C
    outputs = (out_rows[:, None] * Wo + out_columns) * K
    table = np.stack([(images * Hp * Wp * C + patches).ravel(), (images * Ho * Wo * K + outputs).ravel()])
    return np.pad(table, ((0, 0), (0, -table.shape[1] % ROWS)), mode="edge")  # twice the same pixel does no harm


@lru_cache(512)
def forward_geometry(N, H, W, C, K, kernel_size, stride, padding, threads):
    """Geometry of a forward pass."""
    Kh, Kw = kernel_size
    Ho, Wo = output_size(H, Kh, stride, padding), output_size(W, Kw, stride, padding)
    Hp, Wp = H + 2 * padding, W + 2 * padding
    G = group(N, Hp * Wp * C, Ho * Wo, Kh * Kw * C * K, threads)
    rows, columns = np.arange(Ho), np.arange(Wo)
    pixels = pixel_table(G, Hp, Wp, C, rows * stride, columns * stride, rows, columns, Ho, Wo, K)
    return Geometry(G, Hp, Wp, padding, padding, [Phase(np.arange(Kh * Kw), Kh, Ho * Wo, pixels)])


@lru_cache(512)
def gradient_geometry(N, H, W, C, Ho, Wo, K, kernel_size, stride, padding, threads):
    """Geometry of an input gradient: patches of dy (N, Ho, Wo, K), outputs dx (N, H, W, C).

    Row h = stride * i + a - padding of dx sees the taps kh = a, a + stride, ...: row i - n of dy through the n-th one.
    """

    def along(size, count, a):
        taps = np.arange(a, count, stride)
        i = np.arange(max(0, -((a - padding) // stride)), (size - 1 - a + padding) // stride + 1)
        # Rotated, the taps are in reverse order: the first belongs to the lowest row of dy.
        return count - 1 - taps[::-1], i - len(taps) + 1, stride * i + a - padding

    kinds = []
    for size, taps in zip((H, W), kernel_size, strict=True):
        kinds.append([along(size, taps, a) for a in range(min(stride, taps))])
    (top, bottom), (left, right) = (
        (min([0, *(begin.min() for _, begin, _ in kind if begin.size)]),
         max([size, *(begin.max() + len(taps) for taps, begin, _ in kind if begin.size)]))
        for size, kind in zip((Ho, Wo), kinds, strict=True)
    )  # fmt: skip
    Hp, Wp = int(bottom - top), int(right - left)
    G = group(N, Hp * Wp * K, max(1, H * W // stride**2), kernel_size[0] * kernel_size[1] * C * K, threads)
    phases = []
    for row_taps, rows, out_rows in kinds[0]:
        for column_taps, columns, out_columns in kinds[1]:
            if rows.size and columns.size:
                taps = (row_taps[:, None] * kernel_size[1] + column_taps).ravel()
                pixels = pixel_table(G, Hp, Wp, K, rows - top, columns - left, out_rows, out_columns, H, W, C)
                phases.append(Phase(taps, len(row_taps), rows.size * columns.size, pixels))
    return Geometry(G, Hp, Wp, int(-top), int(-left), phases)


def group(N, image, pixels, weights, threads):
    """Images in a group: enough to fill register tiles, few enough to stay in the L2 cache beside the weights."""
    room = L2 if FLOAT * weights > L2 else L2 // 4
    G = max(-(-ROWS // pixels), room // (FLOAT * image), 1)
    return min(G, N if FLOAT * weights > L2 else -(-N // threads))


def product_of_patches(vectors, unroll):
    """out[r, 0 : 16 vectors] = sum over its patch of input * weights, for ROWS pixels r."""

    def body(v, src, pixels, length, run, runs, run_step, weights, dst):
        def offsets(first):
            pointer = v.b.bitcast(v.at(pixels, v.times(2, first)), INT.as_pointer())
            return [v.b.load(v.b.gep(pointer, [INT(r)])) for r in range(ROWS)]

        patches = [v.at(src, offset) for offset in offsets(INT(0))]

        def along_patch(n, sums):
            begin, panel = v.b.mul(n, run_step), v.at(weights, v.times(LANES * vectors, v.b.mul(n, run)))

            def along_run(i, sums):
                for part in range(unroll):
                    s = v.b.add(v.times(unroll, i), INT(part))
                    row = [v.load(v.at(panel, v.times(LANES * vectors, s), LANES * n)) for n in range(vectors)]
                    sums = multiply_add(v, [v.at(patch, begin, s) for patch in patches], row, sums)
                return sums

            return v.loop(v.b.udiv(run, INT(unroll)), sums, along_run)

        sums = v.loop(runs, [v.vector(0)] * (ROWS * vectors), along_patch)
        outputs = [v.at(dst, offset) for offset in offsets(length)]
        for n, value in enumerate(sums):
            v.store(value, v.at(outputs[n // vectors], LANES * (n % vectors)))

    return body


def product_of_pixels(rows, vectors):
    """dw[r, 0 : 16 vectors] += sum over the pixels of input * dy, for so many neighbouring places r of a patch."""

    def body(v, src, pixels, count, dy, dw, K):
        cells = [v.at(dw, v.times(n // vectors, K), LANES * (n % vectors)) for n in range(rows * vectors)]
        table = v.b.bitcast(v.at(pixels), INT.as_pointer())

        def step(m, sums):
            patch = v.at(src, v.b.load(v.b.gep(table, [m])))
            row = [v.load(v.at(dy, v.times(LANES * vectors, m), LANES * n)) for n in range(vectors)]
            return multiply_add(v, [v.at(patch, r) for r in range(rows)], row, sums)

        for cell, value in zip(cells, v.loop(count, [v.vector(0)] * (rows * vectors), step), strict=True):
            v.store(v.add(v.load(cell), value), cell)

    return body


# First argument: number of the body, 2 * (panels are wide) + (runs divide by UNROLL).
multiply_patches = emit(*(product_of_patches(vectors, unroll) for vectors in (1, VECTORS) for unroll in (1, UNROLL)))
# First argument: 2 * (STEM rows) + (panels are wide).
multiply_pixels = emit(*(product_of_pixels(rows, vectors) for rows in (ROWS, STEM) for vectors in (1, VECTORS)))


moments_of_pixels, gradient_of_pixels = emit(pixels(CENTRED_MOMENTS)), emit(pixels(NORM_GRADIENT))


@emit
def add_vectors(v, src, step, terms, dst, count):
    """``dst = sum of so many arrays, a step apart``, in their order; count is a multiple of 16."""

    def along(i, carried):
        here = v.times(LANES, i)
        total = v.loop(terms, [v.vector(0)], lambda t, s: [v.add(s[0], v.load(v.at(src, here, v.b.mul(t, step))))])
        v.store(total[0], v.at(dst, here))
        return carried

    v.loop(v.b.udiv(count, INT(LANES)), [], along)


@kernel
def convolve(t, threads, arguments):
    """``y (N, Ho, Wo, K) = the phases' convolutions of x (N, H, W, C)``, each with its packed weights.

    phases (phase_count, 5): runs, taps of a run, pixels of a group, offset of its part of tables, address of its packed
    weights. sums (threads, 2, K), float64, if not 0, get those of y and y^2, added up while y is in the cache, with
    the help of part (threads, 2, K) and of K zeros.
    """
    (
        N, H, W, C, Ho, Wo, K, G, Hp, Wp, above, left, wide, panel_groups, x, phases, phase_count, tables, y, scratch,
        scratch_size, sums, sums_part, zeros,
    ) = numbers(arguments, 24)  # fmt: skip
    image_groups, panel = (N + G - 1) // G, LANES * VECTORS if wide else LANES
    tasks, panels, inplace = image_groups * panel_groups, K // panel, Hp == H and Wp == W
    buffer = scratch + FLOAT * t * scratch_size
    mine, rows = sums_part + FLOAT * t * 2 * K, max(1, BLOCK // K)
    if not inplace:
        clear(buffer, scratch_size)
    if sums:
        clear(mine, 2 * K)
        clear(sums + DOUBLE * t * 2 * K, 4 * K)
    for task in range(t * tasks // threads, (t + 1) * tasks // threads):
        part, first = task // image_groups, task % image_groups * G
        n = min(first, N - G)  # the last group overlaps another
        src = x + FLOAT * n * H * W * C if inplace else buffer
        if not inplace:
            for h in range(G * H):
                row = h // H * Hp + h % H + above
                copy(x + FLOAT * (n * H + h) * W * C, buffer + FLOAT * (row * Wp + left) * C, W * C)
        for phase in range(phase_count):
            runs, taps, pixels, table, weights = numbers(phases + 40 * phase, 5)
            table += tables
            for p in range(part * panels // panel_groups, (part + 1) * panels // panel_groups):
                for m in range(0, pixels, ROWS):
                    multiply_patches(
                        2 * wide + (taps * C % UNROLL == 0), src, table + 8 * m, pixels, taps * C, runs, Wp * C,
                        weights + FLOAT * p * runs * taps * C * panel,
                        y + FLOAT * (n * Ho * Wo * K + p * panel),
                    )  # fmt: skip
        if sums:
            for pixel in range(first * Ho * Wo, min(N, first + G) * Ho * Wo, rows):
                count = min(rows, min(N, first + G) * Ho * Wo - pixel)
                begin, end = part * panels // panel_groups * panel, (part + 1) * panels // panel_groups * panel
                for k in range(begin, end, LANES):
                    here, there = y + FLOAT * (pixel * K + k), FLOAT * k
                    moments_of_pixels(here, 0, 0, 0, 0, zeros + there, mine + there, K, K, 0, count)
                add_to_double(mine, sums + DOUBLE * t * 2 * K, 2 * K)


@kernel
def convolve_for_weights(t, threads, arguments):
    """``parts (threads / panel_groups, runs, run, K) = parts of dw``; a run is rounded up to a multiple of rows.

    rows is ROWS or STEM. pixels are those of one image; G images take G times as many places in the table. If y is not
    0, dy is batch norm's gradient, of dz and y with the coefficients pqr (3, K).
    """
    (
        N, H, W, C, K, G, Hp, Wp, above, left, wide, panel_groups, x, runs, taps, rows, pixels, table, dz, y, pqr,
        parts, part_size, scratch, scratch_size,
    ) = numbers(arguments, 25)  # fmt: skip
    image_groups, panel = (N + G - 1) // G, LANES * VECTORS if wide else LANES
    run, panels = (taps * C + rows - 1) // rows * rows, K // panel
    inplace = Hp == H and Wp == W and run == taps * C
    shares = threads // panel_groups
    part, share = t % panel_groups, t // panel_groups
    dy_panel = scratch + FLOAT * t * scratch_size
    buffer = dy_panel + FLOAT * G * pixels * panel
    dw = parts + FLOAT * share * part_size
    first, last = part * panels // panel_groups * panel, (part + 1) * panels // panel_groups * panel
    clear(buffer, G * Hp * Wp * C + LANES)
    for row in range(runs * run):
        clear(dw + FLOAT * (row * K + first), last - first)
    for task in range(share * image_groups // shares, (share + 1) * image_groups // shares):
        n = task * G
        images = min(G, N - n)
        src = x + FLOAT * n * H * W * C if inplace else buffer
        if not inplace:
            for h in range(images * H):
                row = h // H * Hp + h % H + above
                copy(x + FLOAT * (n * H + h) * W * C, buffer + FLOAT * (row * Wp + left) * C, W * C)
        for k in range(first, last, panel):
            for c in range(0, panel, LANES):
                here, there, count = FLOAT * (n * pixels * K + k + c), dy_panel + FLOAT * c, images * pixels
                if y:
                    table_here = pqr + FLOAT * (k + c)
                    gradient_of_pixels(dz + here, y + here, 0, 0, there, table_here, 0, K, K, panel, count)
                else:
                    copy_vectors(dz + here, K, there, panel, count)
            for row in range(runs):
                for s in range(0, run, rows):
                    here, there = src + FLOAT * (row * Wp * C + s), dw + FLOAT * ((row * run + s) * K + k)
                    multiply_pixels(2 * (rows == STEM) + wide, here, table, images * pixels, dy_panel, there, K)


@kernel
def add_parts(t, threads, arguments):
    """``dw (runs, run) = sum over the parts (count, runs, padded_run)``; all in floats."""
    parts, part_size, count, runs, run, padded_run, dw = numbers(arguments, 7)
    for row in range(t * runs // threads, (t + 1) * runs // threads):
        add_vectors(parts + FLOAT * row * padded_run, part_size, count, dw + FLOAT * row * run, run)


def run_phases(x, weight, y, geometry, threads, moments=False):
    """Convolve x (N, H, W, C) with weight (taps, C, K) into y (N, Ho, Wo, K); see `conv2d` for what it returns."""
    (N, H, W, C), (_, Ho, Wo, K) = x.shape, y.shape
    wide = K % (LANES * VECTORS) == 0
    panel = LANES * VECTORS if wide else LANES
    packed = aligned_empty(sum(len(phase.taps) for phase in geometry.phases) * C * K)
    phases, begin, table_begin = [], address(packed), 0
    for phase in geometry.phases:
        pack_weights(
            address(weight), address(phase.taps), phase.taps.size, C, K, panel, begin, threads=threads_for(weight.size)
        )
        phases.append((phase.runs, phase.taps.size // phase.runs, phase.pixels.shape[1], 8 * table_begin, begin))
        begin += FLOAT * phase.taps.size * C * K
        table_begin += phase.pixels.size
    phases = np.array(phases)
    tables = np.concatenate([phase.pixels.ravel() for phase in geometry.phases])
    G, Hp, Wp, above, left, _ = geometry
    shared_weights = FLOAT * packed.size <= L2 and G * (threads - 1) < N
    panel_groups = 1 if shared_weights else min(threads, K // panel)
    size = round_up(G * Hp * Wp * C, LANES)
    doubles, part, scratch = WORKSPACE.carve(4 * threads * K, 2 * threads * K, threads * size)
    convolve(
        N, H, W, C, Ho, Wo, K, G, Hp, Wp, above, left, int(wide), panel_groups, address(x), address(phases),
        len(phases), address(tables), address(y), scratch, size, doubles if moments else 0, part, zero_row(K),
        threads=threads,
    )  # fmt: skip
    return total(WORKSPACE.doubles(doubles, threads, 2, K)) if moments else None


def conv2d(x, weight, stride, padding, out, moments=False):
    """``x (N, H, W, C), weight (Kh, Kw, C, K)``, K a multiple of 16 -> out (N, Ho, Wo, K).

    Returns the sums of out and out^2, (2, K), float64, if moments are asked for.
    """
    threads = threads_for(out.size * weight[..., 0].size // LANES)
    geometry = forward_geometry(*x.shape, weight.shape[3], weight.shape[:2], stride, padding, threads)
    return run_phases(x, weight, out, geometry, threads, moments)


def conv2d_input_grad(dy, weight, stride, padding, out):
    """``dy (N, Ho, Wo, K), weight (Kh, Kw, C, K)``, C and K multiples of 16 -> out (N, H, W, C)."""
    (_, Ho, Wo, K), (Kh, Kw, C, _) = dy.shape, weight.shape
    threads = threads_for(dy.size * Kh * Kw * C // LANES)
    geometry = gradient_geometry(*out.shape, Ho, Wo, K, (Kh, Kw), stride, padding, threads)
    rotated = aligned_empty((Kh, Kw, K, C))
    rotate_weights(address(weight), Kh * Kw, C, K, address(rotated), threads=threads_for(weight.size))
    if sum(phase.outputs for phase in geometry.phases) < out[0, :, :, 0].size:
        issue(np.copyto, out, 0)  # some pixels, perhaps all, were read by no patch
    if geometry.phases:
        run_phases(dy, rotated, out, geometry, threads)


def conv2d_weight_grad(x, dy, stride, padding, out, y=None, pqr=None):
    """``x (N, H, W, C), dy (N, Ho, Wo, K)``, K a multiple of 16 -> out (Kh, Kw, C, K).

    With y and pqr (3, K), the gradient is ``p * dy + q * y + r``.
    """
    (N, H, W, C), (Kh, Kw, _, K) = x.shape, out.shape
    threads = threads_for(dy.size * Kh * Kw * C // LANES)
    G, Hp, Wp, above, left, (phase,) = forward_geometry(N, H, W, C, K, (Kh, Kw), stride, padding, threads)
    wide = K % (LANES * VECTORS) == 0
    panel = LANES * VECTORS if wide else LANES
    panel_groups = threads if FLOAT * out.size > L2 and K // panel >= threads else 1
    rows = STEM if Kw * C == STEM else ROWS
    run, shares = round_up(Kw * C, rows), threads // panel_groups
    parts = aligned_empty((shares, Kh, run, K))
    scratch = aligned_empty((threads, round_up(G * (phase.outputs * panel + Hp * Wp * C) + LANES, LANES)))
    convolve_for_weights(
        N, H, W, C, K, G, Hp, Wp, above, left, int(wide), panel_groups, address(x), Kh, Kw, rows, phase.outputs,
        address(phase.pixels), address(dy), address(y), address(pqr), address(parts), parts.size // shares,
        address(scratch), scratch.shape[1], threads=threads,
    )  # fmt: skip
    add_parts(
        address(parts), parts.size // shares, shares, Kh, Kw * C * K, run * K, address(out),
        threads=threads_for(parts.size),
    )  # fmt: skip
    return out
