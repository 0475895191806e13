"""Rearranging weights, for kernels that read them in another order.

Symbols: w (taps, C, K) is a kernel (Kh, Kw, C, K) of C input and K output channels.
"""

from .emit import INT, LANES, emit, integers, kernel, numbers

FLOAT = 4  # bytes


@emit
def rotate_tap(v, w, C, K, out):
    """One tap of the weights, w (16, K) of (C, K) -> out (K, 16) of (K, C): a row of 16x16 blocks transposed."""

    def step(k, carried):
        block = [v.load(v.at(w, v.times(c, K), v.times(LANES, k))) for c in range(LANES)]
        for n, row in enumerate(v.transpose(block)):
            v.store(row, v.at(out, v.b.mul(v.b.add(v.times(LANES, k), INT(n)), C)))
        return carried

    v.loop(v.b.udiv(K, INT(LANES)), [], step)


@emit
def copy_vectors(v, src, src_step, dst, dst_step, count):
    """Copy count vectors that lie a step apart."""

    def step(i, carried):
        v.store(v.load(v.at(src, v.b.mul(i, src_step))), v.at(dst, v.b.mul(i, dst_step)))
        return carried

    v.loop(count, [], step)


@kernel
def rotate_weights(t, threads, arguments):
    """``w (taps, C, K) -> out (taps, K, C), the taps in reverse order``."""
    w, taps, C, K, out = numbers(arguments, 5)
    for row in range(t * (taps * C // LANES) // threads, (t + 1) * (taps * C // LANES) // threads):
        tap, c = row // (C // LANES), row % (C // LANES) * LANES
        rotate_tap(w + FLOAT * (tap * C + c) * K, C, K, out + FLOAT * ((taps - 1 - tap) * C * K + c))


@kernel
def pack_weights(t, threads, arguments):
    """``w (Kh*Kw, C, K) -> packed (K / panel, taps, C, panel)``."""
    w, taps, count, C, K, panel, packed = numbers(arguments, 7)
    for row in range(t * (K // panel * count) // threads, (t + 1) * (K // panel * count) // threads):
        k, tap = row // count * panel, row % count
        for part in range(0, panel, LANES):
            here = w + FLOAT * (integers(taps)[tap] * C * K + k + part)
            copy_vectors(here, K, packed + FLOAT * (row * C * panel + part), panel, C)
