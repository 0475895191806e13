"""Networks in a file of a run folder: what a run of somebody's own network is resumed and studied with."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from incnet.backend import asarray, asnumpy
from incnet.checked_json import check_depth, from_json, parse_json
from incnet.init import Blank
from incnet.layer import Layer, Shape
from incnet.networks.description import DEEPEST, Architecture
from incnet.storage.tensors import digest, pack, read_text, unpack
from incnet.user_code import Trust, class_finder

__all__ = ["NETWORK", "StoredNetwork", "pack_network", "read_architecture"]

NETWORK = "network.safetensors"  # where a run folder has it


def pack_network(subnetworks: Mapping[str, Layer]) -> Iterator[Any]:
    """Yield the content of a file with a network as it is: its layers as data, weights and statistics as arrays."""
    state = {f"{name}.{key}": array for name, layer in subnetworks.items() for key, array in layer.state().items()}
    arrays, described = {name: asnumpy(array) for name, array in state.items()}, asdict(Architecture.of(subnetworks))
    return pack(arrays, json.dumps({"network": described, "sha256": digest(described, arrays)}))


@dataclass(frozen=True)
class _Header:
    network: Any
    sha256: str


def _described(text: str) -> tuple[_Header, Architecture]:
    header: _Header = from_json(_Header, parse_json(text.encode()), "header")
    check_depth(header.network, DEEPEST)
    return header, from_json(Architecture, header.network, "network")


def read_architecture(path: Path) -> Architecture:
    """Return the layers of the network in a file of :func:`pack_network`, without reading any weights.

    Raises
    ------
    OSError, ValueError
        If it cannot be read, or is no such file.
    """
    with open(path, "rb") as file:
        return _described(read_text(file))[1]


@dataclass(frozen=True)
class StoredNetwork:
    """Makes the network that a file of :func:`pack_network` holds, whatever the seed; it need not be trusted.

    Parameters
    ----------
    content : bytes
        Of the file.
    trust : Trust
        Where classes of the user's own are found, see :func:`incnet.deploy.load_model`.
    """

    content: bytes
    trust: Trust = ()

    @classmethod
    def of_run(cls, folder: Path, trust: Trust = ()) -> StoredNetwork:
        """Read the one that a run was begun with. Raises OSError if its folder has none."""
        return cls((folder / NETWORK).read_bytes(), trust)

    @property
    def architecture(self) -> Architecture:
        """Its layers, without weights."""
        return _described(read_text(BytesIO(self.content)))[1]

    def __call__(self, input_shape: Shape, rng: np.random.Generator) -> dict[str, Layer]:
        """Return the network.

        Raises
        ------
        ValueError
            If the file is damaged or holds none, or a class is not in what is trusted.
        """
        arrays, text = unpack(self.content)
        header, network = _described(text)
        if header.sha256 != digest(header.network, arrays):
            raise ValueError("it is damaged: its checksum is another one")
        values = sum(math.prod(array.shape) for array in arrays.values())
        subnetworks, _ = network.build(Blank(), class_finder(self.trust, Layer), values)
        for name, subnetwork in subnetworks.items():
            _load(subnetwork, arrays, name)
        return subnetworks


def _load(subnetwork: Layer, arrays: Mapping[str, np.ndarray], name: str) -> None:
    """Give a sub-network, whose weights take no memory yet, those of the file."""
    own = {key.removeprefix(f"{name}."): array for key, array in arrays.items() if key.startswith(f"{name}.")}
    for key, parameter in subnetwork.named_parameters():
        if key in own and own[key].shape == parameter.data.shape:
            parameter.data = asarray(own[key].copy(), np.float32)
    subnetwork.load_state(own)
