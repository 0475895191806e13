"""The documents' Python examples run as they are printed; tests/deploy runs the one that needs a trained model."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def examples():
    for document in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for code in re.findall(r"```python\n(.*?)```", document.read_text(), re.DOTALL):
            if "load_model" not in code:
                yield pytest.param(code, id=f"{document.stem}-{code.count(chr(10))}-lines")


@pytest.mark.parametrize("code", list(examples()))
def test_example_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(code, "example", "exec"), names)
    if "graph" in names:
        assert list(names["graph"].subnetworks) == ["S1", "S2", "S3"]
        assert names["totals"][0] > 0
    elif "steps" in names:
        assert (names["steps"].phase.subnetworks, names["steps"].batch_size) == (3, 32)
    else:
        run = names["run"]
        assert (run.config.dataset, run.state.epochs) == ("digits", 9 if "train_run" in code else 0)
