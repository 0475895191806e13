"""``test.json``: how every stage of a run did on the test images, and where the last one was most confidently wrong."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from incnet.checked_json import from_json, parse_json

__all__ = ["LARGEST_SIDE", "Evaluation", "Mistake", "StageTest", "pack_evaluation", "unpack_evaluation"]

LARGEST_SIDE = 64  # pixels of an image that is kept to be looked at


@dataclass(frozen=True)
class StageTest:
    """A stage, as it was at its best on the validation images, on the test images.

    Attributes
    ----------
    name : str
        Of its uppermost sub-network.
    weights : str
        SHA-256 sum of what was tested.
    loss : float
        Mean cross-entropy.
    confusion : list of list of int
        Number of images of each class (row) that were taken for each class (column).
    """

    name: str
    weights: str
    loss: float
    confusion: list[list[int]]

    @property
    def counts(self) -> NDArray[np.int64]:
        """``confusion`` as an array (classes, classes)."""
        return np.array(self.confusion, np.int64)

    @property
    def accuracy(self) -> float:
        """Share of the images that were taken for what they are."""
        return float(self.counts.trace() / self.counts.sum())

    @property
    def recall(self) -> NDArray[np.float64]:
        """Share of each class's images that were taken for it (classes,); NaN for a class without images."""
        images = self.counts.sum(axis=1)
        return np.where(images > 0, self.counts.diagonal() / np.maximum(images, 1), np.nan)

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall of the classes that have images: all classes weigh the same, however many images they have."""
        return float(np.nanmean(self.recall))


@dataclass(frozen=True)
class Mistake:
    """A test image that was taken for something else.

    Attributes
    ----------
    index : int
        Its place among the test images.
    label, predicted : int
        Classes: the right one, and the one that it was taken for.
    probability : float
        That the network gave the latter.
    shape : list of int
        [H, W, C] of ``pixels``, of at most 64 x 64 pixels.
    pixels : str
        uint8, row by row, in base64.
    """

    index: int
    label: int
    predicted: int
    probability: float
    shape: list[int]
    pixels: str

    @property
    def image(self) -> NDArray[np.uint8]:
        """Pixels (H, W, C), 0 to 255."""
        return np.frombuffer(base64.b64decode(self.pixels, validate=True), np.uint8).reshape(self.shape)


@dataclass(frozen=True)
class Evaluation:
    """All stages on the test images.

    Attributes
    ----------
    images : int
        Of the test set.
    classes : list of str
        Name of each class.
    stages : list of StageTest
        In order; one whose weights are lost is missing.
    mistakes : list of Mistake
        Of the last stage, the most confident ones first.

    Raises
    ------
    ValueError
        If a value is impossible by itself, or does not go with the others.
    """

    images: int
    classes: list[str]
    stages: list[StageTest]
    mistakes: list[Mistake]

    def __post_init__(self) -> None:
        classes = len(self.classes)
        if not self.stages:
            raise ValueError("no stage was tested")
        for name in (*self.classes, *(stage.name for stage in self.stages)):
            if not name.isprintable():  # or it could change the terminal that shows it
                raise ValueError(f"the name {name!r:.80}")
        for stage in self.stages:
            counts = [count for row in stage.confusion for count in row]
            square = len(stage.confusion) == classes and all(len(row) == classes for row in stage.confusion)
            if not square or not all(0 <= count <= self.images for count in counts) or sum(counts) != self.images:
                raise ValueError(f"the confusion of {stage.name!r:.40} is not that of {self.images} images")
        for mistake in self.mistakes:
            _check_mistake(mistake, self.images, classes)

    @property
    def accuracy(self) -> float:
        """Test accuracy of the last stage, a fraction."""
        return self.stages[-1].accuracy


def _check_mistake(mistake: Mistake, images: int, classes: int) -> None:
    within = 0 <= mistake.index < images and 0 <= mistake.label < classes and 0 <= mistake.predicted < classes
    if not within or not 0 <= mistake.probability <= 1:
        raise ValueError(f"image {mistake.index} of {images}, taken for class {mistake.predicted} of {classes}")
    sides, channels = mistake.shape[:2], mistake.shape[2:]
    if not all(1 <= side <= LARGEST_SIDE for side in sides) or channels not in ([1], [3]):
        raise ValueError(f"an image of shape {mistake.shape!r:.80}")
    try:
        mistake.image  # noqa: B018 - it is decoded
    except ValueError as error:
        raise ValueError(f"the pixels of image {mistake.index}: {error}") from error


def pack_evaluation(evaluation: Evaluation) -> bytes:
    """Return the content of ``test.json``, with a line for each stage and mistake."""

    def lines(records: list[Any]) -> str:
        return "[\n" + ",\n".join(json.dumps(asdict(record)) for record in records) + "\n]"

    head = json.dumps({"images": evaluation.images, "classes": evaluation.classes})[:-1]
    return f'{head},\n"stages": {lines(evaluation.stages)},\n"mistakes": {lines(evaluation.mistakes)}}}\n'.encode()


def unpack_evaluation(content: bytes) -> Evaluation:
    """Return what :func:`pack_evaluation` was given.

    Raises
    ------
    ValueError
        If ``content`` is something else.
    """
    evaluation: Evaluation = from_json(Evaluation, parse_json(content), "test")
    return evaluation
