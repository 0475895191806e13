"""Initialisation by copying: a block that is inserted begins with what the block below it has learnt.

What is copied is a convolution or a batch norm with all that it has, statistics included, or not at all: where the
block below reads fewer channels, the first convolution keeps its He-initialised weights.

Source: Gong et al. (2019), Efficient training of BERT by progressively stacking, ICML 97.
"""

from __future__ import annotations

from collections.abc import Mapping

from incnet.backend import Array
from incnet.graph import Graph

__all__ = ["copy_from_below"]


def copy_from_below(graph: Graph, name: str) -> None:
    """Let each block of the sub-network ``name``, from the input up, begin as the one below it, where they fit."""
    below: Mapping[str, Array] = {}
    for owner, chain in graph.row:
        for block in chain.children().values():
            state = block.state()
            if owner == name:
                _copy(state, below)
            below = state


def _copy(state: Mapping[str, Array], below: Mapping[str, Array]) -> None:
    """Copy arrays of the same name, and those that have a block's name before it, layer by layer."""
    layers: dict[str, list[str]] = {}
    for name in state:
        layers.setdefault(name.rpartition(".")[0], []).append(name)
    for names in layers.values():
        sources = [
            next((array for key, array in below.items() if f".{key}".endswith(f".{name}")), None) for name in names
        ]
        if all(
            source is not None and source.shape == state[name].shape
            for name, source in zip(names, sources, strict=True)
        ):
            for name, source in zip(names, sources, strict=True):
                state[name][...] = source
