"""Operations on single elements and on whole feature maps, each one parallel pass over memory."""

import numpy as np

from .. import reference
from .calls import opaque
from .emit import bits, clear, copy, floats, integers, kernel, numbers, real
from .fallback import for_float32
from .memory import address, address_of_any, aligned_empty, contiguous
from .parallel import threads_for

__all__ = [
    "add",
    "cast",
    "draw_seed",
    "dropout",
    "leaky_relu",
    "leaky_relu_grad",
    "relu",
    "relu_grad",
    "subsample",
    "subsample_grad",
]

FLOAT = 4  # bytes

# Of few numbers: NumPy's definition serves.
cast, draw_seed = opaque(reference.cast), opaque(reference.draw_seed)


def each(kernel, *arrays, constants=()):
    """Run a kernel over the elements of arrays of one shape, with constants that it takes first; return its result."""
    arrays = [contiguous(array) for array in arrays]
    out = aligned_empty(arrays[0].shape)
    kernel(out.size, *constants, *map(address, (*arrays, out)), threads=threads_for(out.size))
    return out


@for_float32
def add(a, b):
    """``a + b``, of one shape."""
    return each(add_floats, a, b)


@kernel
def add_floats(t, threads, arguments):
    count, a, b, out = numbers(arguments, 4)
    terms, others, sums = floats(a), floats(b), floats(out)
    for i in range(t * count // threads, (t + 1) * count // threads):
        sums[i] = terms[i] + others[i]


@for_float32
def relu(x):
    """``max(x, 0)``."""
    return each(cut_below_zero, x)


@kernel
def cut_below_zero(t, threads, arguments):
    count, x, y = numbers(arguments, 3)
    values, results, zero = floats(x), floats(y), np.float32(0)
    for i in range(t * count // threads, (t + 1) * count // threads):
        value = values[i]
        results[i] = zero if value < zero else value  # a NaN passes, as in np.maximum: it must not be hidden


@for_float32
def relu_grad(dy, y):
    """``dy`` where the output ``y`` of :func:`relu` is positive, else 0."""
    return each(mask_by_sign, dy, y)


@kernel
def mask_by_sign(t, threads, arguments):
    count, dy, y, dx = numbers(arguments, 4)
    gradients, outputs, results, zero = floats(dy), floats(y), floats(dx), np.float32(0)
    for i in range(t * count // threads, (t + 1) * count // threads):
        gradient = gradients[i]
        results[i] = gradient if outputs[i] > zero else zero


@for_float32
def leaky_relu(x, slope):
    """``x`` where it is positive, else ``slope * x``."""
    return each(scale_below_zero, x, x, constants=(bits(slope),))


@for_float32
def leaky_relu_grad(dy, y, slope):
    """``dy`` where the output ``y`` of :func:`leaky_relu` is positive, else ``slope * dy``."""
    return each(scale_below_zero, y, dy, constants=(bits(slope),))


@kernel
def scale_below_zero(t, threads, arguments):
    """Values where ``signs`` is positive, else ``slope`` times them; values and signs may be one array."""
    count, slope, signs, values, results = numbers(arguments, 5)
    factor, tested, given, out = np.float32(real(slope)), floats(signs), floats(values), floats(results)
    for i in range(t * count // threads, (t + 1) * count // threads):
        value = given[i]
        out[i] = value if tested[i] > np.float32(0) else value * factor


@for_float32
def subsample(x, stride, channels):
    """Every ``stride``-th pixel of ``x`` (N, H, W, C), its channels filled up with zeros to ``channels``."""
    n, height, width, _ = x.shape
    x, y = contiguous(x), aligned_empty((n, -(-height // stride), -(-width // stride), channels))
    pick_pixels(*x.shape, *y.shape[1:], stride, address(x), address(y), threads=threads_for(y.size))
    return y


@kernel
def pick_pixels(t, threads, arguments):
    N, H, W, C, Ho, Wo, K, stride, x, y = numbers(arguments, 10)
    for n in range(t * N // threads, (t + 1) * N // threads):
        for h in range(Ho):
            for w in range(Wo):
                here, there = ((n * H + h * stride) * W + w * stride) * C, ((n * Ho + h) * Wo + w) * K
                copy(x + FLOAT * here, y + FLOAT * there, C)
                clear(y + FLOAT * (there + C), K - C)


@for_float32
def subsample_grad(dy, x_shape, stride):
    """Adjoint of :func:`subsample`: ``dx`` (N, H, W, C), zero at the pixels that were left out."""
    dx, dy = aligned_empty(x_shape), contiguous(dy)
    put_pixels(*dx.shape, *dy.shape[1:], stride, address(dy), address(dx), threads=threads_for(dx.size))
    return dx


@kernel
def put_pixels(t, threads, arguments):
    N, H, W, C, Ho, Wo, K, stride, dy, dx = numbers(arguments, 10)
    for n in range(t * N // threads, (t + 1) * N // threads):
        clear(dx + FLOAT * n * H * W * C, H * W * C)
        for h in range(Ho):
            for w in range(Wo):
                here, there = ((n * Ho + h) * Wo + w) * K, ((n * H + h * stride) * W + w * stride) * C
                copy(dy + FLOAT * here, dx + FLOAT * there, C)


@for_float32
def dropout(x, rate, seed):
    """Set each element to zero with probability ``rate`` and divide the others by ``1 - rate``; see the reference."""
    seed = np.asarray(seed, np.uint64).reshape(1)
    return each(drop_out, x, constants=(bits(1 / (1 - rate)), round(rate * 2**32), address_of_any(seed)))


@kernel
def drop_out(t, threads, arguments):
    count, scale, threshold, seed, x, y = numbers(arguments, 6)
    first, least, factor = np.uint64(integers(seed)[0]), np.uint64(threshold), np.float32(real(scale))
    values, results, zero = floats(x), floats(y), np.float32(0)
    for i in range(t * count // threads, (t + 1) * count // threads):
        state = np.uint64(i + 1) * np.uint64(0x9E3779B97F4A7C15) + first
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        drawn = (state ^ (state >> np.uint64(31))) >> np.uint64(32)
        value = values[i]
        results[i] = value * factor if drawn >= least else zero
