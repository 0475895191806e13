"""Trained weights to begin with: what of a model fits the network of a run, and is taken over.

Sub-networks are taken from the input up, by their names, as long as all parameters and statistics of one have the names
and shapes that the model's have: they are in from the start. The classifier is taken if the model tells the same
classes apart, by the same features. Otherwise it is new, and a run with look-ahead begins with one: the classifier
is trained alone, on what is taken over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from incnet.config import ConfigError
from incnet.deploy.model import Description, ModelError, find_model, read_model
from incnet.graph import Graph
from incnet.layer import Layer
from incnet.run.network import NetworkFactory
from incnet.user_code import is_place

__all__ = ["FILE", "Start", "StartModel"]

# Under which a run folder keeps the model, so that the run can go on when the model is gone.
FILE = "start.safetensors"


@dataclass(frozen=True)
class StartModel:
    """A model's file, of which no more is used than its arrays by name: nothing is built, and no code is run.

    Attributes
    ----------
    path : Path
        Of the file.
    sha256 : str
        Of its content.
    """

    path: Path
    sha256: str
    description: Description
    arrays: Mapping[str, np.ndarray]

    @classmethod
    def read(cls, path: Path) -> StartModel:
        """Read a model's file, or that of a run folder's last stage.

        Raises
        ------
        ConfigError
            If it is missing, damaged or no model.
        """
        try:
            path = find_model(path)
            content = path.read_bytes()
            description, arrays = read_model(content)
        except OSError as error:
            raise ConfigError(
                f"--start-from {path}: {error.strerror or error}; name a model, or a run folder"
            ) from error
        except ModelError as error:
            raise ConfigError(f"--start-from {error}") from error
        except ValueError as error:
            raise ConfigError(f"--start-from {path}: no model that can be used: {error!s:.200}") from error
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise ConfigError(f"--start-from {path}: {name!r:.120} is not finite; name another model")
        return cls(path, hashlib.sha256(content).hexdigest(), description, arrays)

    def part(self, name: str) -> dict[str, np.ndarray]:
        """Return the arrays of a part of the network, by their names in it."""
        prefix = f"{name}."
        return {key.removeprefix(prefix): array for key, array in self.arrays.items() if key.startswith(prefix)}

    def misfit(self, name: str, layer: Layer) -> str:
        """Say why the weights do not fit a part of a network; nothing if they do."""
        theirs = self.part(name)
        own = {key: array for key, array in layer.state().items() if array.dtype.kind == "f"}  # dropout's seeds are not
        if not theirs:
            return f"the model has no {name}"
        if other := sorted(own.keys() ^ theirs.keys()):
            return f"the {'network' if other[0] in theirs else 'model'} has no {f'{name}.{other[0]}'!r:.120}"
        for key, array in own.items():
            if theirs[key].shape != array.shape:
                return f"{name}.{key} is {theirs[key].shape} in the model, {array.shape} in the network"
        return ""

    def other_classifier(self, graph: Graph, taken: int, classes: Sequence[str]) -> str:
        """Say why the classifier is none for a graph of which so many sub-networks are taken; nothing if it is one."""
        if not len(graph.subnetworks) == self.description.subnetworks == taken:
            return "it reads what other sub-networks make"
        if self.description.classes != list(classes):
            return f"the model tells others apart: {', '.join(self.description.classes)!s:.80}"
        return self.misfit("classifier", graph.classifier)


class Start:
    """What a run takes over from a model.

    Parameters
    ----------
    model : StartModel
        From which.
    networks : NetworkFactory
        Makes the network of the run.
    classes : sequence of str
        That the run tells apart.
    all_at_once : bool
        Whether all sub-networks are in from the start, trained or not.

    Attributes
    ----------
    path, sha256
        Of the model.
    taken : tuple of str
        Sub-networks, at least one.
    classifier : bool
        Whether the classifier is taken, too.
    said : list of str
        What is taken and what is not, a line each.

    Raises
    ------
    ConfigError
        If nothing fits.
    """

    def __init__(
        self, model: StartModel, networks: NetworkFactory, classes: Sequence[str], *, all_at_once: bool
    ) -> None:
        self.path, self.sha256, subnetworks = model.path, model.sha256, networks.subnetworks()
        misfits = {name: model.misfit(name, subnetwork) for name, subnetwork in subnetworks.items()}
        self.taken = tuple(takewhile(lambda name: not misfits[name], subnetworks))
        rest = list(subnetworks)[len(self.taken) :]
        if not self.taken:
            what = f"{model.description.arch:.80}"
            if not is_place(what):  # a network of one's own is cut as its function says
                what += f" by {model.description.partition!r:.40}"
            raise ConfigError(f"--start-from {self.path}, {what}: nothing fits, since {misfits[rest[0]]}")
        graph = networks.graph()
        for name in subnetworks if all_at_once else self.taken:
            graph.insert(name, subnetworks[name])
        why = model.other_classifier(graph, len(self.taken), classes)
        self.classifier = not why
        self.said = [f"from {self.path}: {', '.join(self.taken)}, with batch norm's statistics"]
        if self.classifier:
            self.said[0] += ", and the classifier"
        else:
            self.said.append(f"not taken: the classifier, since {why}")
        if rest:
            self.said.append(f"not taken: {', '.join(rest)}, since {misfits[rest[0]]}")
        parts = (*self.taken, "classifier") if self.classifier else self.taken
        self._weights = {name: model.part(name) for name in parts}

    def fill(self, subnetworks: Mapping[str, Layer]) -> None:
        """Give the sub-networks that are taken the model's parameters and statistics."""
        for name in self.taken:
            self._fill(name, subnetworks[name])

    def fill_classifier(self, graph: Graph) -> None:
        """Do so with the classifier, if it is taken."""
        if self.classifier:
            self._fill("classifier", graph.classifier)

    def _fill(self, name: str, layer: Layer) -> None:
        layer.load_state({**layer.state(), **self._weights[name]})

    def as_json(self) -> dict[str, Any]:
        """What ``config.json`` says of it."""
        return {"model": str(self.path), "sha256": self.sha256, "taken": list(self._weights)}
