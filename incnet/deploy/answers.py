"""What images show, as lines for people, as CSV and as JSON lines."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import TypedDict

__all__ = ["FORMATS", "SUFFIXES", "Answer", "Named"]

Named = TypedDict("Named", {"class": str, "probability": float})


class Answer(TypedDict):
    """What an image shows: its name, and classes with their probabilities, the most probable first."""

    image: str
    predictions: list[Named]


def in_words(answers: Iterable[Answer]) -> Iterator[str]:
    """``three.png: 3 (98.1%), 8 (1.2%)``."""
    for answer in answers:
        named = (f"{each['class']} ({each['probability']:.1%})" for each in answer["predictions"])
        yield f"{answer['image']}: {', '.join(named)}"


def as_json_lines(answers: Iterable[Answer]) -> Iterator[str]:
    """An object for each image."""
    yield from map(json.dumps, answers)


def as_csv(answers: Iterable[Answer]) -> Iterator[str]:
    """A header, ``image,class,probability``, then ``class_2,probability_2`` and so on; and a line for each image."""
    answers = iter(answers)
    first = list(islice(answers, 1))
    places = ["", *(f"_{place}" for answer in first for place in range(2, len(answer["predictions"]) + 1))]
    yield _row(["image", *(f"{column}{place}" for place in places for column in ("class", "probability"))])
    for answer in chain(first, answers):
        named = ((each["class"], each["probability"]) for each in answer["predictions"])
        yield _row([answer["image"], *chain.from_iterable(named)])


def _row(values: Iterable[object]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(values)
    return line.getvalue()


FORMATS: dict[str, Callable[[Iterable[Answer]], Iterator[str]]] = {
    "text": in_words,
    "csv": as_csv,
    "jsonl": as_json_lines,
}
# Endings of files that say which.
SUFFIXES = {".txt": "text", ".csv": "csv", ".jsonl": "jsonl", ".json": "jsonl"}
