"""How a new sub-network gets its first weights, and what is trained right after it was inserted.

Every sub-network is built with He-initialised weights, ``--init random``; others take their place with ``identity`` and
``copy``. With ``lookahead`` it is first trained with the classifier alone, else the whole network at once.
"""

from __future__ import annotations

from incnet.backend import Array
from incnet.graph import Graph
from incnet.growth.copying import copy_from_below
from incnet.growth.identity import carry, carry_classifier
from incnet.layer import Layer
from incnet.layers import Linear
from incnet.optim import Optimizer

__all__ = ["insert"]


def insert(
    graph: Graph,
    name: str,
    subnetwork: Layer,
    optimizer: Optimizer,
    *,
    lookahead: bool,
    preserve_on: Array | None = None,
    copy: bool = False,
) -> None:
    """Put ``subnetwork`` in and, for a look-ahead, freeze all that was there before.

    Parameters
    ----------
    graph : Graph
        Changed in place.
    name : str
        Of the new sub-network, which no other one has.
    subnetwork : Layer
        Goes on top of those that are there; an :class:`incnet.layers.Interleaved` goes between their layers.
    optimizer : Optimizer
        Of the graph; its state is made to fit.
    lookahead : bool
        Whether all that was there before is frozen.
    preserve_on : (N, H, W, C), optional
        A sample of training images; the sub-network's weights are then those that leave the output as it is.
    copy : bool
        Whether each of its blocks begins with what the block below has learnt; see :mod:`incnet.growth.copying`.

    Notes
    -----
    The optimizer keeps its state for the old parameters, by name. A rebuilt classifier starts without any, unless the
    output is preserved: then so are the gradients of the weights that it keeps, and their state goes on to fit them.
    """
    below, classifier = len(graph.subnetworks), graph.classifier
    if preserve_on is None:
        if graph.insert(name, subnetwork):
            optimizer.forget("classifier.")
    else:
        before = _read_by_classifier(graph, preserve_on)
        graph.insert(name, subnetwork)
        after = _read_by_classifier(graph, preserve_on, new=name)
        carry_classifier(classifier, graph.classifier, before, after)
        for parameter_name, parameter in graph.classifier.named_parameters("classifier."):
            optimizer.extend(parameter_name, parameter)
    if copy:
        copy_from_below(graph, name)
    if lookahead:
        graph.freeze_prefix(below)


def _read_by_classifier(graph: Graph, x: Array, new: str = "") -> Array:
    """What the classifier's dense layer reads of images x; the sub-network ``new`` is made to carry its input."""
    for name, layer in graph.row:
        x = carry(layer, x) if name == new else layer.forward(x)
    for layer in graph.classifier.flattened():
        if not isinstance(layer, Linear):
            x = layer.forward(x)
    return x
