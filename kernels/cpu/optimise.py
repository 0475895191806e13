"""One step of each optimizer, in place, in one pass over a parameter and its state."""

import numpy as np
from numba import njit, prange

__all__ = ["rmsprop_step", "sgd_step"]


def rmsprop_step(data, grad, square, velocity, lr, rho, momentum, eps, weight_decay):
    """RMSProp with a heavy ball on the normalised step; changes ``data``, ``square`` and ``velocity``; see the reference."""
    hyper = np.array([lr, rho, 1 - rho, momentum, eps, weight_decay], data.dtype)
    arrays = (a.reshape(-1) for a in (data, np.ascontiguousarray(grad), square, velocity))
    _rmsprop_step(*arrays, hyper)


@njit(parallel=True, cache=True)
def _rmsprop_step(data, grad, square, velocity, hyper):
    lr, rho, fresh, momentum, eps, weight_decay = hyper[0], hyper[1], hyper[2], hyper[3], hyper[4], hyper[5]
    for i in prange(data.size):
        g = grad[i] + weight_decay * data[i]
        square[i] = rho * square[i] + fresh * (g * g)
        velocity[i] = momentum * velocity[i] + g / (np.sqrt(square[i]) + eps)
        data[i] -= lr * velocity[i]


def sgd_step(data, grad, velocity, lr, momentum, weight_decay):
    """Gradient descent with a heavy ball; changes ``data`` and ``velocity``; see the reference."""
    hyper = np.array([lr, momentum, weight_decay], data.dtype)
    _sgd_step(data.reshape(-1), np.ascontiguousarray(grad).reshape(-1), velocity.reshape(-1), hyper)


@njit(parallel=True, cache=True)
def _sgd_step(data, grad, velocity, hyper):
    lr, momentum, weight_decay = hyper[0], hyper[1], hyper[2]
    for i in prange(data.size):
        velocity[i] = momentum * velocity[i] + grad[i] + weight_decay * data[i]
        data[i] -= lr * velocity[i]
