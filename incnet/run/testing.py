"""The test: of every stage, as it was at its best, once, when training is over. Nothing is decided by it."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from incnet.backend import asarray, asnumpy
from incnet.data.dataset import Split
from incnet.deploy.model import stage_file
from incnet.graph import Graph
from incnet.run.images import RunImages
from incnet.run.network import NetworkFactory
from incnet.run.state import RunState
from incnet.storage.folder import RunFolder
from incnet.storage.tensors import unpack
from incnet.training.evaluation import LARGEST_SIDE, Evaluation, Mistake, StageTest, pack_evaluation, unpack_evaluation
from incnet.training.nonfinite import NonFiniteError

__all__ = ["evaluate_stages"]

MISTAKES = 24  # that are kept
FILE = "test.json"

Weights = Mapping[str, np.ndarray]


def evaluate_stages(state: RunState, networks: NetworkFactory, images: RunImages, folder: RunFolder) -> Evaluation:
    """Test the stages of a run that is over, and leave the results in its folder, as ``test.json``.

    To be called on one rank alone. What ``test.json`` says of weights that have been tested before is kept, and they
    are not tested again. The state's graph then holds the last stage's best weights.

    Raises
    ------
    NonFiniteError
        If a loss is NaN or infinite.
    WriteError
        If the file cannot be written.
    """
    test = images.dataset.test
    before = _before(folder, len(test))
    known = {stage.weights: stage for stage in before.stages} if before else {}
    stages, mistakes = list[StageTest](), before.mistakes if before else []
    for graph, name, weights in _stages(state, networks, folder):
        digest = _digest(weights)
        if digest not in known:
            logits = _logits(graph, weights, images)
            known[digest] = _judge(name, digest, logits, test.labels, images.dataset.num_classes)
            mistakes = list(_mistakes(logits, test))  # of the last stage in the end
        stages.append(known[digest])
    state.graph.load_state(state.best_weights)
    evaluation = Evaluation(len(test), list(images.dataset.classes), stages, mistakes)
    folder.replace(FILE, [pack_evaluation(evaluation)])
    return evaluation


def _before(folder: RunFolder, images: int) -> Evaluation | None:
    """What an earlier session of the run has found, if it can be read and is about these images."""
    try:
        found = unpack_evaluation((folder.path / FILE).read_bytes())
    except (OSError, ValueError):
        return None
    return found if found.images == images else None


def _stages(state: RunState, networks: NetworkFactory, folder: RunFolder) -> Iterator[tuple[Graph, str, Weights]]:
    """Yield graph, name and best weights of each stage whose model is there, and of the last one in any case."""
    names = list(state.subnetworks)
    for stage in state.stages[:-1]:
        k = names.index(stage.name) + 1
        graph = networks.graph()
        for name in names[:k]:
            graph.insert(name, state.subnetworks[name])
        try:
            weights, _ = unpack((folder.path / stage_file(k)).read_bytes())
            graph.load_state(graph.state() | weights)
        except (OSError, ValueError):
            continue
        yield graph, stage.name, weights
    yield state.graph, state.stage.name, state.best_weights


def _digest(weights: Weights) -> str:
    """Sum over all that plays a part in evaluation: dropout's seeds, the only integers, do not."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        if weights[name].dtype == np.float32:
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(weights[name]).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _logits(graph: Graph, weights: Weights, images: RunImages) -> NDArray[np.float64]:
    """Return what the network answers to the test images (N, classes)."""
    graph.load_state(graph.state() | dict(weights))
    batches = images.test.unsharded()
    batches.batch_size = max(1, batches.batch_size // images.ranks)
    return np.concatenate([asnumpy(graph.forward(asarray(x))).astype(np.float64) for x, _ in batches.epoch(0)])


def _judge(name: str, digest: str, logits: NDArray[np.float64], labels: np.ndarray, classes: int) -> StageTest:
    log_probabilities = logits - _log_sum_exp(logits)
    loss = -float(log_probabilities[np.arange(len(labels)), labels].mean())
    if not math.isfinite(loss):
        raise NonFiniteError(f"the loss of {name} on the test images is {loss}")
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (labels, logits.argmax(axis=1)), 1)
    return StageTest(name, digest, loss, confusion.tolist())


def _mistakes(logits: NDArray[np.float64], test: Split) -> Iterator[Mistake]:
    """Yield the images that were most confidently taken for something else."""
    predicted = logits.argmax(axis=1)
    probability = np.exp(logits.max(axis=1) - _log_sum_exp(logits)[:, 0])
    wrong = np.flatnonzero(predicted != test.labels)
    for index in wrong[np.argsort(-probability[wrong], kind="stable")][:MISTAKES].tolist():
        small = _small(test.pixels(np.array([index]))[0])
        yield Mistake(
            index=index,
            label=int(test.labels[index]),
            predicted=int(predicted[index]),
            probability=min(1.0, float(probability[index])),
            shape=list(small.shape),
            pixels=base64.b64encode(small.tobytes()).decode(),
        )


def _log_sum_exp(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    largest = logits.max(axis=1, keepdims=True)
    return largest + np.log(np.exp(logits - largest).sum(axis=1, keepdims=True))


def _small(image: np.ndarray) -> NDArray[np.uint8]:
    """Return an image of at most 64 x 64 pixels, each the mean of a square of the given ones; grey unless in colour."""
    if image.shape[2] not in (1, 3):
        image = image.mean(axis=2, keepdims=True)
    height, width, channels = image.shape
    side = math.ceil(max(height, width) / LARGEST_SIDE)
    rows, columns = max(1, height // side), max(1, width // side)
    squares = image[: rows * side, : columns * side].reshape(
        rows, min(side, height), columns, min(side, width), channels
    )
    return np.rint(squares.mean(axis=(1, 3))).astype(np.uint8)
