"""One training step: forward, backward, update."""

from __future__ import annotations

from incnet.backend import Array, asnumpy, ops
from incnet.graph import Graph
from incnet.inputs import check_labels
from incnet.optim import Optimizer
from incnet.training.nonfinite import gradient_sum

__all__ = ["Step"]


class Step:
    """Learn from one batch after the other.

    Parameters
    ----------
    graph : Graph
        What learns.
    optimizer : Optimizer
        How; it is given the trainable parameters only.

    Attributes
    ----------
    from_features : bool
        Whether batches are of features, the output of the frozen prefix, in place of images.
    images : int
        Of the last batch, on all ranks; :class:`incnet.parallel.step.ParallelStep` has several.
    """

    recordable = True  # Replay may record it; see incnet.training.replay

    def __init__(self, graph: Graph, optimizer: Optimizer) -> None:
        self.graph, self.optimizer = graph, optimizer
        self.from_features = False
        self.images = 0

    def gradients(self, images: Array, labels: Array) -> Array:
        """Go forward and backward with images (N, H, W, C), or their features, and labels (N,).

        Returns
        -------
        totals : (2,) float64
            Sum of the losses, and number of correct answers.

        Raises
        ------
        ValueError
            If the network cannot take the images, or labels are not whole numbers, one for each of them.
        """
        self.check(images, labels)
        self.images = self.begin(len(images))
        return self.backpropagate(images, labels)

    def update(self) -> None:
        """Let the optimizer step along the gradients: the trainable parameters change."""
        self.optimizer.step(self.graph.trainable_parameters())

    def fetch_metrics(self, totals: Array) -> tuple[float, float, float]:
        """Bring ``totals`` (2,), and the sum of all values of all gradients, to the host."""
        loss, correct = asnumpy(totals)
        return float(loss), float(correct), float(gradient_sum(self.graph))

    # The parts.

    def check(self, images: Array, labels: Array) -> None:
        """Raise ValueError unless there is something to learn from."""
        if not self.from_features:
            self.graph.check(images)
        check_labels(labels, len(images))

    def begin(self, images: int) -> int:
        """Prepare for a batch of so many images here; return how many it has on all ranks."""
        return images

    def backpropagate(self, images: Array, labels: Array) -> Array:
        """Assign the gradients; return the batch's totals."""
        forward = self.graph.logits if self.from_features else self.graph.forward
        totals, dlogits = ops.softmax_cross_entropy(forward(images, train=True), labels)
        self.graph.backward(dlogits)
        return totals

    @property
    def bytes(self) -> int:
        """Bytes that a step like the last one sums over the ranks: none, in a single process."""
        return 0
