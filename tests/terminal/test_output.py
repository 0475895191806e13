"""Output that goes away, is full or cannot spell a name: no command ends of it, or shows a traceback."""

import contextlib
import errno
import json
import os
import subprocess
import sys
from io import TextIOWrapper
from pathlib import Path

import numpy as np
import pytest

from incnet import export, predict, train
from incnet.data.catalogue import load_dataset
from incnet.report.__main__ import main as report
from incnet.study.__main__ import main as study
from incnet.terminal import Terminal, command
from tests.faults.runs import ARGUMENTS

from .screen import Inside

LONG = 300 * "a"
MAINS = {"train": train.main, "study": study, "report": report, "predict": predict.main, "export": export.main}
NAME = "Ziffern-ż-数字"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a run, in a folder of a name that few encodings can spell, and some digits."""
    folder = tmp_path_factory.mktemp("place") / NAME
    folder.mkdir()
    assert train.main([*ARGUMENTS, "--epochs", "3", "--out", str(folder / "run")]) == 0
    np.save(folder / "digits.npy", load_dataset("digits").test.images[:7])
    return folder


def commands(place, out):
    """Return arguments that make each command say something, with a result that can be looked for."""
    return {
        "train": [*ARGUMENTS, "--epochs", "2", "--out", str(out / "new")],
        "study": ["table2", "--archs", "resnet8", "--dataset", "digits", "--limit", "200", "--epochs", "2",
                  "--seeds", "1", "--arms", "baseline", "--no-report", "--dry-run", "--out", str(out / "study")],
        "report": [str(place / "run"), "--out", str(out / "report.html")],
        "predict": [str(place / "run"), str(place / "digits.npy")],
        "export": [str(place / "run"), str(out / "model.onnx")],
    }  # fmt: skip


def full_stream():
    return open("/dev/full", "w", encoding="utf-8")


def unread_stream():
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w", encoding="utf-8")


@pytest.mark.parametrize("name", MAINS)
@pytest.mark.parametrize("stream", [full_stream, unread_stream])
def test_output_that_takes_nothing(name, stream, place, tmp_path, monkeypatch, capsys):
    with stream() as out:
        monkeypatch.setattr(sys, "stdout", out)
        code = MAINS[name](commands(place, tmp_path)[name])
        monkeypatch.undo()
    error = capsys.readouterr().err
    goes_on = name in ("train", "study")  # who has left is missed by a command with more to say
    assert error.count("standard output cannot be written") == (stream is full_stream or goes_on)
    assert code == (4 if (name, stream) == ("predict", full_stream) else 0)
    made = {"train": "new/summary.json", "report": "report.html", "export": "model.onnx"}
    assert name not in made or (tmp_path / made[name]).exists()


@pytest.mark.parametrize("name", MAINS)
@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_output_that_cannot_spell(name, encoding, place, tmp_path, monkeypatch):
    out = tmp_path / NAME
    out.mkdir()
    with open(tmp_path / "said", "wb") as file, TextIOWrapper(file, encoding) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert MAINS[name](commands(place, out)[name]) == 0
        monkeypatch.undo()
    said = (tmp_path / "said").read_text(encoding)
    assert ("\\u6570\\u5b57" in said) == (name != "study")
    assert "━" not in said
    assert said


@pytest.mark.parametrize("name", MAINS)
@pytest.mark.parametrize("columns", [60, 80])
def test_help_fits_the_width(name, columns, monkeypatch):
    with Inside(monkeypatch, columns) as screen, contextlib.suppress(SystemExit):
        MAINS[name](["--help"])
    assert all(len(line) <= columns or " " not in line.strip() for line in screen.lines)
    assert "Show this help" in screen.text


@pytest.mark.parametrize("name", MAINS)
def test_help_that_takes_nothing(name, monkeypatch, capsys):
    with full_stream() as out:
        monkeypatch.setattr(sys, "stdout", out)
        with contextlib.suppress(SystemExit):
            MAINS[name](["--help"])
        monkeypatch.undo()
    assert capsys.readouterr().err.count("standard output cannot be written") == 1


def test_a_pipe_into_head(tmp_path):
    """The interpreter, too, ends without complaint about what it could not flush."""
    line = f"{sys.executable} -m incnet.train {' '.join(ARGUMENTS)} --epochs 2 --out run | head -n 1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {line}"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.count("\n") == 1
    assert done.stderr == "warning: standard output cannot be written (Broken pipe); going on without it\n"
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["epochs"] == 2


def test_no_output_at_all(tmp_path):
    line = f"{sys.executable} -m incnet.train {' '.join(ARGUMENTS)} --epochs 1 --out run >&- 2>&-"
    assert subprocess.run(["bash", "-c", line], cwd=tmp_path).returncode == 0
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["epochs"] == 1


def test_streams_are_put_back_and_long_output_is_lost_once(monkeypatch, capsys):
    @command()
    def talk() -> int:
        for _ in range(10_000):
            Terminal().say("a line that fills the buffer of a stream soon")
        return 7

    with full_stream() as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert talk() == 7
        assert sys.stdout is out
        monkeypatch.undo()
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "missing"),
    [("report", "error: no runs: name at least one"), ("predict", "MODEL"), ("export", "MODEL"), ("study", "table2")],
)
def test_nothing_given_is_said_with_what_to_do(name, missing, capsys):
    try:
        code = MAINS[name]([])
    except SystemExit as end:
        code = end.code
    assert code == 2
    said = "".join(capsys.readouterr())
    assert missing in said
    assert f"incnet {name}" in said


@pytest.mark.parametrize("arguments", [
    ["train", LONG],
    ["train", "--resume", LONG],
    ["train", "digits", "--out", LONG],
    ["train", "digits", "--arch", f"{LONG}.py:network"],
    ["report", LONG],
    ["predict", LONG, "a.png"],
    ["export", LONG, "a.onnx"],
    ["study", "table2", "--dataset", "digits", "--out", LONG],
], ids=lambda arguments: " ".join(arguments).replace(LONG, "LONG"))  # fmt: skip
def test_a_name_that_is_too_long_is_refused_in_a_line(arguments, capsys):
    name, *rest = arguments
    assert MAINS[name](rest) == 2
    said = capsys.readouterr().err
    assert (said[:7], said.count("\n")) == ("error: ", 1)
    assert "File name too long" in said


def test_a_folder_that_may_not_be_looked_into_is_named_in_a_line(monkeypatch, capsys):
    """As root may every one; what Python raises for others comes from the system's stat."""

    def refused(path, **options):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", refused)
    assert report(["secret/runs"]) == 2
    assert capsys.readouterr().err == "error: secret/runs: Permission denied\n"
