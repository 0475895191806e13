"""The documents' Python examples run as they are printed; tests/deploy runs the one that needs a trained model."""

import json
import re
from pathlib import Path

import pytest

from incnet.__main__ import main as incnet

ROOT = Path(__file__).parents[1]


def examples():
    for document in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for code in re.findall(r"```python\n(.*?)```", document.read_text(), re.DOTALL):
            if "load_model" not in code and "def network(" not in code:
                yield pytest.param(code, id=f"{document.stem}-{code.count(chr(10))}-lines")


@pytest.mark.parametrize("code", list(examples()))
def test_example_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if "PIL" in code:
        pytest.importorskip("PIL.Image")
    names = {}
    exec(compile(code, "example", "exec"), names)
    if "graph" in names:
        assert list(names["graph"].subnetworks) == ["S1", "S2", "S3"]
        assert names["totals"][0] > 0
    elif "grown" in names:
        assert [name for name, _ in names["grown"].row] == ["S1", "mine", "S1", "mine"]
    elif "steps" in names:
        assert (names["steps"].phase.subnetworks, names["steps"].batch_size) == (3, 32)
    elif "dataset" in names:
        assert names["run"].config.dataset == names["dataset"].name
    elif "folder" in names:
        assert len(list(Path("pictures").rglob("*.png"))) == 720
    else:
        run = names["run"]
        assert (run.config.dataset, run.state.epochs) == ("digits", 9 if "train_run" in code else 0)


def test_the_way_from_pictures_to_a_small_network(tmp_path, monkeypatch):
    pytest.importorskip("PIL.Image")
    pytest.importorskip("onnx")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    page = (ROOT / "docs" / "own-images.md").read_text()
    exec(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1], {})
    commands = re.findall(r"^    incnet (.*)$", page, re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["train", "predict", "export", "train", "train", "study"]
    for command in commands:
        assert incnet(command.split()) == 0
    assert (tmp_path / "small.onnx").stat().st_size > 10_000


def test_the_way_of_a_network_of_ones_own(tmp_path, monkeypatch):
    """Each file is there while the command runs that names it, and no longer."""
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "own-networks.md").read_text()
    files = dict(re.findall(r"As `(\w+\.py)`:\n\n```python\n(.*?)```", page, re.DOTALL))
    commands = re.findall(r"^    incnet (.*)$", page, re.MULTILINE)
    of_net, of_swish = ["train", "train", "export", "savings", "study"], ["train", "export", "train"]
    assert [command.split()[0] for command in commands] == [*of_net, *of_swish]
    for command in commands:
        named = [Path(name) for name in files if name in command]
        for path in named:
            path.write_text(files[path.name])
        assert incnet([*command.split(), *(["--no-report"] if "train" in command else [])]) == 0
        for path in named:
            path.unlink()
    assert len(files["net.py"].splitlines()) <= 20
    assert json.loads((tmp_path / "runs" / "own" / "summary.json").read_text())["test_accuracy"] > 0.9
    for command in commands[-2:]:
        assert incnet(command.replace("--trust swish.py", "").replace("--epochs 5", "--epochs 6").split()) == 2
