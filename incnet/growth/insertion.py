"""How a new sub-network gets its first weights, and what is trained right after it was inserted.

Every sub-network is built with He-initialised weights: ``random``. With ``identity`` it gets weights that leave the
network's output as it is. Either way the whole network is then trained at once, or first, in a look-ahead, the new
sub-network and the classifier alone, on what the frozen sub-networks below produce.

====================  ==============  ==========
``--init``            weights         look-ahead
====================  ==============  ==========
random                He              no
lookahead             He              yes
identity              identity        no
lookahead+identity    identity        yes
====================  ==============  ==========
"""

from __future__ import annotations

from incnet.backend import Array
from incnet.graph import Graph
from incnet.growth.identity import carry, carry_classifier, read_by_classifier
from incnet.layer import Layer
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
) -> None:
    """Put ``subnetwork`` on top and, for a look-ahead, freeze all that was there before.

    Parameters
    ----------
    preserve_on : (N, H, W, C), optional
        A sample of training images; the sub-network's weights are then those that leave the output as it is.

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
        x = preserve_on
        for layer in graph.subnetworks.values():
            x = layer.forward(x)
        before = read_by_classifier(classifier, x)
        y = carry(subnetwork, x)
        graph.insert(name, subnetwork)
        carry_classifier(classifier, graph.classifier, before, read_by_classifier(graph.classifier, y))
        for parameter_name, parameter in graph.classifier.named_parameters("classifier."):
            optimizer.extend(parameter_name, parameter)
    if lookahead:
        graph.freeze_prefix(below)
