"""The contract of every layer."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from incnet.backend import Array, asarray
from incnet.inputs import check_batch
from incnet.parameter import Parameter

__all__ = ["Cost", "Layer", "Shape", "at_least", "check_layer"]

# Shape of one sample, without the batch axis: (H, W, C) or (features,).
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Cost:
    """Multiply-adds for one sample in each of the three passes.

    Attributes
    ----------
    forward, weight_grad, input_grad : int
        Of y, of the parameters' gradients, and of dx.
    """

    forward: int = 0
    weight_grad: int = 0
    input_grad: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.forward + other.forward, self.weight_grad + other.weight_grad, self.input_grad + other.input_grad
        )

    @property
    def total(self) -> int:
        """Multiply-adds of a training step, per sample."""
        return self.forward + self.weight_grad + self.input_grad


class Layer:
    """A differentiable function with parameters.

    - ``forward(x, train=False)`` returns y. With ``train`` it keeps what backward needs, and only then.
    - ``backward(dy, need_dx=True)`` returns dx, or None if it is not needed; it assigns the parameters' ``grad`` and
      releases what forward kept, so that a second backward is an error.
    - Inputs are never changed; the output has the input's dtype.
    - A *frozen* layer still hands dx on when asked, but computes no parameter gradients and moves no statistics.

    Sub-classes name the arrays of their state that are not trained in ``buffers``; parameters and layers are found
    among the attributes, in the order of assignment.
    """

    buffers: tuple[str, ...] = ()
    # Whether all that this very class computes on arrays goes through the backend: see incnet.training.replay.
    recordable = False
    # How many axes a batch has to have, that of the samples included, where a layer takes no other number.
    input_axes: int | None = None

    def __init__(self) -> None:
        self.frozen = False
        self._kept: tuple | None = None

    # What a layer computes.

    def check(self, x: Array) -> None:
        """Raise ValueError unless x is a batch that this layer can take: of floats, and not empty."""
        check_batch(type(self).__name__, x, axes=self.input_axes)

    def forward(self, x: Array, train: bool = False) -> Array:
        """Return y for a batch x; with ``train`` keep what backward needs."""
        raise NotImplementedError

    def recalibrate(self, x: Array) -> Array:
        """Return y as in training, so that the running statistics move, but without dropout, and keep nothing."""
        y = self.forward(x, train=True)
        self.discard()
        return y

    def backward(self, dy: Array, need_dx: bool = True) -> Array | None:
        """Return dx for the gradient dy of the last forward's output; assign the parameters' gradients.

        Without ``need_dx`` return None: dx is not computed.

        Raises
        ------
        RuntimeError
            If no forward pass with ``train`` came before it.
        """
        raise NotImplementedError

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of one output for an input of ``shape``, both without the batch axis."""
        return shape

    def macs(self, shape: Shape) -> int:
        """Multiply-adds of the forward pass for one input of ``shape``; element-wise work is not counted."""
        return 0

    def cost(self, shape: Shape, need_dx: bool = True) -> Cost:
        """Multiply-adds of one training step for one input of ``shape``: each gradient costs as much as forward.

        Without ``need_dx``, dx is not computed.
        """
        macs = self.macs(shape)
        return Cost(macs, macs if self.trainable else 0, macs if need_dx else 0)

    # What backward needs: kept in one place, released in one place.

    def keep(self, *values: Any) -> None:
        """Keep ``values`` for backward."""
        self._kept = values

    def release(self) -> tuple:
        """Hand the kept values out and forget them.

        Raises
        ------
        RuntimeError
            If there are none.
        """
        if self._kept is None:
            raise RuntimeError(
                f"{type(self).__name__}.backward: nothing to go back through; call forward(x, train=True) first"
            )
        kept, self._kept = self._kept, None
        return kept

    def discard(self) -> None:
        """Forget whatever forward kept, here and below."""
        self._kept = None
        for layer in self.children().values():
            layer.discard()

    @property
    def holds_activations(self) -> bool:
        """Whether anything is kept for backward, here or below."""
        return self._kept is not None or any(layer.holds_activations for layer in self.children().values())

    # Structure.

    def children(self) -> dict[str, Layer]:
        """Layers that this one is made of, by name, in order."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Layer)}

    def arguments(self) -> dict[str, Any]:
        """Return the arguments that make a layer like this one, but for its generator ``rng`` and its ``dtype``.

        They are what a file holds of a layer, see :mod:`incnet.networks.description`: numbers, texts, layers, and lists
        and mappings of these. Each is the attribute of its name, unless a class overrides this.

        Raises
        ------
        AttributeError
            If there is no such attribute.
        """
        names = inspect.signature(type(self)).parameters
        return {name: getattr(self, name) for name in names if name not in ("rng", "dtype")}

    def unfused(self) -> Layer:
        """Return the textbook layer, with the same parameters, that this one computes faster; else itself."""
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.children())})"

    def layers(self) -> Iterator[Layer]:
        """Yield this layer and all below it, in order."""
        yield self
        for layer in self.children().values():
            yield from layer.layers()

    def flattened(self) -> Iterator[Layer]:
        """Yield what is applied one after the other: this layer, or the layers of a chain and of chains within it."""
        yield self

    def named_parameters(self, prefix: str = "", *, frozen: bool = True) -> Iterator[tuple[str, Parameter]]:
        """Yield ("block1.conv1.weight", parameter), ... in a fixed order; those of frozen layers only if ``frozen``."""
        for name, value in vars(self).items():
            if isinstance(value, Parameter) and (frozen or not self.frozen):
                yield prefix + name, value
        for name, layer in self.children().items():
            yield from layer.named_parameters(f"{prefix}{name}.", frozen=frozen)

    def named_buffers(self, prefix: str = "") -> Iterator[tuple[str, Array]]:
        """Yield ("block1.norm1.running_mean", array), ... in a fixed order."""
        for name in self.buffers:
            yield prefix + name, getattr(self, name)
        for name, layer in self.children().items():
            yield from layer.named_buffers(f"{prefix}{name}.")

    def parameters(self) -> list[Parameter]:
        """All parameters, here and below."""
        return [parameter for _, parameter in self.named_parameters()]

    def num_parameters(self) -> int:
        """Number of trainable values, frozen or not."""
        return sum(parameter.data.size for parameter in self.parameters())

    @property
    def trainable(self) -> bool:
        """Whether backward has any parameter gradient to compute here or below."""
        own = not self.frozen and any(isinstance(value, Parameter) for value in vars(self).values())
        return own or any(layer.trainable for layer in self.children().values())

    # State.

    def freeze(self) -> Self:
        """Fix all parameters and statistics, here and below."""
        for layer in self.layers():
            layer.frozen = True
        for parameter in self.parameters():
            parameter.grad = None
        return self

    def unfreeze(self) -> Self:
        """Undo :meth:`freeze`."""
        for layer in self.layers():
            layer.frozen = False
        return self

    def state(self) -> dict[str, Array]:
        """Parameters and buffers by name; the arrays themselves, not copies."""
        return {name: parameter.data for name, parameter in self.named_parameters()} | dict(self.named_buffers())

    def load_state(self, state: dict[str, Array]) -> None:
        """Copy ``state`` into the parameters and buffers; checked whole before anything is changed.

        Raises
        ------
        ValueError
            If a name is missing or unknown, or a shape differs.
        """
        mine = self.state()
        if missing := mine.keys() - state.keys():
            raise ValueError(f"state lacks {', '.join(sorted(missing))}")
        if unknown := state.keys() - mine.keys():
            raise ValueError(f"state has {', '.join(sorted(unknown))}, which this network does not have")
        for name, array in mine.items():
            if state[name].shape != array.shape:
                raise ValueError(
                    f"{name} has shape {tuple(state[name].shape)} in the state, {array.shape} in the network"
                )
        for name, array in mine.items():
            array[...] = asarray(state[name], array.dtype)


def check_layer(name: str, layer: Any) -> None:
    """Raise TypeError, naming what should be a layer and is none, or was not made as one."""
    if isinstance(layer, type):
        raise TypeError(f"{name} is the class {layer.__name__}: give a layer, as {layer.__name__}() makes it")
    if not isinstance(layer, Layer):
        raise TypeError(f"{name} is {layer!r:.80}: give a layer; several are one as Sequential({{'relu': ReLU()}})")
    if not hasattr(layer, "frozen"):
        raise TypeError(f"{name}: {type(layer).__name__}.__init__ does not call super().__init__() first")


def at_least(least: int, **arguments: int) -> None:
    """Raise an error that names the first argument of a layer that is no whole number, or less."""
    for name, value in arguments.items():
        if not isinstance(value, int | np.integer):
            raise TypeError(f"{name} is {value!r:.40}: choose a whole number, at least {least}")
        if value < least:
            raise ValueError(f"{name} is {value}: choose at least {least}")
