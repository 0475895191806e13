"""Batch normalisation's running statistics, taken anew of the weights as they are.

While weights move, the running averages of a batch's statistics lag behind them: what is evaluated then is a network
that never was. So before a network is read, for evaluation, to be frozen or to be saved, its statistics are computed
again over a few batches of training images, all with the same weights (precise batch norm; Wu and Johnson, 2021,
arXiv:2105.07576, section 3).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from incnet.backend import Array, asarray
from incnet.graph import Graph
from incnet.layers.norm import BatchNorm2d
from incnet.layers.reduction import Reduction

__all__ = ["recalibrate", "recalibrated_layers"]


def recalibrate(
    graph: Graph,
    batches: Iterable[tuple[Array, Array]],
    *,
    from_features: bool = False,
    reduction: Reduction | None = None,
) -> int:
    """Set the running statistics of all layers that are not frozen to their means over ``batches``.

    With mu_b and v_b the mean and the unbiased variance of a channel in batch b of B, over the images of all ranks::

        running_mean = sum(mu_b) / B        running_var = sum(v_b) / B

    Frozen layers, dropout, and all parameters stay as they are. Without batches nothing changes.

    Parameters
    ----------
    graph : Graph
        Changed in place.
    batches : iterable of (images, labels)
        Of training images (N, H, W, C), this rank's part of each, or of the frozen prefix's features of them.
    from_features : bool
        Which of the two.
    reduction : Reduction, optional
        How those of a batch are taken: over the images here; or, by
        :class:`incnet.parallel.sync_bn.SyncReduction`, over those of all ranks.

    Returns
    -------
    int
        Images that were looked at, on all ranks; 0 where there is no layer to recalibrate.
    """
    layers, seen = recalibrated_layers(graph), 0
    if not layers:
        return 0
    reduction = reduction or Reduction()
    with _restored(graph):
        for layer in _batch_norms(graph):
            layer.reduction = reduction
        for number, (images, _) in enumerate(batches):
            seen += reduction.begin(len(images))
            for layer in layers:
                layer.decay = number / (number + 1)  # the running average is the mean of the batches so far
            graph.recalibrate(asarray(images), from_features=from_features)
    return seen


def recalibrated_layers(graph: Graph) -> list[BatchNorm2d]:
    """Layers whose running statistics training moves."""
    return [layer for layer in _batch_norms(graph) if not layer.frozen]


def _batch_norms(graph: Graph) -> Iterator[BatchNorm2d]:
    return (layer for layer in graph.layers() if isinstance(layer, BatchNorm2d))


@contextmanager
def _restored(graph: Graph) -> Iterator[None]:
    """Put every layer's decay, and how it takes a batch's statistics, back at the end of a ``with`` block."""
    before = [(layer, layer.decay, layer.reduction) for layer in _batch_norms(graph)]
    try:
        yield
    finally:
        for layer, decay, own in before:
            layer.decay, layer.reduction = decay, own
