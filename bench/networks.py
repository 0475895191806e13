"""Whole networks, with the weights that everything that is compared starts from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from incnet.fusion import fuse
from incnet.graph import Graph
from incnet.layer import Shape
from incnet.models import build, make_classifier

__all__ = ["whole_network"]


def whole_network(
    arch: str,
    input_shape: Shape,
    *,
    num_classes: int = 10,
    split: str | int = "filters",
    subnetworks: int | None = None,
    fused: Callable[[int], bool] = lambda number: True,
) -> Graph:
    """Return a network with He-initialised weights, the same in every call, and all of its sub-networks in.

    Parameters
    ----------
    subnetworks : int, optional
        How many of them, instead of all.
    fused : callable
        Takes the number of a sub-network, counted from 0; whether its layers are computed in fused steps.

    Raises
    ------
    ValueError
        If there is no such architecture or partition.
    """
    rng = np.random.default_rng(0)
    graph = Graph(input_shape, lambda shape: make_classifier(shape, num_classes, rng=rng))
    parts = list(build(arch, input_shape, rng=rng, split=split).items())
    for number, (name, subnetwork) in enumerate(parts[:subnetworks]):
        graph.insert(name, fuse(subnetwork) if fused(number) else subnetwork)
    return graph
