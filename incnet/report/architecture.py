"""A network's sub-networks and their layers, in words."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby

from incnet.init import Blank
from incnet.layer import Layer
from incnet.layers import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    Interleaved,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
)
from incnet.layers.residual import Residual
from incnet.models import build
from incnet.names import DEPTH
from incnet.networks.stored import NETWORK, read_architecture
from incnet.report.history import History
from incnet.user_code import is_place

__all__ = ["CLASSIFIER", "Part", "parts"]

CLASSIFIER = "classifier"
TIMES = "\N{MULTIPLICATION SIGN}"
# Sides of the images that a data set has; of others, and of large ones, layers are told as they are for 32 x 32 pixels.
SIDES = {"digits": 8, "mnist": 28, "fashion-mnist": 28}
SIDE = 32
MOST_VALUES = 2**28  # of a network that is described: a bound for memory


@dataclass(frozen=True)
class Part:
    """A sub-network, or the classifier; ``layers`` has a line for each layer that is trained, with what follows it.

    Those of an ``interleaved`` one lie between those of others.
    """

    name: str
    layers: tuple[str, ...]
    interleaved: bool = False


def parts(run: History) -> list[Part]:
    """Return the sub-networks of a run's network, in order, and the classifier.

    Where this version of incnet knows no such network, those that were inserted, without their layers.
    """
    if is_place(run.setup.arch):
        return _own_parts(run, [stage.insert.subnetwork for stage in run.stages])
    side = min(SIDE, run.setup.resize or SIDES.get(run.setup.dataset, SIDE))
    inserted = [stage.insert.subnetwork for stage in run.stages]
    try:
        found = dict(_layers(run.setup.arch, run.setup.partition, side))
    except Exception:  # the text of a file, and a device that has no room for such a network
        found = {}
    if not set(inserted) <= found.keys():
        found = dict.fromkeys(inserted, ())
    interleaved = DEPTH.fullmatch(run.setup.partition) is not None
    return [
        *(Part(name, layers, interleaved) for name, layers in found.items()),
        Part(CLASSIFIER, ("pooling · dense",)),
    ]


def _own_parts(run: History, inserted: list[str]) -> list[Part]:
    """Those of a network of the user's own, which its folder describes."""
    try:
        network = read_architecture(run.path / NETWORK)
        found, _ = network.build(Blank(), _stand_in, MOST_VALUES)
        layers = {name: tuple(_lines(subnetwork)) for name, subnetwork in found.items()}
    except (OSError, ValueError):
        layers = {}
    if not set(inserted) <= layers.keys():
        layers = dict.fromkeys(inserted, ())
    return [*(Part(name, words) for name, words in layers.items()), Part(CLASSIFIER, ("pooling · dense",))]


def _stand_in(name: str) -> Callable[..., Layer]:
    """Return what makes a layer that is called as a class of the user's own is, and does nothing."""
    word = name.rpartition(":")[2]
    kind = type(word if word.isidentifier() else "layer", (Layer,), {})
    return lambda **arguments: kind()


@functools.lru_cache(maxsize=32)
def _layers(arch: str, partition: str, side: int) -> tuple[tuple[str, tuple[str, ...]], ...]:
    subnetworks = build(arch, (side, side, 3), rng=Blank(), split=partition)
    return tuple((name, tuple(_lines(subnetwork))) for name, subnetwork in subnetworks.items())


def _lines(subnetwork: Layer) -> Iterator[str]:
    lines: list[list[str]] = []
    for layer in _leaves(subnetwork):
        if isinstance(layer, Conv2d | Linear | Residual) or not lines:
            lines.append([])
        lines[-1].append(_words(layer))
    for line, equal in groupby(" · ".join(words) for words in lines):
        count = len(list(equal))
        yield f"{count} {TIMES} {line}" if count > 1 else line


def _leaves(layer: Layer) -> Iterator[Layer]:
    if isinstance(layer, Sequential | Interleaved):
        for child in layer.children().values():
            yield from _leaves(child)
    elif not isinstance(layer, Flatten):
        yield layer


def _words(layer: Layer) -> str:
    match layer:
        case Residual():
            first = next((leaf for leaf in _leaves(layer.body) if isinstance(leaf, Conv2d)), None)
            if first is None:
                return "residual block"
            halves = ", half the size" if first.stride > 1 else ""
            return f"residual block, {first.weight.data.shape[3]} filters{halves}"
        case Conv2d():
            height, width, _, filters = layer.weight.data.shape
            return f"conv {height}{TIMES}{width}, {filters} filters"
        case Linear():
            return f"dense, {layer.weight.data.shape[1]:,} nodes"
        case MaxPool2d():
            return f"max pooling {layer.size}{TIMES}{layer.size}"
        case AvgPool2d():
            return f"average pooling {layer.size}{TIMES}{layer.size}"
        case BatchNorm2d():
            return "batch norm"
        case ReLU():
            return "ReLU"
        case LeakyReLU():
            return "leaky ReLU"
        case Dropout():
            return f"dropout {layer.rate:g}"
    return type(layer).__name__
