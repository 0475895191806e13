"""The networks of a run: its sub-networks and classifiers with their first weights, functions of the seed alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from itertools import islice

import numpy as np

from incnet.config import Config, ConfigError
from incnet.fusion import fuse
from incnet.graph import Graph
from incnet.growth.identity import check_carried
from incnet.init import Blank
from incnet.layer import Layer, Shape
from incnet.layers import BatchNorm2d
from incnet.models import build, make_classifier
from incnet.networks.description import Architecture, own_classes
from incnet.networks.own import MakeNetwork, make_network
from incnet.networks.stored import StoredNetwork, pack_network
from incnet.storage.tensors import digest
from incnet.user_code import UserCodeError, find_function, is_place, short

__all__ = ["NetworkFactory", "own_function"]

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
    make : MakeNetwork, optional
        Makes the sub-networks, in place of the architecture that ``config`` names: called once.

    Attributes
    ----------
    own : StoredNetwork or None
        The network that ``make`` has made, with its first weights.

    Raises
    ------
    ConfigError
        If ``make`` fails, or makes what cannot be trained; or the network has no way to leave an output as it is, and
        is to do so.
    """

    def __init__(self, config: Config, image_shape: Shape, classes: int, make: MakeNetwork | None = None) -> None:
        self.config, self.image_shape, self.classes = config, image_shape, classes
        self.own: StoredNetwork | None = None
        if make is not None:
            self._make_own(make)

    def _make_own(self, make: MakeNetwork) -> None:
        config = self.config
        try:
            made = make_network(make, short(config.arch), self.image_shape, [config.seed, WEIGHTS])
            if config.preserves_output:
                check_carried(made, self.image_shape)
        except UserCodeError as error:
            raise ConfigError(f"--arch {error}") from error
        except ValueError as error:
            raise ConfigError(f"--init {config.init}: {error}") from error
        self.own = StoredNetwork(b"".join(map(bytes, pack_network(made))), tuple(own_classes(made).values()))
        norm = any(isinstance(layer, BatchNorm2d) for subnetwork in made.values() for layer in subnetwork.layers())
        self.config = config.for_network(batch_norm=norm)
        if self._misfit(self._whole(Blank())[0]):
            self.config = self.config.for_one_size()

    def subnetworks(self) -> dict[str, Layer]:
        """All sub-networks S1 .. SK by name, in order.

        Raises
        ------
        ConfigError
            If the architecture does not allow for the partition, or for the images at one of their sizes.
        """
        whole, subnetworks = self._whole(np.random.default_rng([self.config.seed, WEIGHTS]))
        if misfit := self._misfit(whole):
            raise ConfigError(misfit)
        if len(self.config.freezing().starts) >= len(subnetworks):
            found = f"--freeze {self.config.freeze}: there are {len(subnetworks)} sub-networks"
            raise ConfigError(f"{found}; give fewer fractions, so that one learns to the end")
        return {name: fuse(subnetwork) for name, subnetwork in subnetworks.items()}

    def _made(self, rng: np.random.Generator) -> dict[str, Layer]:
        config, shape = self.config, self.image_shape
        every: Mapping[str, Layer]
        if self.own is not None:
            every = self.own(shape, rng)
        else:
            every = build(
                config.arch,
                shape,
                rng=rng,
                split=config.partition,
                shortcut=config.shortcut,
                dense_std=config.dense_std,
            )
        count = config.subnetworks
        if count is not None and count > len(every):
            raise ValueError(f"--subnetworks {count}: {short(config.arch)} has {len(every)}; choose at most that")
        return dict(islice(every.items(), count))

    def digest(self) -> str:
        """SHA-256 sum of the layers and their arguments, and of no weights: by which it is the same network."""
        return digest(asdict(Architecture.of(self._made(Blank()))), {})

    def _whole(self, rng: np.random.Generator) -> tuple[Graph, dict[str, Layer]]:
        """Return the network with all of its sub-networks in, and these."""
        whole = self.graph()
        try:
            subnetworks = self._made(rng)
            for name, subnetwork in subnetworks.items():
                whole.insert(name, subnetwork)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        return whole, subnetworks

    def _misfit(self, whole: Graph) -> str | None:
        """Return why the images cannot grow as they are to, if they cannot."""
        grow, asked = self.config.images_grow(), f"--image-sizes {self.config.image_sizes}"
        if grow is None:
            return None
        height, width, channels = self.image_shape
        if {height, width} != {grow.sizes[-1]}:
            end = "end with that" if height == width else "only squares can grow"
            return f"{asked}: the images have {height} x {width} pixels; {end}"
        for size in grow.sizes:
            shape: Shape = (size, size, channels)
            try:
                for _, layer in whole.row:
                    shape = layer.output_shape(shape)
            except ValueError as error:
                network = f"{short(self.config.arch)} for images of {height} pixels"
                return f"{asked}: {network} takes none of {size}: {error}; choose others, or --image-sizes none"
        return None

    def classifier(self, shape: Shape) -> Layer:
        """Return a classifier for features of ``shape``: the same one, however often it has been rebuilt before."""
        rng = np.random.default_rng([self.config.seed, CLASSIFIER, *shape])
        return make_classifier(shape, self.classes, rng=rng, dense_std=self.config.dense_std)

    def graph(self) -> Graph:
        """Return a graph without sub-networks."""
        return Graph(self.image_shape, self.classifier, frozen_bn=self.config.frozen_bn)


def own_function(config: Config) -> MakeNetwork | None:
    """Return the function that ``--arch`` names, which the user has asked for to be run; None for incnet's networks.

    Raises
    ------
    ConfigError
        If it is not there, or what is around it fails.
    """
    try:
        return find_function(config.arch) if is_place(config.arch) else None
    except UserCodeError as error:
        raise ConfigError(f"--arch {short(config.arch)}: {error}") from error
