"""What a network takes for what: confusion, recall of each class, and the most confidently wrong test images."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

from incnet.report.arms import Network
from incnet.report.history import History
from incnet.report.interval import wilson
from incnet.report.numbers import between, share
from incnet.training.evaluation import Evaluation, Mistake

__all__ = ["Cell", "Confusions", "Picture", "confusions"]

MOST_ARMS = 4  # whose confusions are shown
MOST_CLASSES = 20  # that a matrix can show; of more, the most frequent confusions are listed
MOST_PAIRS = 20


@dataclass(frozen=True)
class Cell:
    """A count of a confusion matrix.

    Attributes
    ----------
    shade : float
        0 to 1: share of the class's images.
    title : str
        In words, for the pointer.
    """

    count: int
    shade: float
    right: bool
    title: str


@dataclass(frozen=True)
class Picture:
    """A test image that was taken for something else; ``source`` is a data URI."""

    source: str
    label: str
    predicted: str
    probability: str
    title: str


@dataclass(frozen=True)
class Confusions:
    """All about the mistakes of one run; the template's names.

    Attributes
    ----------
    rows : list of (class, cells, images, recall, interval)
        Of the matrix; without cells where there are too many classes, and then by recall, the lowest first.
    pairs : list of str
        The most frequent confusions, where there is no matrix.
    """

    title: str
    summary: str
    classes: list[str]
    rows: list[tuple[str, list[Cell], int, str, str]]
    pairs: list[str]
    pictures: list[Picture]


def confusions(network: Network) -> tuple[list[Confusions], int]:
    """Return those of the first tested run of each arm, of a few arms; and how many arms are left out."""
    found = []
    for arm in network.arms:
        run = next((run for run in arm.counted if run.evaluation), None)
        if run and run.evaluation:
            found.append(_confusions(f"{arm.label}, seed {run.setup.seed}", run, run.evaluation))
    return found[:MOST_ARMS], max(0, len(found) - MOST_ARMS)


def _confusions(title: str, run: History, test: Evaluation) -> Confusions:
    last = test.stages[-1]
    counts, classes = last.counts, test.classes
    images = counts.sum(axis=1)
    few = len(classes) <= MOST_CLASSES
    rows = []
    for i, name in enumerate(classes):
        cells = [_cell(classes, i, j, int(counts[i, j]), int(images[i])) for j in range(len(classes))] if few else []
        n = int(images[i])
        reach = between(wilson(float(last.recall[i]), n)) if n else ""
        rows.append((name, cells, n, f"{100 * last.recall[i]:.1f}" if n else "", reach))
    if not few:
        order = sorted((i for i in range(len(classes)) if images[i]), key=lambda i: float(last.recall[i]))
        rows = [rows[i] for i in order[:MOST_PAIRS]]
    return Confusions(
        title,
        f"{int(counts.trace()):,} of {test.images:,} test images are right, {share(last.accuracy)}; balanced accuracy, "
        f"the mean of the classes' recalls, is {share(last.balanced_accuracy)}.",
        classes if few else [],
        rows,
        [] if few else _pairs(test),
        [_picture(mistake, classes) for mistake in test.mistakes],
    )


def _cell(classes: Sequence[str], i: int, j: int, count: int, images: int) -> Cell:
    part = count / images if images else 0.0
    told = "right" if i == j else f"taken for {classes[j]}"
    return Cell(count, round(math.sqrt(part), 3), i == j, f"{classes[i]}: {count} of {images} {told}, {share(part)}")


def _pairs(test: Evaluation) -> list[str]:
    counts = test.stages[-1].counts
    wrong = [
        (int(counts[i, j]), i, j) for i in range(len(counts)) for j in range(len(counts)) if i != j and counts[i, j]
    ]
    return [
        f"{test.classes[i]} taken for {test.classes[j]}: {count} of {int(counts[i].sum())}"
        for count, i, j in sorted(wrong, key=lambda pair: (-pair[0], pair[1:]))[:MOST_PAIRS]
    ]


def _picture(mistake: Mistake, classes: Sequence[str]) -> Picture:
    from PIL import Image

    pixels, png = mistake.image, io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(png, "PNG")
    label, predicted = classes[mistake.label], classes[mistake.predicted]
    return Picture(
        "data:image/png;base64," + base64.b64encode(png.getvalue()).decode(),
        label,
        predicted,
        share(mistake.probability, 0),
        f"test image {mistake.index}: a {label}, taken for {predicted} with probability {share(mistake.probability)}",
    )
