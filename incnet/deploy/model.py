"""A model: a trained network, and all that it takes to use it without the run that it comes from.

The file is in the safetensors format. The header describes the network as JSON, layer by layer, see
:class:`Description`, with a SHA-256 sum of that and of the arrays; the arrays are the parameters and statistics by
name, float32. A file is not trusted: it may name classes, but nothing is imported that the reader does not name.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from incnet.backend import Array, asarray, asnumpy, ops
from incnet.checked_json import check_depth, from_json, later, parse_json
from incnet.data.dataset import DataError, Normalisation
from incnet.fusion import fuse
from incnet.graph import Graph
from incnet.init import Blank
from incnet.inputs import check_pixels
from incnet.layer import Layer, Shape
from incnet.models import build, make_classifier
from incnet.names import up_to
from incnet.networks.description import DEEPEST, LARGEST_OUTPUT, Architecture, own_classes, shapes
from incnet.storage.files import replace_file
from incnet.storage.folder import newest_inside
from incnet.storage.tensors import digest, pack, unpack
from incnet.user_code import Trust, class_finder

__all__ = [
    "Description",
    "Model",
    "ModelError",
    "find_model",
    "load_model",
    "pack_model",
    "read_model",
    "save_model",
    "stage_file",
    "unpack_model",
]

# Bounds for the memory that a file can ask for: pixels along a side, and pixels that are in work at a time.
LARGEST_SIDE, PIXELS_AT_A_TIME = 1024, 2**18
_STAGE_FILE = re.compile(r"S1(?:-S(\d{1,6}))?\.safetensors", re.ASCII)


class ModelError(Exception):
    """A file is no model, or a damaged one; the message is one line that names the file."""


@dataclass(frozen=True)
class Description:
    """What a model is.

    Attributes
    ----------
    arch, partition : str
        As in :class:`incnet.config.Config`.
    subnetworks : int
        How many of them are in, counted from the input.
    input_shape : list of int
        [H, W, C] of an image.
    resize : int or None
        Height and width to which it is interpolated, once it is normalised; None for as it is.
    classes : list of str
        Name of each class.
    mean, std : list of float
        By which pixels, 0 to 255, are normalised; one for each channel, exact in float32.
    dataset : str
        That it was trained on.
    val_accuracy : float
        On the run's validation images, a fraction.
    params, macs_inference : int
        Number of parameters, and of multiply-adds for one image.
    incnet : str
        Version that wrote the file.
    shortcut : {"A", "B"}
        Of a ResNet.
    network : Architecture or None
        The network's layers and their arguments. None in files of before: then it is the one that ``arch`` names.

    Raises
    ------
    ValueError
        If a value is impossible by itself.
    """

    arch: str
    partition: str
    subnetworks: int
    input_shape: list[int]
    resize: int | None
    classes: list[str]
    mean: list[float]
    std: list[float]
    dataset: str
    val_accuracy: float
    params: int
    macs_inference: int
    incnet: str
    shortcut: Literal["A", "B"] = later("A")
    network: Architecture | None = later(None)

    def __post_init__(self) -> None:
        sizes = [*self.input_shape, 1 if self.resize is None else self.resize]
        if len(sizes) != 4 or not all(1 <= size <= LARGEST_SIDE for size in sizes):
            found = f"{self.input_shape!r:.80}, interpolated to {self.resize!r:.40}"
            raise ValueError(f"images of shape {found}; expected [H, W, C], each up to {LARGEST_SIDE}")
        if not self.classes:
            raise ValueError("no classes")
        if self.network is not None and len(self.network.subnetworks) != self.subnetworks:
            raise ValueError(f"{len(self.network.subnetworks)} of {self.subnetworks} sub-networks are described")
        for name in (self.arch, self.dataset, self.incnet, *self.classes):
            if not name.isprintable():  # or it could change the terminal that shows it
                raise ValueError(f"the name {name!r:.80}")
        if not (0 <= self.val_accuracy <= 1 and self.params >= 0 and self.macs_inference >= 0):
            size = f"{self.params} parameters and {self.macs_inference} multiply-adds"
            raise ValueError(f"a validation accuracy of {self.val_accuracy}, {size}")

    @property
    def stage(self) -> str:
        """The sub-networks that are in: S1, or S1-S3; up to top, if they have names of their own."""
        numbered = ["S1", f"S{self.subnetworks}"][: self.subnetworks]
        return up_to(numbered if self.network is None else list(self.network.subnetworks))

    @property
    def file(self) -> str:
        """Where a run folder keeps the model of this stage."""
        return stage_file(self.subnetworks)

    def graph(self, trust: Trust = (), values: int | None = None) -> Graph:
        """Return the network, without weights yet: they cannot be written, and take no memory.

        Parameters
        ----------
        trust : Trust
            See :func:`load_model`.
        values : int, optional
            Numbers in parameters and statistics at most.

        Raises
        ------
        ValueError
            If there is no such network.
        """
        height, width, channels = self.input_shape
        shape = (height, width, channels) if self.resize is None else (self.resize, self.resize, channels)
        if self.network is None:
            subnetworks, classifier = self._named(shape)
        else:
            subnetworks, classifier = self._described(self.network, trust, values)
        graph = Graph(shape, classifier)
        for name, subnetwork in subnetworks.items():
            graph.insert(name, fuse(subnetwork))
        if graph.output_shape(shape) != (len(self.classes),):
            raise ValueError(f"{graph.output_shape(shape)} answers for {len(self.classes)} classes")
        return graph

    def _named(self, shape: Shape) -> tuple[dict[str, Layer], Callable[[Shape], Layer]]:
        """Sub-networks, and what makes the classifier, of a file that names its network, and no more."""
        rng = Blank()
        subnetworks = build(self.arch, shape, rng=rng, split=self.partition, shortcut=self.shortcut)
        if not 1 <= self.subnetworks <= len(subnetworks):
            raise ValueError(f"{self.subnetworks} of {len(subnetworks)} sub-networks")
        used = islice(subnetworks.items(), self.subnetworks)
        return dict(used), lambda shape: make_classifier(shape, len(self.classes), rng=rng)

    def _described(
        self, network: Architecture, trust: Trust, values: int | None
    ) -> tuple[dict[str, Layer], Callable[[Shape], Layer]]:
        """The same of a file that describes it."""
        subnetworks, classifier = network.build(Blank(), class_finder(trust, Layer), values)
        if classifier is None:
            raise ValueError("a network without a classifier")
        return subnetworks, lambda shape: classifier

    def normalisation(self) -> Normalisation:
        """Return mean and std.

        Raises
        ------
        ValueError
            If they fit no image of this shape.
        """
        with np.errstate(over="ignore"):  # infinity is refused below
            mean, std = (np.array(values, np.float32) for values in (self.mean, self.std))
        if mean.shape != (self.input_shape[2],):
            raise ValueError(f"mean and std of {mean.size} channels for images of {self.input_shape[2]}")
        try:
            return Normalisation(mean, std)
        except DataError as error:
            raise ValueError(str(error)) from error


class Model:
    """A network that takes pixels and names classes, on the backend in use when it was made.

    It can be pickled, for processes that share the work: as the content of its file, whatever backend either side has.

    Parameters
    ----------
    description : Description
        What it is.
    weights : mapping of str to float32 array
        All parameters and statistics by name.
    trust : Trust
        See :func:`load_model`.

    Attributes
    ----------
    graph : Graph
        From normalised images to logits.

    Raises
    ------
    ValueError
        If there is no such network, or the weights are not this network's.
    """

    def __init__(self, description: Description, weights: Mapping[str, NDArray[np.float32]], trust: Trust = ()) -> None:
        self.description, self.normalisation = description, description.normalisation()
        self.graph = description.graph(trust, sum(array.size for array in weights.values()))
        self._largest = _largest_output(self.graph)
        _check(weights, _inference_state(self.graph.state()))
        if self.graph.num_parameters() != description.params:
            raise ValueError(f"{description.params} parameters; the network has {self.graph.num_parameters()}")
        for name, parameter in self.graph.named_parameters():
            parameter.data = asarray(weights[name])
        self.graph.load_state({**self.graph.state(), **weights})

    def __reduce__(self) -> tuple[Callable[..., Model], tuple[bytes, Trust]]:
        weights = {name: asnumpy(array) for name, array in self.graph.state().items()}
        own = tuple(own_classes(self.graph.children()).values())
        return unpack_model, (b"".join(pack_model(self.description, weights)), own)

    def __repr__(self) -> str:
        what = self.description
        return f"<Model {what.arch} {what.stage}, {what.dataset}, validation accuracy {what.val_accuracy:.3f}>"

    @property
    def classes(self) -> list[str]:
        """Name of each class."""
        return self.description.classes

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of the images that it takes."""
        height, width, channels = self.description.input_shape
        return height, width, channels

    @property
    def batch_size(self) -> int:
        """Images that are computed together; more are taken in turns."""
        height, width, _ = self.graph.input_shape
        return max(1, min(PIXELS_AT_A_TIME // (height * width), LARGEST_OUTPUT // self._largest))

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the logits (N, classes) of pixels (N, H, W, C), 0 to 255.

        Raises
        ------
        ValueError
            If the images are of another shape or type.
        """
        check_pixels(images, self.image_shape)
        answers = [np.empty((0, len(self.classes)), np.float32)]
        for start in range(0, len(images), self.batch_size):
            x = self._prepared(images[start : start + self.batch_size])
            answers.append(asnumpy(self.graph.forward(x)))
        return np.concatenate(answers)

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the probability of each class (N, classes) for pixels (N, H, W, C), 0 to 255.

        Raises
        ------
        ValueError
            If the images are of another shape or type.
        """
        logits = self.logits(images)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    def _prepared(self, images: NDArray[np.uint8]) -> Array:
        # The kernels that make the batches of training, so that the same pixels give the same bits.
        n, normalisation = len(images), self.normalisation
        still, upright = np.zeros((n, 2), np.int64), np.zeros(n, np.bool_)
        operands = (images, np.arange(n), still, upright, normalisation.mean, normalisation.std)
        x = ops.augment(*map(asarray, operands))
        rows, cols, _ = self.graph.input_shape
        return x if self.description.resize is None else ops.resize_bilinear(x, (rows, cols))


def _check(weights: Mapping[str, np.ndarray], expected: Mapping[str, Array]) -> None:
    if different := sorted(weights.keys() ^ expected.keys()):
        raise ValueError(f"{different[0]!r:.80} is in the file or in the network, but not in both")
    for name, array in weights.items():
        if (array.shape, array.dtype) != (expected[name].shape, np.float32):
            raise ValueError(f"{name} is {array.dtype} {array.shape}, in the network float32 {expected[name].shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} is not finite")


def _largest_output(graph: Graph) -> int:
    """Most values that a layer makes of an image; ValueError if they are more than a file can ask for."""
    shape, largest = graph.input_shape, 1
    for name, part in graph.parts:
        for layer, _, _, output in shapes(part, shape, name):
            largest = max(largest, math.prod(output))
            if largest > LARGEST_OUTPUT:
                raise ValueError(f"{layer} makes {largest!s:.40} values of an image, more than {LARGEST_OUTPUT:,}")
        shape = part.output_shape(shape)
    return largest


def _inference_state(state: Mapping[str, Array]) -> dict[str, Array]:
    """All but the seeds of dropout, which plays no part any more: they are the only integers."""
    return {name: array for name, array in state.items() if array.dtype == np.float32}


# Files.


def save_model(path: Path, description: Description, weights: Mapping[str, np.ndarray]) -> None:
    """Write a model.

    Parameters
    ----------
    path : Path
        Of the file, which is replaced if it is there.
    description : Description
        The network, its classes, and how pixels are normalised for it.
    weights : mapping of str to array
        The network's state, in host memory.

    Raises
    ------
    WriteError
        If the file cannot be written; an earlier file of that name is then untouched.
    """
    replace_file(path, pack_model(description, weights))


def pack_model(description: Description, weights: Mapping[str, np.ndarray]) -> Iterator[Any]:
    """Yield the content of a model's file, in pieces. Equal models make equal files.

    Parameters
    ----------
    weights : mapping of str to array
        The network's state, in host memory.
    """
    arrays, described = _inference_state(weights), asdict(description)
    return pack(arrays, json.dumps({"model": described, "sha256": digest(described, arrays)}))


def load_model(path: Path | str, trust: Trust = ()) -> Model:
    """Read a model.

    Parameters
    ----------
    path : Path or str
        Of a file, or of a run folder: then the run's last stage.
    trust : class, str, Path, or a sequence of these
        Where layers are found that are none of incnet's: classes, or files ``FILE.py`` and modules, which are run if
        the model has such layers. Nothing else is run or imported, whatever the file says.

    Raises
    ------
    ModelError
        If the file is missing, damaged, no model, or names a class that is not in what is trusted.
    """
    path = find_model(Path(path))
    try:
        return unpack_model(path.read_bytes(), trust)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise ModelError(f"{path} is no model that can be used: {error!s:.200}") from error


def unpack_model(content: bytes, trust: Trust = ()) -> Model:
    """Return the model that a file holds; ``trust`` as for :func:`load_model`.

    Raises
    ------
    ValueError
        If it is damaged, or no model.
    """
    return Model(*read_model(content), trust)


def read_model(content: bytes) -> tuple[Description, dict[str, np.ndarray]]:
    """Return what a model's file says, and its arrays by name; the network is not built.

    Raises
    ------
    ValueError
        If it is damaged, or no model.
    """
    arrays, text = unpack(content)
    if not text:
        raise ValueError("it holds arrays, but does not say what they are; models are in a run's folder stages")
    header: _Header = from_json(_Header, parse_json(text.encode()), "header")
    check_depth(header.model, DEEPEST)
    description: Description = from_json(Description, header.model, "header.model")
    if header.sha256 != digest(header.model, arrays):
        raise ValueError("it is damaged: its checksum is another one")
    return description, arrays


@dataclass(frozen=True)
class _Header:
    model: Any  # as it was written, which the checksum is over
    sha256: str


def stage_file(subnetworks: int) -> str:
    """Where a run folder keeps the model of the stage with so many sub-networks, whatever they are called."""
    return f"stages/{'S1' if subnetworks == 1 else f'S1-S{subnetworks}'}.safetensors"


def find_model(path: Path) -> Path:
    """Return ``path``; or, if it is a run folder, the model of the last stage.

    Raises
    ------
    ModelError
        If it is a folder without models.
    """
    if not path.is_dir():
        return path
    stages = {file: _STAGE_FILE.fullmatch(file.name) for file in path.glob("stages/*.safetensors")}
    numbered = {file: int(match[1] or 1) for file, match in stages.items() if match}
    if not numbered:
        raise ModelError(
            f"{path} holds no stages/S1.safetensors, which a run writes when the first stage ends{newest_inside(path)}"
        )
    return max(numbered, key=numbered.__getitem__)
