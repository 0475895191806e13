"""docs/metrics.md says what a run writes: every field, nothing else, with its type."""

import json
import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from incnet import train as command
from incnet.run.stage import Stage
from incnet.training import events
from incnet.training.evaluation import Evaluation
from tests.faults.runs import ARGUMENTS

DOCUMENT = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
# Where they are written, and only there.
SOMETIMES = {"objects", "start", "environment.commit", "environment.checkout", "environment.allreduce"} | {
    f"environment.cupy-cuda{version}x" for version in (12, 13)
}


def table(file):
    """Rows of the table below a heading, as lists of cells."""
    section = DOCUMENT.split(f"\n## {file}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in row] for row in rows[2:]]


def spelt(kind):
    """A type as the tables spell it."""
    names = [{"NoneType": "null"}.get(each.__name__, each.__name__) for each in get_args(kind) or [kind]]
    return kind.__origin__.__name__ if hasattr(kind, "__origin__") else " or ".join(names)


def described(kind, prefix=""):
    """(field, type) of a dataclass and of those in it."""
    for field in fields(kind):
        hint = get_type_hints(kind)[field.name]
        yield f"{prefix}{field.name}", "dict" if is_dataclass(hint) else spelt(hint)
        for inner in (hint, *get_args(hint)):
            if is_dataclass(inner):
                yield from described(inner, f"{prefix}{field.name}.")


@pytest.mark.parametrize("event", get_args(events.Event), ids=lambda event: event.event)
def test_every_field_of_an_event_is_in_the_table(event):
    assert [(row[1], row[2]) for row in table("metrics.jsonl") if row[0] == event.event] == list(described(event))


def test_the_table_has_no_other_events():
    names = {"every", *(event.event for event in get_args(events.Event))}
    assert {row[0] for row in table("metrics.jsonl")} == names
    assert list(events.as_json(events.Stop(3, "over"))) == ["event", "epoch", "reason"]
    assert [row[1] for row in table("metrics.jsonl") if row[0] == "every"] == ["event", "seconds"]


def test_every_field_of_a_stage_and_of_the_test_is_in_its_table():
    stage = [(row[0].removeprefix("stages."), row[1]) for row in table("summary.json") if row[0].startswith("stages.")]
    assert stage == [*described(Stage), ("test_accuracy", "float or null")]
    assert [(row[0], row[1]) for row in table("test.json")] == list(described(Evaluation))


def paths(content, prefix=""):
    """(field, type) of JSON objects, of those in lists as well; of ``config`` and sums only that they are there."""
    for name, value in content.items():
        yield f"{prefix}{name}", type(value).__name__
        if name in ("config", "data", "network", "objects"):
            continue
        inner = value[:1] if isinstance(value, list) else [value]
        for each in inner:
            if isinstance(each, dict):
                yield from paths(each, f"{prefix}{name}.")


def test_a_run_writes_what_the_tables_say(tmp_path):
    folder = tmp_path / "run"
    assert command.main([*ARGUMENTS, "--epochs", "3", "--out", str(folder)]) == 0
    for file in ("summary.json", "config.json", "test.json"):
        found = dict(paths(json.loads((folder / file).read_text())))
        rows = {row[0]: row[1] for row in table(file)}
        assert found.keys() - rows.keys() == set(), file
        assert rows.keys() - found.keys() <= SOMETIMES, file
        for name, kind in found.items():
            assert kind in rows[name].replace("null", "NoneType").split(" or "), name


def test_nothing_in_the_document_is_cut():
    """A cell with a bar in it would be two."""
    for file, columns in (("metrics.jsonl", 5), ("summary.json", 4), ("config.json", 3), ("test.json", 3)):
        assert {len(row) for row in table(file)} == {columns}
        assert all(re.fullmatch(r"[\w.-]+", row[1 if columns == 5 else 0]) for row in table(file))
