"""Run folders: which names they may have, who gets which, and that a run finds its way back from anywhere."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from incnet import train as command
from incnet.training.folder import new_folder
from tests.faults.runs import ARGUMENTS

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


# From another folder.


def test_a_relative_data_dir_is_found_from_another_folder(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert train("--out", "run", "--data-dir", "data") == 0
    assert config_of(Path("run"))["config"]["data_dir"] == str(tmp_path / "here" / "data")
    monkeypatch.chdir(tmp_path / "there")
    assert command.main(["--resume", "../here/run", "--epochs", "2"]) == 0
    shutil.move(tmp_path / "here" / "run", tmp_path / "there" / "moved")
    assert command.main(["--resume", "moved", "--data-dir", "elsewhere", "--epochs", "3"]) == 0
    assert config_of(Path("moved"))["config"]["data_dir"] == str(tmp_path / "there" / "elsewhere")
