"""One step of each optimizer, in place on all parameters and their state (arrays of the parameter's shape).

A gradient may come as an :class:`OuterProduct`.
"""

import numpy as np

from ..operands import OuterProduct
from .linear import linear_weight_grad

__all__ = ["rmsprop_step_all", "sgd_step_all"]


def rmsprop_step_all(tensors, lr, rho, momentum, eps):
    """RMSProp (Tieleman and Hinton, 2012) with a heavy ball on the normalised step.

    Of each tensor (data, grad, square, velocity, weight_decay) it changes data, square and velocity::

        g        = grad + weight_decay * data
        square   = rho * square + (1 - rho) * g^2
        velocity = momentum * velocity + g / (sqrt(square) + eps)
        data     = data - lr * velocity
    """
    for data, grad, square, velocity, weight_decay in tensors:
        number = data.dtype.type
        g = stored(grad) + number(weight_decay) * data
        square *= number(rho)
        square += (1 - number(rho)) * (g * g)
        velocity *= number(momentum)
        velocity += g / (np.sqrt(square) + number(eps))
        data -= number(lr) * velocity


def sgd_step_all(tensors, lr, momentum):
    """Gradient descent with a heavy ball (Polyak, 1964).

    Of each tensor (data, grad, velocity, weight_decay) it changes data and velocity::

        g        = grad + weight_decay * data
        velocity = momentum * velocity + g
        data     = data - lr * velocity
    """
    for data, grad, velocity, weight_decay in tensors:
        number = data.dtype.type
        velocity *= number(momentum)
        velocity += stored(grad) + number(weight_decay) * data
        data -= number(lr) * velocity


def stored(grad):
    """Return the gradient as an array."""
    return linear_weight_grad(*grad) if isinstance(grad, OuterProduct) else grad
