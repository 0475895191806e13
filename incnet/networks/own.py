"""Networks of the user's own: made by a function of his, and checked before training.

The function takes the shape (H, W, C) of an image and a generator, which draws all weights, and returns sub-networks by
name, from the input up::

    def network(input_shape, rng):
        return {"S1": Sequential({...}), "S2": Sequential({...})}

The classifier is incnet's: global average pooling, if the last sub-network makes images, and one dense layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from copy import deepcopy
from typing import Any

import numpy as np

from incnet.backend import Array, asarray, asnumpy
from incnet.init import Blank
from incnet.layer import Layer, Shape
from incnet.networks.description import LARGEST_OUTPUT, Architecture, check_name, own_classes, shapes
from incnet.networks.stored import StoredNetwork
from incnet.user_code import UserCodeError, told

__all__ = ["MakeNetwork", "make_network"]

MakeNetwork = Callable[[Shape, np.random.Generator], Mapping[str, Layer]]
# Images of which every layer of a class of the user's own is tried.
TRIED = 2


def make_network(make: MakeNetwork, name: str, input_shape: Shape, seed: Any) -> dict[str, Layer]:
    """Call a function that makes a network, and return what it makes, checked.

    Parameters
    ----------
    name : str
        What messages call the function.
    seed : seed of a generator
        The function gets a new one, each time that it is called.

    Raises
    ------
    UserCodeError
        In one line, if it fails, or makes something that cannot be trained.
    """
    stored = isinstance(make, StoredNetwork)
    calls = 1 if stored else 2
    try:
        with nullcontext() if stored else told(name):
            made = [make(input_shape, np.random.default_rng(seed)) for _ in range(calls)]
    except ValueError as error:
        raise UserCodeError(f"{name}: {error}") from error
    try:
        subnetworks, *again = (_checked(each, input_shape) for each in made)
        for other in again:
            _check_repeated(subnetworks, other)
    except (ValueError, UserCodeError) as error:
        raise UserCodeError(f"{name}: {error}") from error
    return subnetworks


def _checked(made: Any, input_shape: Shape) -> dict[str, Layer]:
    if not isinstance(made, Mapping) or not made:
        raise ValueError(f"it returns {made!r:.80}, expected sub-networks by name, as in {{'S1': Sequential(...)}}")
    for name, subnetwork in made.items():
        if check_name(name) == "classifier":
            raise ValueError("a sub-network is called classifier, which is incnet's name for what stands on top")
        if not isinstance(subnetwork, Layer):
            raise ValueError(f"{name} is {subnetwork!r:.80}, expected a layer")
        if not subnetwork.trainable:
            raise ValueError(f"{name} has no trainable layer: pooling and dropout cannot stand by themselves")
    subnetworks = dict(made)
    _check_arrays(subnetworks)
    _check_written(subnetworks)
    _check_shapes(subnetworks, input_shape)
    return subnetworks


def _check_arrays(subnetworks: Mapping[str, Layer]) -> None:
    """Refuse a layer that is in two places, and parameters of other types than float32."""
    seen: dict[int, str] = {}
    for path, layer in _named_layers(subnetworks):
        if id(layer) in seen:
            raise ValueError(f"{path} and {seen[id(layer)]} are the same layer: make one for each place")
        seen[id(layer)] = path
    for name, subnetwork in subnetworks.items():
        for path, parameter in subnetwork.named_parameters(f"{name}."):
            if parameter.data.dtype != np.float32:
                raise ValueError(f"{path} is {parameter.data.dtype}: networks are trained in float32")


def _named_layers(children: Mapping[str, Layer], prefix: str = "") -> Iterator[tuple[str, Layer]]:
    for name, layer in children.items():
        yield prefix + name, layer
        yield from _named_layers(layer.children(), f"{prefix}{name}.")


def _check_written(subnetworks: Mapping[str, Layer]) -> None:
    """Refuse what would not come back from a file."""
    found = own_classes(subnetworks)
    again, _ = Architecture.of(subnetworks).build(Blank(), found.__getitem__)
    for name, subnetwork in subnetworks.items():
        state, other = subnetwork.state(), again[name].state()
        different = [key for key in state.keys() | other.keys() if _form(state.get(key)) != _form(other.get(key))]
        if different:
            raise ValueError(
                f"{name}.{min(different)} would be another one when the network is made again from its layers' "
                "arguments: give each layer all that it is made with as arguments"
            )


def _form(array: Array | None) -> Any:
    return None if array is None else (array.shape, array.dtype)


def _check_shapes(subnetworks: Mapping[str, Layer], shape: Shape) -> None:
    for name, subnetwork in subnetworks.items():
        for path, layer, taken, given in shapes(subnetwork, shape, name):
            if math.prod(given) > LARGEST_OUTPUT:
                raise ValueError(f"{path} makes {math.prod(given):,} values of an image, at most {LARGEST_OUTPUT:,}")
            if own_classes({path: layer}):
                _try(layer, path, taken, given)
        shape = subnetwork.output_shape(shape)
        if len(shape) not in (1, 3) or not all(isinstance(size, int) and size > 0 for size in shape):
            raise ValueError(f"{name} makes {shape} of an image; the classifier takes (H, W, C) or (features,)")


def _try(layer: Layer, name: str, taken: Shape, given: Shape) -> None:
    """Let a copy of a layer of the user's own go forward and back: what is wrong with it shows now."""
    copy, rng = deepcopy(layer), np.random.default_rng(0)
    x, dy = (asarray(rng.standard_normal((TRIED, *shape)), np.float32) for shape in (taken, given))
    with told(name):
        evaluated, trained = copy.forward(x), copy.forward(x, train=True)
    _check_form(evaluated, given, f"{name}: forward gives")
    _check_form(trained, given, f"{name}: forward gives, in training,")
    with told(name):
        dx = copy.backward(dy)
    _check_form(dx, taken, f"{name}: backward gives")
    for key, parameter in copy.named_parameters(f"{name}."):
        if parameter.grad is None or parameter.grad.shape != parameter.data.shape:
            raise ValueError(f"{name}: backward assigns no gradient to {key}, or one of another shape")


def _check_form(array: Any, shape: Shape, what: str) -> None:
    found = getattr(array, "dtype", type(array).__name__), tuple(getattr(array, "shape", ()))
    if found != (np.float32, (TRIED, *shape)):
        raise ValueError(f"{what} {found[0]} {found[1]} for {TRIED} images, expected float32 {(TRIED, *shape)}")


def _check_repeated(one: Mapping[str, Layer], other: Mapping[str, Layer]) -> None:
    """Refuse a function whose networks are not a function of shape and generator: one seed is to give one history."""
    if Architecture.of(one) != Architecture.of(other):
        raise ValueError("it makes another network each time that it is called")
    for name, subnetwork in one.items():
        state, again = subnetwork.state(), other[name].state()
        for key, array in state.items():
            if not np.array_equal(asnumpy(array), asnumpy(again[key]), equal_nan=array.dtype.kind == "f"):
                raise ValueError(f"{name}.{key} is another one each time that it is called: draw it from rng alone")
