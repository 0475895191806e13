"""Splitting a network into sub-networks before training begins.

An architecture is a row of *units*, the smallest pieces that it can be cut into, each with the group that it belongs
to: its number of filters, or of output nodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby, pairwise
from typing import NamedTuple

from incnet.layer import Layer
from incnet.layers import AvgPool2d, Interleaved, Linear, MaxPool2d, Sequential
from incnet.names import DEPTH

__all__ = ["Unit", "partition"]


class Unit(NamedTuple):
    """One piece of an architecture.

    Attributes
    ----------
    name : str
        Under which its layer stands in a sub-network: ``block2_1``.
    group : str
        What units of equal width share: a sub-network is made of each group, with ``filters``.
    layer : Layer
        What it computes.
    """

    name: str
    group: str
    layer: Layer


def partition(units: list[Unit], how: str | int = "filters") -> dict[str, Sequential | Interleaved]:
    """Return the sub-networks S1 .. SK of a row of units.

    Parameters
    ----------
    units : list of Unit
        In order. Every one holds a trainable layer.
    how : "filters", "blocks", int, "depth" or "depth:K"
        One sub-network for each group of equal width (the paper's choice); for each unit; or that many sub-networks of
        as equal numbers of units as can be, the larger ones first. Or a shallow network that grows within its groups:
        S1 has the first unit of each, all pooling and all dense layers; the other units come at once, as S2, or in
        K - 1 rounds, each with as equal numbers from every group as can be.

    Raises
    ------
    ValueError
        If there are not that many units, or ``how`` is something else.
    """
    if isinstance(how, str) and (match := DEPTH.fullmatch(how)):
        return _in_depth(units, how, rounds=int(match[1] or 2) - 1)
    if how == "filters":
        parts = [list(part) for _, part in groupby(units, key=lambda unit: unit.group)]
    elif how == "blocks":
        parts = [[unit] for unit in units]
    else:
        parts = _equal_parts(units, how)
    return {f"S{k}": Sequential({unit.name: unit.layer for unit in part}) for k, part in enumerate(parts, start=1)}


def _equal_parts(units: list[Unit], how: str | int) -> list[list[Unit]]:
    try:
        count = int(how)
    except ValueError:
        raise ValueError(f"partition {how!r}: choose 'filters', 'blocks', 'depth' or a number") from None
    if not 1 <= count <= len(units):
        raise ValueError(f"partition {count}: this network can be cut into 1 to {len(units)} sub-networks")
    return _shared_out(units, count)


def _shared_out(units: list[Unit], count: int) -> list[list[Unit]]:
    size, larger = divmod(len(units), count)
    starts = [k * size + min(k, larger) for k in range(count + 1)]
    return [units[a:b] for a, b in pairwise(starts)]


# Growth within the groups.


def _in_depth(units: list[Unit], how: str, rounds: int) -> dict[str, Sequential | Interleaved]:
    """The first unit of each group, then the others in so many rounds."""
    parts: list[dict[str, Layer]] = [{} for _ in range(1 + rounds)]
    after, below, most = dict[str, str](), "", 0
    for _, group in groupby(units, key=lambda unit: unit.group):
        first, *others = group
        later = [unit for unit in others if not any(isinstance(layer, Linear) for layer in unit.layer.layers())]
        part_of = {unit.name: k for k, part in enumerate(_shared_out(later, rounds), start=1) for unit in part}
        most = max(most, len(later))
        for name, layer in (piece for unit in (first, *others) for piece in _pieces(unit)):
            k = part_of.get(name, 0)
            parts[k][name] = layer
            if k:
                after[name] = below
            below = name
    if rounds > most:
        choices = f"depth:2 to depth:{most + 1}" if most else "another one: it has a single block of each width"
        raise ValueError(f"partition {how}: for this network choose {choices}")
    return {
        f"S{k}": Interleaved(part, {name: below for name, below in after.items() if name in part})
        for k, part in enumerate(parts, start=1)
    }


def _pieces(unit: Unit) -> Iterator[tuple[str, Layer]]:
    """Yield a unit, and by itself the pooling that ends it, if it does."""
    match list(unit.layer.children().items()) if type(unit.layer) is Sequential else []:
        case [*layers, (name, MaxPool2d() | AvgPool2d() as pool)] if layers:
            yield unit.name, Sequential(dict(layers))
            yield f"{unit.name}_{name}", pool
        case _:
            yield unit.name, unit.layer
