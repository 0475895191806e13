"""Optimizers. Their state is kept by parameter name, so it outlives any change of the set of trainable parameters."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from incnet.backend import Array, asarray, ops
from incnet.parameter import Parameter

__all__ = ["SGD", "Optimizer", "RMSProp"]


class Optimizer:
    """Common part: one set of state arrays, shaped like the parameter, for each parameter name.

    Attributes
    ----------
    state : dict of str to dict of str to array
        ``state["S1.block1_1.body.conv1.weight"]["square"]``; made, as zeros, at a parameter's first step.
    """

    slots: tuple[str, ...] = ()

    def __init__(self, lr: float, weight_decay: float) -> None:
        if lr <= 0:
            raise ValueError(f"learning rate {lr}: choose a positive number")
        if weight_decay < 0:
            raise ValueError(f"weight decay {weight_decay}: choose a number of at least 0")
        self.lr, self.weight_decay = lr, weight_decay
        self.state: dict[str, dict[str, Array]] = {}

    def step(self, named_parameters: Iterable[tuple[str, Parameter]]) -> None:
        """Move the given parameters along their gradients; all others, and their state, stay untouched."""
        for name, parameter in named_parameters:
            if parameter.grad is None:
                raise RuntimeError(f"{name} has no gradient: run backward before each step")
            state = self.state.get(name)
            if state is None:
                zeros = np.zeros(parameter.data.shape, parameter.data.dtype)
                state = self.state[name] = {slot: asarray(zeros.copy()) for slot in self.slots}
            self.update(parameter, state, self.weight_decay if parameter.decay else 0.0)

    def update(self, parameter: Parameter, state: dict[str, Array], weight_decay: float) -> None:
        """Change one parameter and its state in place."""
        raise NotImplementedError

    def forget(self, prefix: str) -> None:
        """Drop the state of every parameter whose name starts with ``prefix``: those of a rebuilt classifier, say."""
        for name in [name for name in self.state if name.startswith(prefix)]:
            del self.state[name]


class RMSProp(Optimizer):
    """RMSProp with momentum.

    Parameters
    ----------
    lr : float
        Step length.
    rho : float
        Decay of the running average of the squared gradient, in [0, 1).
    momentum : float
        Decay of the velocity, in [0, 1); 0 for plain RMSProp.
    eps : float
        Added outside the root.
    weight_decay : float
        L2 penalty, added to the gradient of the parameters that have ``decay`` set.

    Notes
    -----
    ::

        g        = grad + weight_decay * data
        square   = rho * square + (1 - rho) * g^2
        velocity = momentum * velocity + g / (sqrt(square) + eps)
        data     = data - lr * velocity

    Source: Tieleman and Hinton (2012), lecture 6.5 of Neural Networks for Machine Learning.
    """

    slots = ("square", "velocity")

    def __init__(
        self,
        lr: float = 1e-4,
        *,
        rho: float = 0.9,
        momentum: float = 0.9,
        eps: float = 1e-7,
        weight_decay: float = 1e-4,
    ) -> None:
        super().__init__(lr, weight_decay)
        for name, value in (("rho", rho), ("momentum", momentum)):
            if not 0 <= value < 1:
                raise ValueError(f"{name} {value}: choose a number in [0, 1)")
        self.rho, self.momentum, self.eps = rho, momentum, eps

    def update(self, parameter: Parameter, state: dict[str, Array], weight_decay: float) -> None:
        ops.rmsprop_step(
            parameter.data, parameter.grad, state["square"], state["velocity"],
            self.lr, self.rho, self.momentum, self.eps, weight_decay,
        )  # fmt: skip


class SGD(Optimizer):
    """Gradient descent with a heavy ball (Polyak, 1964), doi:10.1016/0041-5553(64)90137-5.

    Notes
    -----
    ::

        g        = grad + weight_decay * data
        velocity = momentum * velocity + g
        data     = data - lr * velocity
    """

    slots = ("velocity",)

    def __init__(self, lr: float = 0.1, *, momentum: float = 0.9, weight_decay: float = 1e-4) -> None:
        super().__init__(lr, weight_decay)
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum {momentum}: choose a number in [0, 1)")
        self.momentum = momentum

    def update(self, parameter: Parameter, state: dict[str, Array], weight_decay: float) -> None:
        ops.sgd_step(parameter.data, parameter.grad, state["velocity"], self.lr, self.momentum, weight_decay)
