"""The growing network: named sub-networks in a row, a classifier on top, and a boundary below which nothing is trained.

    x -> S1 -> S2 | S3 -> classifier          after freeze_prefix(2): S1 and S2 are frozen, the rest learns

A sub-network may also lie between the layers of others (:class:`incnet.layers.Interleaved`). The boundary is then where
the lowest layer lies that learns; frozen layers above it hand the gradient of their input on, and compute no more.

    x -> S1 | S2 -> S1 -> S2 -> classifier    after freeze_prefix(1): S1 is frozen, its upper part hands dx on

The two passes are the few lines of :meth:`Graph.features` and :meth:`Graph.logits`, and of :meth:`Graph.backward`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import takewhile

from incnet.backend import Array
from incnet.inputs import check_batch
from incnet.layer import Cost, Layer, Shape
from incnet.layers.norm import BatchNorm2d
from incnet.parameter import Parameter
from incnet.subnetworks import Subnetworks, chain

__all__ = ["Graph"]


class Graph(Subnetworks):
    """Sub-networks S1 .. Sk followed by a classifier.

    Parameters
    ----------
    input_shape : tuple of int
        (H, W, C) of an image.
    make_classifier : callable
        Takes the shape of the uppermost sub-network's output, returns a classifier for it.
    frozen_bn : {"eval", "batch"}
        What batch normalisation in frozen sub-networks uses in training: its running statistics, so that the prefix is
        a fixed function, or those of the batch. They are never moved. Dropout is off in a prefix that is a fixed
        function. In frozen layers above the boundary it goes on, as it does when all learn: what learns below them is
        trained for that.

    Attributes
    ----------
    boundary : int
        Number of frozen sub-networks, in the order of their insertion. For all else see :class:`Subnetworks`.
    """

    recordable = True

    def __init__(
        self, input_shape: Shape, make_classifier: Callable[[Shape], Layer], *, frozen_bn: str = "eval"
    ) -> None:
        super().__init__(input_shape, make_classifier)
        if frozen_bn not in ("eval", "batch"):
            raise ValueError(f"frozen_bn {frozen_bn!r}: choose 'eval' or 'batch'")
        self.frozen_bn, self.boundary = frozen_bn, 0

    # The two passes.

    def check(self, x: Array) -> None:
        """Raise ValueError unless x (N, H, W, C) are images that the network can take; see :meth:`forward`."""
        *_, channels = self.input_shape
        dtype = next((parameter.data.dtype for _, parameter in self.named_parameters()), None)
        check_batch("the network", x, dtype=dtype, axes=1 + len(self.input_shape), channels=channels)
        if x.shape[1:] != self.input_shape:
            try:
                self.output_shape(tuple(x.shape[1:]))
            except ValueError as error:
                found = f"images of {tuple(x.shape[1:])}, where the network was made for {self.input_shape}"
                raise ValueError(f"{found}: {error}") from error

    def forward(self, x: Array, train: bool = False) -> Array:
        """Return the logits (N, classes) of images x (N, H, W, C), normalised, of the weights' type.

        With ``train`` all above the boundary keeps what backward needs.

        Raises
        ------
        ValueError
            If they are anything else: pixels, float64, a single image, channels first, an empty batch.
        """
        return self.logits(self.features(x, train), train)

    def features(self, x: Array, train: bool = False) -> Array:
        """Return what the frozen prefix makes of images x (N, H, W, C); it keeps nothing for backward.

        ``train`` makes a difference where ``frozen_bn`` is "batch".
        """
        self.check(x)
        for layer in self.prefix:
            x = layer.forward(x, train and self.frozen_bn == "batch")
            layer.discard()
        return x

    def logits(self, features: Array, train: bool = False) -> Array:
        """Return the logits (N, classes) that the suffix and the classifier make of the prefix's features.

        With ``train`` they keep what backward needs.
        """
        x = features
        for layer in self.suffix:
            x = layer.forward(x, train)
        return self.classifier.forward(x, train)

    def recalibrate(self, x: Array, *, from_features: bool = False) -> Array:
        """Return the logits of images x, or of features, in a pass that moves statistics above the boundary, no more.

        See :func:`incnet.training.recalibration.recalibrate`.
        """
        x = x if from_features else self.features(x, train=True)
        for layer in (*self.suffix, self.classifier):
            x = layer.recalibrate(x)
        return x

    def backward(self, dy: Array, need_dx: bool = False) -> Array | None:
        """Walk from the classifier down to the boundary, and stop: no layer below it is called.

        dy (N, classes) is the gradient of the logits; each trainable parameter gets its own. The lowest layer of the
        suffix is asked for no input gradient, for nobody uses it; with ``need_dx`` it is, and that gradient, at the
        boundary, is returned.
        """
        gradient = self.classifier.backward(dy, need_dx or len(self.suffix) > 0)
        for i, layer in reversed(list(enumerate(self.suffix))):
            gradient = layer.backward(gradient, need_dx or i > 0)
        return gradient

    @property
    def prefix(self) -> list[Layer]:
        """What lies below all that learns."""
        frozen = list(self.subnetworks)[: self.boundary]
        return [layer for _, layer in takewhile(lambda part: part[0] in frozen, self.row)]

    @property
    def suffix(self) -> list[Layer]:
        """The lowest part that learns, and all above it."""
        return [layer for _, layer in self.row[len(self.prefix) :]]

    # The boundary.

    def freeze_prefix(self, count: int) -> None:
        """Freeze the first ``count`` sub-networks, and only those; the prefix is what of them lies below all others.

        Raises
        ------
        ValueError
            If there are not as many.
        """
        if not 0 <= count <= len(self.subnetworks):
            raise ValueError(f"cannot freeze {count} of {len(self.subnetworks)} sub-networks")
        self.unfreeze()
        self.boundary = count
        for subnetwork in list(self.subnetworks.values())[:count]:
            subnetwork.freeze()
            for layer in subnetwork.layers():
                if isinstance(layer, BatchNorm2d):
                    layer.frozen_statistics = self.frozen_bn

    def unfreeze(self) -> Graph:
        """Make everything trainable again."""
        self.boundary = 0
        return super().unfreeze()

    # What is trained, and what it costs.

    def __repr__(self) -> str:
        row = " -> ".join(name for name, _ in self.parts)
        return f"<Graph {row}, {self.boundary} of {len(self.subnetworks)} sub-networks frozen>"

    def trainable_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Named parameters, but those of frozen sub-networks, and of layers frozen by themselves."""
        for i, (name, layer) in enumerate(self.children().items()):
            if i >= self.boundary:
                yield from layer.named_parameters(f"{name}.", frozen=False)

    @property
    def prefix_shape(self) -> Shape:
        """Shape of the frozen prefix's output."""
        return chain(self.prefix).output_shape(self.input_shape)

    def macs(self, shape: Shape) -> int:
        return self.cost(shape).forward

    @property
    def prefix_macs(self) -> int:
        """Multiply-adds of the frozen prefix, for one image."""
        return chain(self.prefix).macs(self.input_shape)

    def cost(self, shape: Shape, need_dx: bool = False) -> Cost:
        """Multiply-adds of a training step, for one image of ``shape`` (H, W, C).

        Forward only below the boundary, and no input gradient at it, but with ``need_dx``.
        """
        prefix, above = chain(self.prefix), chain([*self.suffix, self.classifier])
        return Cost(prefix.macs(shape)) + above.cost(prefix.output_shape(shape), need_dx)
