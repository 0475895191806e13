"""Options from files."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from incnet import train
from incnet.commandline import parse
from incnet.config import Config
from incnet.options_file import OptionsFileError, read_options
from incnet.presets import PRESETS
from incnet.study import __main__ as study
from incnet.study.options import Study


def asked(file, *line):
    return parse(Config, ["--config", str(file), *line], "incnet train")


def test_toml(tmp_path):
    file = tmp_path / "options.toml"
    file.write_text('dataset = "cifar10"\nbatch-size = 64\nlr = 1\naugment = false\ndata_dir = "here"\n')
    expected = Config("cifar10", batch_size=64, lr=1.0, augment=False, data_dir=Path("here"))
    assert asked(file) == expected


def test_the_command_line_goes_before_it(tmp_path):
    file = tmp_path / "options.toml"
    file.write_text('dataset = "cifar10"\nbatch-size = 64\naugment = false\nstop = "epochs>=3"\n')
    config = asked(file, "digits", "--batch-size", "8", "--augment", "--stop", "none")
    assert config == Config("digits", batch_size=8)


def test_another_runs_options(tmp_path):
    """All of them but its folder; what it did before an option existed, too."""
    made = Config("cifar10", "vgg16", gamma=0.25, seed=3, out=Path("runs/that"), average=False, recalibrate=0).resolve()
    options = made.as_json()
    for later in ("average", "recalibrate"):
        del options[later]
    (tmp_path / "config.json").write_text(json.dumps({"config": options, "data": {}, "environment": {}}))
    config = asked(tmp_path / "config.json", "--seed", "4").resolve()
    assert config.as_json() == made.as_json() | {"seed": 4, "out": None}


def test_a_study(tmp_path):
    file = tmp_path / "study.toml"
    file.write_text('name = "table2"\narchs = ["resnet20"]\nlevels = [0.5, 1]\nepochs = 3\n')
    study = parse(Study, ["--config", str(file), "--seeds", "1"], "incnet study")
    assert study == Study(name="table2", archs=("resnet20",), levels=(0.5, 1.0), epochs=3, seeds=1)
    file.write_text("seed = 3\n")
    with pytest.raises(OptionsFileError, match="unknown option 'seed'; did you mean seeds"):
        read_options(Study, file)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", "look-ahead-epochs = 3", "unknown option 'look-ahead-epochs'; did you mean lookahead-epochs?"),
        ("a.toml", "[training]\nlr = 3", "unknown option 'training'"),
        ("a.toml", 'lr = "x"', "--lr is 'x', expected float"),
        ("a.toml", "lr = nan", "--lr is nan, expected a finite number"),
        ("a.toml", 'init = "look-ahead"', "expected one of 'lookahead'"),
        ("a.toml", "lr = ", "cannot be read: "),
        ("a.toml", "lr = 1\nlr = 2", "cannot be read: "),
        ("a.json", "[1]", "holds no options"),
        ("a.json", '{"config": {"lrr": 3}}', "unknown option 'lrr'; did you mean lr?"),
        ("a.json", "{" + '"a":[' * 100_000, "cannot be read: "),
        ("a.toml", "a = " + "[" * 100_000, "cannot be read: "),
        ("a.toml", "#" * 2_000_000, "holds no options"),
        ("a.yaml", "lr: 3", "choose a file of options"),
    ],
)
def test_what_is_no_file_of_options(name, text, message, tmp_path, capsys):
    (tmp_path / name).write_text(text)
    with pytest.raises(SystemExit) as stopped:
        asked(tmp_path / name)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert f"error: --config: {tmp_path / name}" in error


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(OptionsFileError, match="cannot be read: No such file"):
        read_options(Config, tmp_path / "none.toml")


@pytest.mark.parametrize(("line", "message"), [
    ("train digits --preset fast --epochs 12", "--warmup 20 (from --preset fast): choose fewer than --epochs, which"),
    ("train digits --preset fast --warmup 20", "--warmup 20: choose fewer than --epochs (12, from --preset fast)"),
    ("train --config o.toml", "--warmup 3 (from o.toml): choose fewer than --epochs (2, from o.toml), which"),
    ("train --config o.toml --warmup 3", "--warmup 3: choose fewer than --epochs (2, from o.toml), which"),
    ("train --config d.toml", "unknown data set digts (from d.toml): choose"),
    ("train --config d.toml digits", "--warmup 20 (from --preset fast): choose fewer than --epochs (12, from d.toml)"),
    ("study table2 --archs resnet8 --config o.toml", "--warmup 3 (from o.toml): choose fewer than --epochs (2, from"),
    (
        "study budget --budgets 12 --arms fast",
        "--warmup 20 (from --preset fast of the arm fast): choose fewer than --epochs (12, from --budgets), which",
    ),
])  # fmt: skip
def test_what_is_refused_says_where_it_comes_from(line, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    settings = {**PRESETS["fast"].settings, "warmup": {"": 20}}
    monkeypatch.setitem(PRESETS, "fast", replace(PRESETS["fast"], settings=settings))
    Path("o.toml").write_text("epochs = 2\nwarmup = 3\n")
    Path("d.toml").write_text('preset = "fast"\nepochs = 12\ndataset = "digts"\n')
    name, *arguments = line.split()
    assert {"train": train, "study": study}[name].main(arguments) == 2
    assert message in capsys.readouterr().err
