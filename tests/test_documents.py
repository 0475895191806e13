"""The documents' Python examples run as they are printed; tests/deploy runs the one that needs a trained model."""

import importlib
import json
import re
from pathlib import Path

import pytest

from incnet.__main__ import COMMANDS
from incnet.__main__ import main as incnet
from incnet.commandline import make_parser
from incnet.study.designs import DESIGNS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMAND = re.compile(
    rf"(?:incnet |python -m incnet\.)({'|'.join(COMMANDS)})\b([^`#|>;]*?)(?:`|#|\||>|;|&&|$)", re.MULTILINE
)


def flags(command):
    kind = getattr(importlib.import_module(COMMANDS[command].module), COMMANDS[command].options)
    return {flag for action in make_parser(kind, command)._actions for flag in action.option_strings}


def test_commands_have_the_options_that_documents_give_them():
    known = {command: flags(command) for command in COMMANDS}
    found = [
        (page.name, command, word.partition("=")[0].rstrip(".,:)]"))
        for page in PAGES
        for command, line in COMMAND.findall(page.read_text().replace("\\\n", " "))
        for word in line.split()
        if word.startswith("--")
    ]
    assert len(found) > 100
    assert not [(page, command, flag) for page, command, flag in found if flag not in known[command]]


def test_files_that_documents_name_are_there():
    """Or begin so: docs/results/runs/fast* are several. The changelog names those of before, too."""
    path = re.compile(r"(?<![\w/.-])((?:incnet|kernels|bench|tests|docs|examples)/[\w/.-]*\w)")
    found = [(page.name, name) for page in PAGES if page.stem != "CHANGELOG" for name in path.findall(page.read_text())]
    assert len(found) > 100
    named = [(page, name.removesuffix("NAME")) for page, name in found]
    assert not [(page, name) for page, name in named if not any(ROOT.glob(f"{name}*"))]


def test_the_page_of_studies_has_every_arm():
    page = (ROOT / "docs" / "studies.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]* \| ([^|]*) \|$", page, re.MULTILINE))
    assert rows.keys() >= DESIGNS.keys()
    for name in ("table2", "figure3", "figure4", "budget"):
        design, (usual, asked) = DESIGNS[name], rows[name].partition(";")[0].split(" [, ")
        assert usual.split(", ") == list(design.arms)
        assert asked.rstrip("]").split(", ") == list(design.more_arms)


def examples():
    for document in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for code in re.findall(r"```python\n(.*?)```", document.read_text(), re.DOTALL):
            if not any(name in code for name in ("load_model", "onnxruntime", "def network(")):
                yield pytest.param(code, id=f"{document.stem}-{code.count(chr(10))}-lines")


@pytest.mark.parametrize("code", list(examples()))
def test_example_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if "PIL" in code:
        pytest.importorskip("PIL.Image")
    if "labels.csv" in code:
        Path("labels.csv").write_text("picture,class\na.jpg,cat\nb.jpg,dog\n", encoding="utf-8")
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
    elif "table" in names:
        assert [str(path) for path in sorted(Path("by-class").rglob("*.jpg"))] == [
            "by-class/cat/a.jpg",
            "by-class/dog/b.jpg",
        ]
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
