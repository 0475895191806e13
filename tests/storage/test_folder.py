"""Run folders: which names they may have, who gets which, and that a run finds its way back from anywhere."""

import json
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from incnet import train as command
from incnet.config import Config, ConfigError
from incnet.data.catalogue import load_dataset
from incnet.data.dataset import DataError
from incnet.report import __main__ as report
from incnet.run.run import Run
from incnet.storage.folder import checkout, new_folder
from incnet.study import __main__ as study_command
from tests.faults.runs import ARGUMENTS, outcome

ONE_EPOCH = (*ARGUMENTS, "--epochs", "1")


def train(*arguments):
    return command.main([*ONE_EPOCH, *map(str, arguments)])


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


# Names.

ODD = {
    "ideographic space": "実験\u3000一",
    "no-break space": "run\u00a01",
    "narrow no-break space": "Screenshot 9.41\u202fAM",
    "zero-width non-joiner": "\u0645\u06cc\u200c\u062e",
    "bytes that spell nothing": os.fsdecode(b"caf\xe9"),
    "emoji": "👩‍🔬",
}


@pytest.mark.parametrize("name", ODD.values(), ids=ODD)
def test_a_path_that_is_taken_at_the_beginning_is_taken_later(name, tmp_path, capsys):
    folder = tmp_path / name
    assert train("--out", folder, "--report") == 0
    assert command.main(["--resume", str(folder), "--epochs", "2"]) == 0
    assert capsys.readouterr().err == ""
    assert (folder / "report.html").exists()


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31mred", "bell\a", "\x7f"])
@pytest.mark.parametrize("option", ["--out", "--data-dir"])
def test_a_path_that_cannot_be_shown_is_refused_at_the_beginning(option, name, tmp_path, capsys):
    assert train("--out", tmp_path / "run", option, tmp_path / name) == 2
    error = capsys.readouterr().err
    assert "choose one without control characters" in error
    assert error.isascii()
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


# A run that came to nothing.


def failing(*arguments, out):
    """A run whose first epoch ends in NaN: exit code 3, and files that say so."""
    assert train("--out", out, "--lr", "1e30", *arguments) == 3


def test_a_run_that_failed_before_its_first_epoch_blocks_nothing(tmp_path, capsys):
    failing("--report", out=tmp_path / "run")
    assert train("--out", tmp_path / "run", "--lr", "1e-3") == 0
    assert config_of(tmp_path / "run")["config"]["lr"] == 1e-3
    sessions = (tmp_path / "run" / "sessions.jsonl").read_text()
    assert sessions.count('"begin"') == 1
    assert train("--out", tmp_path / "again", "--lr", "1e-3") == 0
    assert outcome(tmp_path / "run") == outcome(tmp_path / "again")
    capsys.readouterr()
    assert train("--out", tmp_path / "run") == 2  # an epoch is something
    assert "the folder is not empty" in capsys.readouterr().err


def test_nor_does_one_that_was_killed(tmp_path):
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / f"000001-epoch0-batch0-{'0' * 32}.safetensors").touch()
    (folder / "checkpoints" / "000002-epoch0-batch3.tmp").touch()
    (folder / "config.json").write_text("{}")
    (folder / "metrics.jsonl").write_text('{"event": "insert"}\n{"event": "ep')
    assert train("--out", folder) == 0
    assert not list(folder.rglob("*.tmp"))


@pytest.mark.parametrize(
    "found",
    [
        f"checkpoints/000002-epoch0-batch3-{'0' * 32}.safetensors",  # some steps of an epoch
        f"checkpoints/000002-epoch1-batch0-{'0' * 32}.damaged",
        "checkpoints/notes.txt",
        "best.safetensors",
        "stages/S1.safetensors",
        "notes.txt",
        "metrics.jsonl",
    ],
)
def test_whatever_a_run_or_a_user_has_made_is_kept(found, tmp_path, capsys):
    (tmp_path / "config.json").touch()
    (tmp_path / found).parent.mkdir(exist_ok=True)
    (tmp_path / found).write_text('{"event": "epoch"}')
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    assert train("--out", tmp_path) == 2
    assert "nothing is overwritten" in capsys.readouterr().err
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*") if path.name != "lock"} == before


# Without --out.


def test_runs_that_begin_together_get_a_folder_each(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: new_folder(tmp_path / "runs", "digits"), range(24)))
    assert len(set(folders)) == 24
    assert all(folder.is_dir() for folder in folders)
    assert {"digits", "digits-2", "digits-24"} <= {folder.name for folder in folders}


def test_two_runs_in_one_second(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command.time, "strftime", lambda form: "20260101-000000")
    assert train("--seed", 1) == 0
    assert train("--seed", 2) == 0
    names = {path.name: config_of(path)["config"] for path in (tmp_path / "runs").iterdir()}
    stem = "digits-resnet8-incremental-20260101-000000"
    assert {name: config["seed"] for name, config in names.items()} == {stem: 1, f"{stem}-2": 2}
    assert names[stem]["out"] == f"runs/{stem}"


# The commit.


def test_the_commit_of_a_checkout(tmp_path, monkeypatch):
    def git(*arguments):
        identity = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.org", "-c", "commit.gpgsign=false")
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert checkout(tmp_path) == {}
    git("init", "--quiet")
    (tmp_path / "code.py").write_text("1")
    git("add", ".")
    git("commit", "--quiet", "--message", "one")
    commit = git("rev-parse", "HEAD")
    (tmp_path / "notes.txt").touch()  # not a part of it
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))  # as hooks have it
    assert checkout(tmp_path) == {"commit": commit, "checkout": "clean"}
    (tmp_path / "code.py").write_text("2")
    assert checkout(tmp_path) == {"commit": commit, "checkout": "changes"}
    monkeypatch.setenv("PATH", "")
    assert checkout(tmp_path) == {}


# From another folder.


def test_a_relative_data_dir_is_found_from_another_folder(tmp_path, monkeypatch):
    """It says where a run's own data are now."""
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8)
    labels = np.arange(40) % 2
    np.savez(tmp_path / "here" / "data.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    monkeypatch.chdir(tmp_path / "here")
    own = ["data.npz", "--data-dir", "data.npz", "--arch", "resnet8", "--epochs", "1", "--no-report", "--out", "run"]
    assert command.main(own) == 0
    assert config_of(Path("run"))["config"]["data_dir"] == str(tmp_path / "here" / "data.npz")
    monkeypatch.chdir(tmp_path / "there")
    assert command.main(["--resume", "../here/run", "--epochs", "2"]) == 0
    shutil.move(tmp_path / "here" / "run", tmp_path / "there" / "moved")
    shutil.move(tmp_path / "here" / "data.npz", tmp_path / "there" / "elsewhere.npz")
    assert command.main(["--resume", "moved", "--data-dir", "elsewhere.npz", "--epochs", "3"]) == 0
    assert config_of(Path("moved"))["config"]["data_dir"] == str(tmp_path / "there" / "elsewhere.npz")


def test_a_folder_for_the_digits_is_refused(tmp_path, capsys):
    """By whoever is given one; runs that were begun when it was passed over go on without it."""
    assert train("--out", tmp_path / "run") == 0
    study = ["figure4", "--dataset", "digits", "--archs", "resnet8", "--out", str(tmp_path / "study"), "--dry-run"]
    for refuse in (
        lambda: train("--data-dir", tmp_path),
        lambda: command.main(["--resume", str(tmp_path / "run"), "--data-dir", str(tmp_path)]),
        lambda: study_command.main([*study, "--data-dir", str(tmp_path)]),
    ):
        capsys.readouterr()
        assert refuse() == 2
        assert "the digits come with scikit-learn" in (error := " ".join(capsys.readouterr().err.split()))
        assert "incnet train FOLDER" in error
    for refuse in (
        lambda: Run(Config("digits", data_dir=tmp_path)),
        lambda: load_dataset("digits", tmp_path),
    ):
        with pytest.raises((ConfigError, DataError), match="the digits come with scikit-learn"):
            refuse()
    content = config_of(tmp_path / "run")
    content["config"]["data_dir"] = str(tmp_path)
    (tmp_path / "run" / "config.json").write_text(json.dumps(content))
    assert report.main([str(tmp_path / "run"), "--out", str(tmp_path / "report.html")]) == 0
    assert command.main(["--resume", str(tmp_path / "run"), "--epochs", "2"]) == 0
    budget = ["budget", "--from-runs", str(tmp_path / "run"), "--out", str(tmp_path / "table")]
    assert study_command.main(budget) == 0
