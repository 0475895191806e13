"""Operations on single elements and on whole feature maps, each one parallel pass over memory."""

import numpy as np
from numba import njit, prange

from .. import reference
from .memory import aligned_empty, contiguous
from .parallel import run
from .tape import whole

__all__ = ["add", "cast", "draw_seed", "dropout", "relu", "relu_grad", "subsample", "subsample_grad"]

# Of few numbers: NumPy's definition serves.
cast, draw_seed = whole(reference.cast), whole(reference.draw_seed)


def add(a, b):
    """``a + b``, of one shape."""
    a, b = contiguous(a), contiguous(b)
    out = aligned_empty(a.shape, a.dtype)
    run(_add, a.size, a.reshape(-1), b.reshape(-1), out.reshape(-1))
    return out


@njit(parallel=True, cache=True)
def _add(a, b, out):
    for i in prange(a.size):
        out[i] = a[i] + b[i]


def relu(x):
    """``max(x, 0)``."""
    x = contiguous(x)
    y = aligned_empty(x.shape, x.dtype)
    run(_relu, x.size, x.reshape(-1), y.reshape(-1))
    return y


@njit(parallel=True, cache=True)
def _relu(x, y):
    zero = x.dtype.type(0)
    for i in prange(x.size):
        y[i] = zero if x[i] < zero else x[i]  # a NaN passes, as in np.maximum: it must not be hidden


def relu_grad(dy, y):
    """``dy`` where the output ``y`` of :func:`relu` is positive, else 0."""
    dy, y = contiguous(dy), contiguous(y)
    dx = aligned_empty(dy.shape, dy.dtype)
    run(_relu_grad, dy.size, dy.reshape(-1), y.reshape(-1), dx.reshape(-1))
    return dx


@njit(parallel=True, cache=True)
def _relu_grad(dy, y, dx):
    zero = dy.dtype.type(0)
    for i in prange(dy.size):
        dx[i] = dy[i] if y[i] > zero else zero


def subsample(x, stride, channels):
    """Every ``stride``-th pixel of ``x`` (N, H, W, C), its channels filled up with zeros to ``channels``."""
    n, height, width, _ = x.shape
    y = aligned_empty((n, -(-height // stride), -(-width // stride), channels), x.dtype)
    run(_subsample, y.size, contiguous(x), stride, y)
    return y


@njit(parallel=True, cache=True)
def _subsample(x, stride, y):
    channels = x.shape[3]
    for n in prange(y.shape[0]):
        for h in range(y.shape[1]):
            for w in range(y.shape[2]):
                for c in range(channels):
                    y[n, h, w, c] = x[n, h * stride, w * stride, c]
                for c in range(channels, y.shape[3]):
                    y[n, h, w, c] = 0


def subsample_grad(dy, x_shape, stride):
    """Adjoint of :func:`subsample`: ``dx`` (N, H, W, C), zero at the pixels that were left out."""
    dx = aligned_empty(x_shape, dy.dtype)
    run(_subsample_grad, dx.size, contiguous(dy), stride, dx)
    return dx


@njit(parallel=True, cache=True)
def _subsample_grad(dy, stride, dx):
    for n in prange(dx.shape[0]):
        for h in range(dx.shape[1]):
            for w in range(dx.shape[2]):
                taken = h % stride == 0 and w % stride == 0
                for c in range(dx.shape[3]):
                    dx[n, h, w, c] = dy[n, h // stride, w // stride, c] if taken else 0


def dropout(x, rate, seed):
    """Set each element to zero with probability ``rate`` and divide the others by ``1 - rate``; see the reference."""
    x = contiguous(x)
    y = aligned_empty(x.shape, x.dtype)
    scale, threshold = x.dtype.type(1 / (1 - rate)), np.uint64(round(rate * 2**32))
    run(_dropout, x.size, x.reshape(-1), scale, threshold, np.asarray(seed, np.uint64).reshape(1), y.reshape(-1))
    return y


@njit(parallel=True, cache=True)
def _dropout(x, scale, threshold, seed, y):
    for i in prange(x.size):
        state = np.uint64(i + 1) * np.uint64(0x9E3779B97F4A7C15) + seed[0]
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        bits = (state ^ (state >> np.uint64(31))) >> np.uint64(32)
        y[i] = x[i] * scale if bits >= threshold else 0
