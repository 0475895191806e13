"""The networks of a run: its sub-networks and classifiers with their first weights, functions of the seed alone."""

from __future__ import annotations

import numpy as np

from incnet.config import Config, ConfigError
from incnet.fusion import fuse
from incnet.graph import Graph
from incnet.layer import Layer, Shape
from incnet.models import build, make_classifier

__all__ = ["NetworkFactory"]

# Streams of random numbers that one seed gives: each use draws from its own, so that one never shifts another.
WEIGHTS, CLASSIFIER = 1, 2


class NetworkFactory:
    """Makes networks as a :class:`Config` says.

    Parameters
    ----------
    config : Config
        Resolved.
    image_shape : (H, W, C)
        Of what the network sees.
    classes : int
        That it tells apart.
    """

    def __init__(self, config: Config, image_shape: Shape, classes: int) -> None:
        self.config, self.image_shape, self.classes = config, image_shape, classes

    def subnetworks(self) -> dict[str, Layer]:
        """All sub-networks S1 .. SK by name, in order.

        Raises
        ------
        ConfigError
            If the architecture does not allow for the partition, or for the images at one of their sizes.
        """
        config = self.config
        whole = self.graph()
        try:
            subnetworks = build(
                config.arch,
                self.image_shape,
                rng=np.random.default_rng([config.seed, WEIGHTS]),
                split=config.partition,
                shortcut=config.shortcut,
                count=config.subnetworks,
            )
            for name, subnetwork in subnetworks.items():
                whole.insert(name, subnetwork)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        self._check_sizes(whole)
        return {name: fuse(subnetwork) for name, subnetwork in subnetworks.items()}

    def _check_sizes(self, graph: Graph) -> None:
        grow, asked = self.config.images_grow(), f"--image-sizes {self.config.image_sizes}"
        if grow is None:
            return
        height, width, channels = self.image_shape
        if {height, width} != {grow.sizes[-1]}:
            end = "end with that" if height == width else "only squares can grow"
            raise ConfigError(f"{asked}: the images have {height} x {width} pixels; {end}")
        for size in grow.sizes:
            shape: Shape = (size, size, channels)
            try:
                for _, layer in graph.row:
                    shape = layer.output_shape(shape)
            except ValueError as error:
                raise ConfigError(
                    f"{asked}: {self.config.arch} for images of {height} pixels takes none of {size}: {error}"
                ) from error

    def classifier(self, shape: Shape) -> Layer:
        """Return a classifier for features of ``shape``: the same one, however often it has been rebuilt before."""
        rng = np.random.default_rng([self.config.seed, CLASSIFIER, *shape])
        return make_classifier(shape, self.classes, rng=rng)

    def graph(self) -> Graph:
        """Return a graph without sub-networks."""
        return Graph(self.image_shape, self.classifier, frozen_bn=self.config.frozen_bn)
