"""Networks as data, and back: each layer by the name of its class and the arguments that make it, as JSON values.

A layer is an object with two keys, and so are the layers that it is made of::

    {"layer": "Conv2d", "arguments": {"in_channels": 3, "out_channels": 16, "kernel_size": 3, "stride": 1, ...}}
    {"layer": "Sequential", "arguments": {"layers": {"conv": {...}, "norm": {...}, "relu": {...}}}}

Arguments are what :meth:`incnet.layer.Layer.arguments` says. Weights are none of them, nor is what makes a layer
faster: it is the textbook layer that is written. incnet's classes go by their names. A class of somebody's own goes by
its module and its name, ``net:Swish``, and is never imported from here: whoever reads says where it is to be found.

What is read is untrusted: nothing is built but these classes, of arguments that have the right types and are bounded.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_type_hints

import numpy as np

from incnet import layers
from incnet.checked_json import check_depth, from_json, later, to_json
from incnet.layer import Layer, Shape
from incnet.layers import Residual, Sequential

__all__ = ["LAYERS", "Architecture", "class_name", "own_classes", "shapes"]

LAYERS: dict[str, type[Layer]] = {
    name: kind for name, kind in vars(layers).items() if name in layers.__all__ and isinstance(kind, type)
}


def _parameters(kind: type[Layer]) -> tuple[dict[str, inspect.Parameter], dict[str, Any]]:
    """Return a class's arguments but for generator and dtype, and their types."""
    parameters = dict(inspect.signature(kind).parameters)
    hints = get_type_hints(kind.__init__) if parameters else {}
    return {name: each for name, each in parameters.items() if name not in ("rng", "dtype")}, hints


PARAMETERS = {name: _parameters(kind) for name, kind in LAYERS.items()}
# Bounds for what a file can ask for: the size of a layer, values that a layer makes of an image, and objects in each
# other.
LARGEST_SIZE, LARGEST_OUTPUT, DEEPEST = 2**22, 2**26, 64
LONGEST_NAME = 80

# Returns the class, or another callable that makes the layer, of a name; raises ValueError if it is not to be had.
Find = Callable[[str], Callable[..., Layer]]


@dataclass(frozen=True)
class Architecture:
    """A network as data.

    Attributes
    ----------
    format : int
        Version of this description.
    subnetworks : dict of str to data
        In order, from the input up.
    classifier : data or None
        What stands on top; None if it is yet to be made.

    Raises
    ------
    ValueError
        If it is no such description, as far as can be said without building the network.
    """

    format: Literal[1]
    subnetworks: dict[str, Any]
    classifier: Any = later(None)

    def __post_init__(self) -> None:
        check_depth([self.subnetworks, self.classifier], DEEPEST)
        if not self.subnetworks:
            raise ValueError("a network without sub-networks")
        for name in self.subnetworks:
            check_name(name)

    @classmethod
    def of(cls, subnetworks: Mapping[str, Layer], classifier: Layer | None = None) -> Architecture:
        """Describe a network.

        Raises
        ------
        ValueError
            If a layer of somebody's own does not say its arguments.
        """
        described = {name: _to_data(subnetwork, name) for name, subnetwork in subnetworks.items()}
        return cls(1, described, None if classifier is None else _to_data(classifier, "classifier"))

    def build(
        self, rng: np.random.Generator, find: Find, values: int | None = None
    ) -> tuple[dict[str, Layer], Layer | None]:
        """Return sub-networks and classifier.

        Parameters
        ----------
        rng : numpy.random.Generator
            Draws the weights.
        find : callable
            Returns the class, given the name, of a layer that is none of incnet's.
        values : int, optional
            Numbers in parameters and statistics at most: nothing larger is built.

        Raises
        ------
        ValueError
            If there is no such network.
        """
        builder = _Builder(rng, find, values)
        subnetworks = {name: builder.layer(data, name) for name, data in self.subnetworks.items()}
        return subnetworks, None if self.classifier is None else builder.layer(self.classifier, "classifier")


# Layers to data.


def _to_data(layer: Layer, name: str) -> dict[str, Any]:
    """Return ``layer``, which messages call ``name``, as JSON values.

    Raises
    ------
    ValueError
        If it does not say its arguments, or JSON has not got them.
    """
    layer = layer.unfused()
    try:
        arguments = {key: _argument_to_data(value, f"{name}.{key}") for key, value in layer.arguments().items()}
    except (AttributeError, TypeError) as error:
        kind = type(layer).__name__
        raise ValueError(
            f"{name}: what makes this {kind} cannot be written down: {error}; keep each argument of {kind} as the "
            "attribute of its name, or override its method arguments()"
        ) from error
    return {"layer": class_name(type(layer)), "arguments": arguments}


def _argument_to_data(value: Any, name: str) -> Any:
    if isinstance(value, Layer):
        return _to_data(value, name)
    if isinstance(value, Mapping):
        return {check_name(key): _argument_to_data(each, f"{name}.{key}") for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_argument_to_data(each, f"{name}[{i}]") for i, each in enumerate(value)]
    return to_json(value, name)


def class_name(kind: type[Layer]) -> str:
    """Return what data calls a class: ``Conv2d``; ``net:Swish`` if it is none of incnet's."""
    own = LAYERS.get(kind.__name__) is not kind
    return f"{kind.__module__}:{kind.__qualname__}" if own else kind.__name__


def own_classes(subnetworks: Mapping[str, Layer]) -> dict[str, type[Layer]]:
    """Return the classes of these networks' layers that are none of incnet's, by the names that data has for them."""
    kinds = {type(layer.unfused()) for subnetwork in subnetworks.values() for layer in subnetwork.layers()}
    return {name: kind for kind in kinds if ":" in (name := class_name(kind))}


# Data to layers.


@dataclass(frozen=True)
class _Described:
    layer: str
    arguments: dict[str, Any]


class _Builder:
    """Makes layers out of data; ``values`` is what it may still make."""

    def __init__(self, rng: np.random.Generator, find: Find, values: int | None) -> None:
        self.rng, self.find, self.values = rng, find, values

    def layer(self, data: Any, name: str) -> Layer:
        described: _Described = from_json(_Described, data, name)
        kind = LAYERS.get(described.layer)
        built = self._own(described, name) if kind is None else self._of(kind, described.arguments, name)
        self._count(built)
        return built

    def _of(self, kind: type[Layer], given: dict[str, Any], name: str) -> Layer:
        """Make a layer of one of incnet's classes."""
        parameters, hints = PARAMETERS[kind.__name__]
        if unknown := sorted(given.keys() - parameters.keys()):
            raise ValueError(f"{name}: {kind.__name__} takes no {unknown[0]!r:.80}")
        needed = (key for key, each in parameters.items() if each.default is inspect.Parameter.empty)
        if missing := [key for key in needed if key not in given]:
            raise ValueError(f"{name}: {kind.__name__} lacks {', '.join(missing)}")
        arguments = {key: self._argument(hints[key], value, f"{name}.{key}") for key, value in given.items()}
        try:
            return kind(**arguments, **self._generator(kind))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error

    def _argument(self, kind: Any, value: Any, name: str) -> Any:
        if kind is Layer:
            return self.layer(value, name)
        if kind == Mapping[str, Layer]:
            inner: dict[str, Any] = from_json(dict[str, Any], value, name)
            return {check_name(key): self.layer(each, f"{name}.{key}") for key, each in inner.items()}
        found = from_json(kind, value, name)
        if isinstance(found, int) and abs(found) > LARGEST_SIZE:
            raise ValueError(f"{name} is {found!s:.40}, more than {LARGEST_SIZE:,}")
        return found

    def _own(self, described: _Described, name: str) -> Layer:
        """Make a layer of a class that somebody trusts: whatever it takes."""
        make = self.find(described.layer)
        arguments = {key: self._own_argument(value, f"{name}.{key}") for key, value in described.arguments.items()}
        try:
            layer = make(**arguments, **self._generator(make))
        except Exception as error:
            raise ValueError(f"{name}: {described.layer!r:.80} cannot be made: {error!r}") from error
        if not isinstance(layer, Layer):
            raise ValueError(f"{name}: {described.layer!r:.80} makes no layer")
        return layer

    def _own_argument(self, value: Any, name: str) -> Any:
        match value:
            case {"layer": str(), "arguments": dict()} if len(value) == 2:
                return self.layer(value, name)
            case dict():
                return {check_name(key): self._own_argument(each, f"{name}.{key}") for key, each in value.items()}
            case list():
                return [self._own_argument(each, f"{name}[{i}]") for i, each in enumerate(value)]
        return value

    def _generator(self, kind: Callable[..., Layer]) -> dict[str, Any]:
        return {"rng": self.rng} if "rng" in inspect.signature(kind).parameters else {}

    def _count(self, layer: Layer) -> None:
        """Take what a layer has by itself, not its parts', from what may be made."""
        if self.values is None:
            return
        of_parts = sum(_size(child) for child in layer.children().values())
        self.values -= _size(layer) - of_parts
        if self.values < 0:
            raise ValueError("the network has more parameters and statistics than there are values for")


def _size(layer: Layer) -> int:
    """Numbers in a layer's state, less the seeds of dropout, the only integers."""
    return sum(array.size for array in layer.state().values() if array.dtype.kind == "f")


def check_name(name: Any) -> str:
    """Return what a layer is called; raise ValueError if it cannot be: names are joined by dots, and are shown."""
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME or not name.isprintable() or "." in name:
        raise ValueError(f"a layer cannot be called {name!r:.120}: choose up to {LONGEST_NAME} letters, without dots")
    return name


# Sizes.


def shapes(layer: Layer, shape: Shape, name: str) -> Iterator[tuple[str, Layer, Shape, Shape]]:
    """Yield name, layer, and shapes of input and output, without the batch axis, of all that computes in ``layer``.

    Of chains and residual blocks these are their parts.

    Raises
    ------
    ValueError
        If a layer does not take what it is given.
    """
    inside = layer.unfused()
    if type(inside) is Sequential:
        for key, child in inside.children().items():
            yield from shapes(child, shape, f"{name}.{key}")
            shape = child.output_shape(shape)
        return
    if type(inside) is Residual:
        for key in ("body", "shortcut"):
            yield from shapes(inside.children()[key], shape, f"{name}.{key}")
    try:
        yield name, layer, shape, layer.output_shape(shape)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
