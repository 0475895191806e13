"""The examples, as a reader runs them."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"

pytest.importorskip("sklearn", reason="scikit-learn is not installed")


def test_grow_by_hand(capsys):
    accuracy = runpy.run_path(str(EXAMPLES / "grow_by_hand.py"))["main"]()
    said = capsys.readouterr().out
    assert accuracy > 0.9
    assert [said.count(f"S{k} inserted") for k in (1, 2, 3)] == [1, 1, 1]
    assert said.count("unfrozen\n") == 2
    assert f"test accuracy {accuracy:.3f}" in said


def test_they_are_short():
    for example in EXAMPLES.glob("*.py"):
        assert len(example.read_text().splitlines()) <= 80, example.name
