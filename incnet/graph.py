"""The growing network: named sub-networks in a row, a classifier on top, and a boundary below which nothing is trained.

    x -> S1 -> S2 | S3 -> classifier          after freeze_prefix(2): S1 and S2 are frozen, the rest learns

The two passes are the few lines of :meth:`Graph.features` and :meth:`Graph.logits`, and of :meth:`Graph.backward`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from incnet.backend import Array
from incnet.inputs import check_batch
from incnet.layer import Cost, Layer, Shape
from incnet.layers.norm import BatchNorm2d
from incnet.parameter import Parameter
from incnet.summary import summary

__all__ = ["Graph"]


class Graph(Layer):
    """Sub-networks S1 .. Sk followed by a classifier.

    Parameters
    ----------
    input_shape : tuple of int
        (H, W, C) of an image.
    make_classifier : callable
        Takes the shape of the uppermost sub-network's output, returns a classifier for it.
    frozen_bn : {"eval", "batch"}
        What batch normalisation in the frozen prefix uses in training: its running statistics, so that the prefix is a
        fixed function, or those of the batch. They are never moved.

    Attributes
    ----------
    subnetworks : dict of str to Layer
        In order, from the input up.
    classifier : Layer
        Rebuilt by :meth:`insert` where it no longer fits: for global pooling and a dense layer, where the width or the
        rank of its input changes, not the size of the image.
    boundary : int
        Number of frozen sub-networks, counted from the input.
    """

    recordable = True

    def __init__(
        self, input_shape: Shape, make_classifier: Callable[[Shape], Layer], *, frozen_bn: str = "eval"
    ) -> None:
        super().__init__()
        if frozen_bn not in ("eval", "batch"):
            raise ValueError(f"frozen_bn {frozen_bn!r}: choose 'eval' or 'batch'")
        self.input_shape, self.frozen_bn = input_shape, frozen_bn
        self.subnetworks: dict[str, Layer] = {}
        self.classifier = make_classifier(input_shape)
        self.boundary = 0
        self._make_classifier = make_classifier

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
        """Return the logits (N, classes) of images (N, H, W, C), normalised, of the weights' type.

        Raises
        ------
        ValueError
            If they are anything else: pixels, float64, a single image, channels first, an empty batch.
        """
        return self.logits(self.features(x, train), train)

    def features(self, x: Array, train: bool = False) -> Array:
        """Return what the frozen prefix makes of images; it keeps nothing for backward."""
        self.check(x)
        for subnetwork in self.prefix:
            x = subnetwork.forward(x, train and self.frozen_bn == "batch")
            subnetwork.discard()
        return x

    def logits(self, features: Array, train: bool = False) -> Array:
        """Return what the trainable sub-networks and the classifier make of the prefix's features."""
        x = features
        for subnetwork in self.suffix:
            x = subnetwork.forward(x, train)
        return self.classifier.forward(x, train)

    def recalibrate(self, x: Array, *, from_features: bool = False) -> Array:
        """Return the logits of images, or of features, in a pass that moves statistics above the boundary, and no more.

        See :func:`incnet.training.recalibration.recalibrate`.
        """
        x = x if from_features else self.features(x, train=True)
        for layer in (*self.suffix, self.classifier):
            x = layer.recalibrate(x)
        return x

    def backward(self, dy: Array, need_dx: bool = False) -> Array | None:
        """Walk from the classifier down to the boundary, and stop: no layer below it is called.

        The lowest trainable sub-network is asked for no input gradient, for nobody uses it; with ``need_dx`` it is, and
        that gradient, at the boundary, is returned.
        """
        gradient = self.classifier.backward(dy, need_dx or len(self.suffix) > 0)
        for i, subnetwork in reversed(list(enumerate(self.suffix))):
            gradient = subnetwork.backward(gradient, need_dx or i > 0)
        return gradient

    @property
    def prefix(self) -> list[Layer]:
        """The frozen sub-networks."""
        return list(self.subnetworks.values())[: self.boundary]

    @property
    def suffix(self) -> list[Layer]:
        """The trainable sub-networks."""
        return list(self.subnetworks.values())[self.boundary :]

    # Growth.

    def insert(self, name: str, subnetwork: Layer) -> bool:
        """Put ``subnetwork`` between the uppermost one and the classifier.

        Returns
        -------
        bool
            Whether the classifier was rebuilt, because it does not fit on top of the new sub-network.

        Raises
        ------
        ValueError
            If the name is taken, nothing in the sub-network can be trained, or it does not fit on top.
        """
        if name in self.subnetworks or name == "classifier":
            raise ValueError(f"a sub-network named {name!r} is already in")
        if not subnetwork.trainable:
            raise ValueError(
                f"sub-network {name!r} has no trainable layer: pooling and dropout cannot stand by themselves"
            )
        shape = subnetwork.output_shape(self.feature_shape)
        self.subnetworks[name] = subnetwork
        rebuild = not self._classifier_fits(shape)
        if rebuild:
            self.classifier = self._make_classifier(shape)
        return rebuild

    def _classifier_fits(self, shape: Shape) -> bool:
        try:
            self.classifier.output_shape(shape)
        except ValueError:
            return False
        return True

    def freeze_prefix(self, count: int) -> None:
        """Freeze the first ``count`` sub-networks, and only those."""
        if not 0 <= count <= len(self.subnetworks):
            raise ValueError(f"cannot freeze {count} of {len(self.subnetworks)} sub-networks")
        self.unfreeze()
        self.boundary = count
        for subnetwork in self.prefix:
            subnetwork.freeze()
            for layer in subnetwork.layers():
                if isinstance(layer, BatchNorm2d):
                    layer.frozen_statistics = self.frozen_bn

    def unfreeze(self) -> Graph:
        """Make everything trainable again."""
        self.boundary = 0
        return super().unfreeze()

    # What the network looks like.

    def __str__(self) -> str:
        return summary(self.children(), self.input_shape)

    def __repr__(self) -> str:
        row = " -> ".join([*self.subnetworks, "classifier"])
        return f"<Graph {row}, {self.boundary} of {len(self.subnetworks)} sub-networks frozen>"

    def children(self) -> dict[str, Layer]:
        return {**self.subnetworks, "classifier": self.classifier}

    def trainable_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Named parameters above the boundary, but those of layers frozen by themselves: what the optimizer steps."""
        for i, (name, layer) in enumerate(self.children().items()):
            if i >= self.boundary:
                yield from layer.named_parameters(f"{name}.", frozen=False)

    @property
    def feature_shape(self) -> Shape:
        """Shape of the uppermost sub-network's output."""
        shape = self.input_shape
        for subnetwork in self.subnetworks.values():
            shape = subnetwork.output_shape(shape)
        return shape

    @property
    def prefix_shape(self) -> Shape:
        """Shape of the frozen prefix's output."""
        shape = self.input_shape
        for subnetwork in self.prefix:
            shape = subnetwork.output_shape(shape)
        return shape

    def output_shape(self, shape: Shape) -> Shape:
        for layer in self.children().values():
            shape = layer.output_shape(shape)
        return shape

    def macs(self, shape: Shape) -> int:
        return self.cost(shape).forward

    @property
    def prefix_macs(self) -> int:
        """Multiply-adds of the frozen prefix, for one image."""
        shape, macs = self.input_shape, 0
        for subnetwork in self.prefix:
            macs += subnetwork.macs(shape)
            shape = subnetwork.output_shape(shape)
        return macs

    def cost(self, shape: Shape, need_dx: bool = False) -> Cost:
        """Multiply-adds of a training step: forward only below the boundary, no input gradient at it but on demand."""
        total = Cost()
        for i, layer in enumerate(self.children().values()):
            cost = layer.cost(shape, need_dx or i > self.boundary)
            total += cost if i >= self.boundary else Cost(cost.forward)
            shape = layer.output_shape(shape)
        return total
