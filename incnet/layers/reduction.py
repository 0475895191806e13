"""The scope that batch normalisation's statistics are reduced over."""

from __future__ import annotations

from incnet.backend import Array, ops

__all__ = ["Reduction"]


class Reduction:
    """The local scope: the images that a layer is given.

    :class:`incnet.parallel.sync_bn.SyncReduction` takes them over the images of all ranks.
    """

    def begin(self, images: int) -> int:
        """Prepare for a batch of so many images here; return how many it has in all."""
        return images

    def moments(self, mean: Array, var: Array, m: int) -> tuple[Array, Array, int]:
        """Mean and biased variance (C,) to normalise with, and over how many values per channel they are.

        ``mean`` and ``var`` are those of the ``m`` values per channel that the layer has seen.
        """
        return mean, var, m

    def sums(self, sums: Array, m: int) -> tuple[Array, int]:
        """Sums (2, C) that the input gradient needs, of dy and of dy * (x - mean), and over how many values they are.

        ``sums`` are those over the layer's own ``m`` values per channel.
        """
        return sums, m

    def gradients(
        self, dy: Array, x: Array, mean: Array, var: Array, gamma: Array, eps: float
    ) -> tuple[Array, Array, Array]:
        """Return dx, and dgamma and dbeta of the layer's own images."""
        return ops.batch_norm_grad(dy, x, mean, var, gamma, eps)
