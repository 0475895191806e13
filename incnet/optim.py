"""Optimizers. Their state is kept by parameter name, so it outlives any change of the set of trainable parameters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from incnet.backend import Array, asarray, asnumpy, ops
from incnet.parameter import Parameter

__all__ = ["SGD", "Optimizer", "RMSProp"]


class Optimizer:
    """Common part: one set of state arrays, shaped like the parameter, for each parameter name.

    Parameters
    ----------
    lr : float
        Step length, above 0.
    weight_decay : float
        L2 penalty, added to the gradient of the parameters that have ``decay`` set; at least 0.

    Attributes
    ----------
    state : dict of str to dict of str to array
        ``state["S1.block1_1.body.conv1.weight"]["square"]``; made, as zeros, at a parameter's first step.
    hyper : tuple of str
        Attributes that are numbers which a step depends on: a sub-class names all of its own.
    recordable : bool
        See :mod:`incnet.training.replay`; each sub-class says it of itself.
    version : int
        Another one whenever arrays of the state are dropped or replaced: a recorded step holds on to them.
    """

    slots: tuple[str, ...] = ()
    hyper: tuple[str, ...] = ("lr", "weight_decay")
    recordable = False

    def __init__(self, lr: float, weight_decay: float) -> None:
        if not 0 < lr < math.inf:
            raise ValueError(f"learning rate {lr}: choose a positive number")
        if not 0 <= weight_decay < math.inf:
            raise ValueError(f"weight decay {weight_decay}: choose a number of at least 0")
        self.lr, self.weight_decay = lr, weight_decay
        self.state: dict[str, dict[str, Array]] = {}
        self.version = 0

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(self, name):g}" for name in self.hyper)
        return f"{type(self).__name__}({values})"

    def settings(self) -> tuple:
        """All that a recorded step depends on, besides the parameters."""
        return (type(self), self.version, *(float(getattr(self, name)) for name in self.hyper))

    def step(self, named_parameters: Iterable[tuple[str, Parameter]]) -> None:
        """Move the given parameters along their gradients; all others, and their state, stay untouched.

        Raises
        ------
        RuntimeError
            If one has no gradient yet.
        """
        tensors = []
        for name, parameter in named_parameters:
            if parameter.gradient is None:
                raise RuntimeError(f"{name} has no gradient: run backward before each step")
            state = self.state.get(name)
            if state is None:
                zeros = np.zeros(parameter.data.shape, parameter.data.dtype)
                state = self.state[name] = {slot: asarray(zeros.copy()) for slot in self.slots}
            decay = self.weight_decay if parameter.decay else 0.0
            tensors.append((parameter.data, parameter.gradient, *(state[slot] for slot in self.slots), decay))
        self.update(tensors)

    def update(self, tensors: list[tuple]) -> None:
        """Change parameters and their state in place: a list of ``(data, gradient, *slots, weight_decay)``."""
        raise NotImplementedError

    def forget(self, prefix: str) -> None:
        """Drop the state of every parameter whose name starts with ``prefix``: those of a rebuilt classifier, say."""
        for name in [name for name in self.state if name.startswith(prefix)]:
            del self.state[name]
        self.version += 1

    def extend(self, name: str, parameter: Parameter) -> None:
        """Let the state of ``name`` go on with ``parameter``, of as many rows or more; the new ones begin anew."""
        for slot, array in self.state.get(name, {}).items():
            longer = np.zeros(parameter.data.shape, parameter.data.dtype)
            longer[: len(array)] = asnumpy(array)
            self.state[name][slot] = asarray(longer)
        self.version += 1

    def arrays(self) -> dict[str, Array]:
        """State by "square/S1.block1_1.body.conv1.weight"; the arrays themselves, not copies."""
        return {f"{slot}/{name}": array for name, slots in self.state.items() for slot, array in slots.items()}

    def load_arrays(self, arrays: Mapping[str, np.ndarray], parameters: Mapping[str, Parameter]) -> None:
        """Replace the state by copies of ``arrays``, named as in :meth:`arrays`; all are checked first.

        Raises
        ------
        ValueError
            If an array belongs to none of ``parameters`` or differs from it in shape or type, or one is missing.
        """
        state: dict[str, dict[str, Array]] = {}
        for key, array in arrays.items():
            slot, _, name = key.partition("/")
            if slot not in self.slots or name not in parameters:
                raise ValueError(f"optimizer state {key:.120}: there is no such parameter")
            data = parameters[name].data
            if (array.shape, array.dtype) != (data.shape, data.dtype):
                raise ValueError(f"optimizer state {key} is {array.dtype} {array.shape}, the parameter {data.shape}")
            state.setdefault(name, {})[slot] = asarray(array.copy())
        for name, slots in state.items():
            if missing := set(self.slots) - slots.keys():
                raise ValueError(f"optimizer state of {name} lacks {', '.join(sorted(missing))}")
        self.state = state
        self.version += 1


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
    hyper = ("lr", "weight_decay", "rho", "momentum", "eps")
    recordable = True

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

    def update(self, tensors: list[tuple]) -> None:
        ops.rmsprop_step_all(tensors, self.lr, self.rho, self.momentum, self.eps)


class SGD(Optimizer):
    """Gradient descent with a heavy ball (Polyak, 1964), doi:10.1016/0041-5553(64)90137-5.

    Parameters
    ----------
    lr : float
        Step length.
    momentum : float
        Decay of the velocity, in [0, 1); 0 for plain gradient descent.
    weight_decay : float
        L2 penalty, added to the gradient of the parameters that have ``decay`` set.

    Notes
    -----
    ::

        g        = grad + weight_decay * data
        velocity = momentum * velocity + g
        data     = data - lr * velocity
    """

    slots = ("velocity",)
    hyper = ("lr", "weight_decay", "momentum")
    recordable = True

    def __init__(self, lr: float = 0.1, *, momentum: float = 0.9, weight_decay: float = 1e-4) -> None:
        super().__init__(lr, weight_decay)
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum {momentum}: choose a number in [0, 1)")
        self.momentum = momentum

    def update(self, tensors: list[tuple]) -> None:
        ops.sgd_step_all(tensors, self.lr, self.momentum)
