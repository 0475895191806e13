"""Operations on single elements and on whole feature maps: ReLUs, the parameter-free shortcut, dropout."""

import numpy as np

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

# SplitMix64's state moves by this much from one number to the next.
GAMMA = 0x9E3779B97F4A7C15


def add(a, b):
    """``a + b``, of one shape."""
    return a + b


def relu(x):
    """``max(x, 0)``."""
    return np.maximum(x, 0)


def relu_grad(dy, y):
    """``dy`` where the output ``y`` of :func:`relu` is positive, else 0."""
    return np.where(y > 0, dy, dy.dtype.type(0))


def leaky_relu(x, slope):
    """``x`` where it is positive, else ``slope * x``; ``slope`` in (0, 1)."""
    return np.where(x > 0, x, x * x.dtype.type(slope))


def leaky_relu_grad(dy, y, slope):
    """``dy`` where the output ``y`` of :func:`leaky_relu` is positive, else ``slope * dy``."""
    return np.where(y > 0, dy, dy * dy.dtype.type(slope))


def subsample(x, stride, channels):
    """Every ``stride``-th pixel of ``x`` (N, H, W, C), its channels filled up with zeros to ``channels``.

    Shortcut "A" of He et al. (2015), arXiv:1512.03385: an identity across a change of shape, without parameters.
    """
    picked = x[:, ::stride, ::stride]
    y = np.zeros((*picked.shape[:3], channels), x.dtype)
    y[..., : x.shape[3]] = picked
    return y


def subsample_grad(dy, x_shape, stride):
    """Adjoint of :func:`subsample`: ``dx`` (N, H, W, C), zero at the pixels that were left out."""
    dx = np.zeros(x_shape, dy.dtype)
    dx[:, ::stride, ::stride] = dy[..., : x_shape[3]]
    return dx


def dropout(x, rate, seed):
    """Set each element to zero with probability ``rate`` and divide the others by ``1 - rate``.

    Element i is dropped where the top 32 bits of output i of the SplitMix64 generator, started at ``seed`` (an integer
    in [0, 2^64)), fall below ``rate * 2^32`` (Steele, Lea and Flood, 2014, doi:10.1145/2660193.2660195). The mask is a
    function of the seed alone: the same on every backend, and made again in the backward pass instead of stored, where
    this very function, applied to dy, is the gradient.
    """
    state = np.arange(1, x.size + 1, dtype=np.uint64) * np.uint64(GAMMA) + np.uint64(seed)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    bits = (state ^ (state >> np.uint64(31))) >> np.uint64(32)
    kept = (bits >= np.uint64(round(rate * 2**32))).reshape(x.shape)
    return np.where(kept, x * x.dtype.type(1 / (1 - rate)), x.dtype.type(0))


def draw_seed(count, skipped):
    """Seed of the next mask, an array without axes; ``count`` (1,), uint64, goes up by one.

    SplitMix64 spreads neighbouring seeds only after a first scrambling, so counts are multiplied by an odd factor: it
    keeps their sequences apart. The mask begins after ``skipped`` of its elements, an integer in [0, 2^64).
    """
    seed = count * np.uint64(0xD1342543DE82EF95) + np.uint64(skipped * GAMMA % 2**64)  # arrays wrap
    count += np.uint64(1)
    return seed.reshape(())


def cast(x, dtype):
    """Copy of ``x`` in another type."""
    return x.astype(dtype)
