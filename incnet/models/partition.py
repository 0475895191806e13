"""Splitting a network into sub-networks before training begins.

An architecture is a row of *units*, the smallest pieces that it can be cut into, each with the group that it belongs
to: its number of filters, or of output nodes.
"""

from __future__ import annotations

from itertools import groupby, pairwise
from typing import NamedTuple

from incnet.layer import Layer
from incnet.layers import Sequential

__all__ = ["Unit", "partition"]


class Unit(NamedTuple):
    """One piece of an architecture."""

    name: str
    group: str
    layer: Layer


def partition(units: list[Unit], how: str | int = "filters") -> dict[str, Sequential]:
    """Return the sub-networks S1 .. SK of a row of units.

    Parameters
    ----------
    units : list of Unit
        In order. Every one holds a trainable layer.
    how : "filters", "blocks" or int
        One sub-network for each group of equal width (the paper's choice); for each unit; or that many sub-networks of
        as equal numbers of units as can be, the larger ones first.

    Raises
    ------
    ValueError
        If there are not that many units, or ``how`` is something else.
    """
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
        raise ValueError(f"partition {how!r}: choose 'filters', 'blocks' or a number") from None
    if not 1 <= count <= len(units):
        raise ValueError(f"partition {count}: this network can be cut into 1 to {len(units)} sub-networks")
    size, larger = divmod(len(units), count)
    starts = [k * size + min(k, larger) for k in range(count + 1)]
    return [units[a:b] for a, b in pairwise(starts)]
