"""What a network consists of: sub-networks, in the order in which data goes through them, and a classifier on top."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from incnet.layer import Layer, Shape, check_layer
from incnet.layers.interleaved import Interleaved
from incnet.layers.sequential import Sequential
from incnet.summary import summary

__all__ = ["Subnetworks", "chain"]


class Place(NamedTuple):
    """A layer's place in a network: its sub-network's name, and its own; "" for the whole sub-network."""

    subnetwork: str
    layer: str = ""


class Subnetworks(Layer):
    """Sub-networks in a row and a classifier; :class:`incnet.graph.Graph` computes with them.

    Attributes
    ----------
    subnetworks : dict of str to Layer
        In the order in which they were inserted.
    row : list of (str, Layer)
        What is computed, from the input up, each with the name of its sub-network: the whole of it, or the chain of
        those of its layers that follow one another.
    classifier : Layer
        Rebuilt by :meth:`insert` where it no longer fits: for global pooling and a dense layer, where the width or the
        rank of its input changes, not the size of the image.
    """

    def __init__(self, input_shape: Shape, make_classifier: Callable[[Shape], Layer]) -> None:
        super().__init__()
        self.input_shape, self._make_classifier = input_shape, make_classifier
        self.subnetworks: dict[str, Layer] = {}
        self.row: list[tuple[str, Layer]] = []
        self.classifier = make_classifier(input_shape)
        self._places: list[Place] = []

    def insert(self, name: str, subnetwork: Layer) -> bool:
        """Put ``subnetwork`` between the uppermost one and the classifier, or its layers where it wants them.

        Returns
        -------
        bool
            Whether the classifier was rebuilt, because it does not fit on top of the new sub-network.

        Raises
        ------
        ValueError
            If the name is taken, nothing in the sub-network can be trained, or it does not fit in.
        TypeError
            If the sub-network is no layer.
        """
        check_layer(f"sub-network {name!r}", subnetwork)
        if name in self.subnetworks or name == "classifier":
            raise ValueError(f"a sub-network named {name!r} is already in")
        if not subnetwork.trainable:
            raise ValueError(
                f"sub-network {name!r} has no trainable layer: pooling and dropout cannot stand by themselves"
            )
        places, subnetworks = _placed(self._places, name, subnetwork), {**self.subnetworks, name: subnetwork}
        row = _in_row(places, subnetworks)
        shape = chain(layer for _, layer in row).output_shape(self.input_shape)
        self._places, self.subnetworks, self.row = places, subnetworks, row
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

    def __str__(self) -> str:
        return summary(self.parts, self.input_shape)

    def children(self) -> dict[str, Layer]:
        return {**self.subnetworks, "classifier": self.classifier}

    @property
    def parts(self) -> list[tuple[str, Layer]]:
        """The row, and the classifier: all that is computed."""
        return [*self.row, ("classifier", self.classifier)]

    def discard(self) -> None:
        chain(layer for _, layer in self.parts).discard()

    @property
    def holds_activations(self) -> bool:
        return chain(layer for _, layer in self.parts).holds_activations

    def output_shape(self, shape: Shape) -> Shape:
        return chain(layer for _, layer in self.parts).output_shape(shape)


def chain(layers: Iterable[Layer]) -> Sequential:
    """Return these layers as one."""
    return Sequential({str(i): layer for i, layer in enumerate(layers)})


def _placed(places: Sequence[Place], name: str, subnetwork: Layer) -> list[Place]:
    """Return the places, from the input up, once ``subnetwork`` is in."""
    if not isinstance(subnetwork, Interleaved):
        return [*places, Place(name)]
    found = list(places)
    for layer in subnetwork.children():
        names, below = [place.layer for place in found], subnetwork.after.get(layer)
        if layer in names:
            raise ValueError(f"sub-network {name!r}: a layer named {layer!r} is already in")
        if below is not None and below not in names:
            raise ValueError(f"sub-network {name!r}: {layer!r} is to follow {below!r}, which is not in")
        found.insert(len(found) if below is None else names.index(below) + 1, Place(name, layer))
    return found


def _in_row(places: Iterable[Place], subnetworks: Mapping[str, Layer]) -> list[tuple[str, Layer]]:
    """Return what stands there, each with the name of its sub-network: neighbours of one are a chain."""
    row: list[tuple[str, Layer]] = []
    for name, neighbours in groupby(places, key=attrgetter("subnetwork")):
        part = subnetworks[name]
        if isinstance(part, Interleaved):
            part = part.chain_of(place.layer for place in neighbours)
        row.append((name, part))
    return row
