"""How a new sub-network gets its first weights, and what is trained right after it was inserted.

Every sub-network is built with He-initialised weights. ``random`` leaves it at that and trains the whole network at
once. ``lookahead`` first trains the new sub-network and the classifier alone, on what the frozen sub-networks below
produce.
"""

from __future__ import annotations

from incnet.graph import Graph
from incnet.layer import Layer
from incnet.optim import Optimizer

__all__ = ["insert"]


def insert(graph: Graph, name: str, subnetwork: Layer, optimizer: Optimizer, *, lookahead: bool) -> None:
    """Put ``subnetwork`` on top and, for a look-ahead, freeze all that was there before.

    The optimizer keeps its state for the old parameters, by name; a rebuilt classifier starts without any.
    """
    below = len(graph.subnetworks)
    if graph.insert(name, subnetwork):
        optimizer.forget("classifier.")
    if lookahead:
        graph.freeze_prefix(below)
