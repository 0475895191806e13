"""The command ``incnet``."""

import importlib
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from incnet import __version__
from incnet.__main__ import COMMANDS, main


@pytest.mark.parametrize("arguments", [[], ["--help"], ["help"]])
def test_the_overview(arguments, capsys):
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 80
    assert all(f"\n  {name} " in said for name in COMMANDS)


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith(f"incnet {__version__}, Python ")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("trian", "unknown command trian; did you mean train?"),
        ("Predict", "unknown command Predict; did you mean predict?"),
        ("--verison", "unknown option --verison; did you mean --version?"),
        ("runs/1", "unknown command runs/1\n"),
    ],
)
def test_near_misses(word, message, capsys):
    assert main([word]) == 2
    assert f"error: {message}" in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: incnet {name}")


def test_the_exit_code_is_the_commands(capsys):
    assert main(["train", "imagenet"]) == 2
    assert "unknown data set imagenet" in capsys.readouterr().err


def test_an_interruption_before_a_command_is_loaded(monkeypatch, capsys):
    def interrupted(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib, "import_module", interrupted)
    assert main(["train", "digits"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_an_interruption_while_a_module_is_loaded(name, tmp_path):
    """As by ``python -m incnet.train``: what every command loads is interrupted here."""
    (tmp_path / "rich.py").write_text("raise KeyboardInterrupt", encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    run = [sys.executable, "-m", f"incnet.{name}", "--help"]
    ended = subprocess.run(run, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert ended.stderr == "interrupted\n"
    assert ended.returncode == -signal.SIGINT


@pytest.mark.parametrize(("arguments", "inner"), [
    (["doctor"], "incnet.doctor.__main__.examine"),
    (["export", "model", "a.onnx"], "incnet.export.load_model"),
    (["predict", "model", "a.png"], "incnet.predict.load_model"),
    (["report", "run"], "incnet.report.__main__.write_report"),
    (["savings"], "incnet.savings.__main__.prepare"),
    (["study", "table2"], "incnet.study.__main__.StudyFolder"),
])  # fmt: skip
def test_an_interruption_of_any_command(arguments, inner, monkeypatch, capsys):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(inner, interrupted)
    assert main(arguments) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_other_commands_are_not_imported():
    script = "import sys; sys.argv = ['incnet', '--version']; from incnet.__main__ import main; main();"
    script += (
        "print(sorted(name for name in sys.modules if name in ('numpy', 'numba', 'incnet.train', 'incnet.config')))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    loaded = "import sys, incnet.__main__; print({'rich', 'argparse', 'incnet.terminal'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n", "Ctrl-C while these are loaded is a traceback"


def test_the_script_is_installed_as_incnet():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    module, _, function = project["scripts"]["incnet"].partition(":")
    assert getattr(importlib.import_module(module), function) is main
