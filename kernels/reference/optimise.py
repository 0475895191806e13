"""One step of each optimizer, in place on one parameter and its state (arrays of one shape).

A gradient may come as an :class:`OuterProduct`.
"""

import numpy as np

from ..operands import OuterProduct
from .linear import linear_weight_grad

__all__ = ["rmsprop_step", "rmsprop_step_all", "sgd_step", "sgd_step_all"]


def rmsprop_step(data, grad, square, velocity, lr, rho, momentum, eps, weight_decay):
    """RMSProp (Tieleman and Hinton, 2012) with a heavy ball on the normalised step; changes data, square, velocity::

    g        = grad + weight_decay * data
    square   = rho * square + (1 - rho) * g^2
    velocity = momentum * velocity + g / (sqrt(square) + eps)
    data     = data - lr * velocity
    """
    lr, rho, momentum, eps, weight_decay = (data.dtype.type(v) for v in (lr, rho, momentum, eps, weight_decay))
    g = stored(grad) + weight_decay * data
    square *= rho
    square += (1 - rho) * (g * g)
    velocity *= momentum
    velocity += g / (np.sqrt(square) + eps)
    data -= lr * velocity


def rmsprop_step_all(tensors, lr, rho, momentum, eps):
    """:func:`rmsprop_step` on a list of (data, grad, square, velocity, weight_decay)."""
    for *arrays, weight_decay in tensors:
        rmsprop_step(*arrays, lr, rho, momentum, eps, weight_decay)


def sgd_step(data, grad, velocity, lr, momentum, weight_decay):
    """Gradient descent with a heavy ball (Polyak, 1964); changes data and velocity::

    g        = grad + weight_decay * data
    velocity = momentum * velocity + g
    data     = data - lr * velocity
    """
    lr, momentum, weight_decay = (data.dtype.type(v) for v in (lr, momentum, weight_decay))
    velocity *= momentum
    velocity += stored(grad) + weight_decay * data
    data -= lr * velocity


def sgd_step_all(tensors, lr, momentum):
    """:func:`sgd_step` on a list of (data, grad, velocity, weight_decay)."""
    for *arrays, weight_decay in tensors:
        sgd_step(*arrays, lr, momentum, weight_decay)


def stored(grad):
    """Return the gradient as an array."""
    return linear_weight_grad(*grad) if isinstance(grad, OuterProduct) else grad
