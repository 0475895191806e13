"""Presets: what they set, what goes before them, and that a run is never changed by one afterwards."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from incnet import train
from incnet.commandline import parse
from incnet.config import Config, ConfigError
from incnet.data.digits import load_digits
from incnet.init import Blank
from incnet.layers import BatchNorm2d, Conv2d, Flatten, Linear, ReLU, Sequential
from incnet.models import build
from incnet.options import choose, described, flag, spelt
from incnet.presets import PRESETS
from incnet.report.reading import read_history
from incnet.report.setup import command
from incnet.run.run import Run
from incnet.study.__main__ import arguments
from incnet.study.folder import StudyRun
from incnet.study.networks import settle_networks
from incnet.study.options import Study

DENSE = """
from tests.test_presets import dense, normalised, plain
"""
PAGE = Path(__file__).parents[1] / "docs" / "presets.md"


def asked(line, *more):
    return parse(Config, [*line.split(), *more], "incnet train")


def plain(shape, rng):
    return {"S1": Sequential({"conv": Conv2d(shape[2], 4, 3, padding=1, rng=rng), "relu": ReLU()})}


def normalised(shape, rng):
    return {"S1": Sequential({"conv": Conv2d(shape[2], 4, 3, padding=1, rng=rng), "norm": BatchNorm2d(4)})}


def dense(shape, rng):
    """Take images of one size."""
    layers = {"flatten": Flatten(), "linear": Linear(4 * shape[0] * shape[1], 6, rng=rng)}
    return {**normalised(shape, rng), "S2": Sequential(layers)}


@pytest.fixture
def growing_digits(monkeypatch):
    settings = PRESETS["fast"].settings
    monkeypatch.setitem(
        PRESETS,
        "fast",
        replace(PRESETS["fast"], settings={**settings, "image_sizes": {**settings["image_sizes"], "digits": "4,6,8"}}),
    )


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("dataset", ["digits", "cifar10", "cifar100", "fashion-mnist"])
@pytest.mark.parametrize("arch", ["resnet20", "resnet56", "vgg16", "vgg16-bn"])
def test_every_preset_is_possible_for_every_network_and_data_set(name, dataset, arch):
    config = Config.from_preset(name, dataset=dataset, arch=arch)
    resolved = config.resolve()
    assert resolved.preset == name
    assert Config.from_json(json.loads(json.dumps(resolved.as_json()))) == resolved
    assert PRESETS[name].settings.keys() <= described(Config).keys() - {"preset", "dataset", "arch"}
    assert "optimizer" in PRESETS[name].settings


def test_a_name_is_of_one_architecture_alone():
    assert [choose({"": 1, "vgg16": 2}, "cifar10", arch) for arch in ("vgg16", "vgg16-bn")] == [2, 1]


def test_vgg_is_trained_without_a_heavy_ball():
    for arch in ("vgg16", "vgg16-bn"):
        paper = Config.from_preset("paper", arch=arch, dataset="cifar10")
        assert (paper.momentum, paper.batch_size) == (0.0, 32)
        assert Config("cifar10", arch).resolve().momentum == 0.0
    assert Config("cifar10", "vgg16", optimizer="sgd").resolve().momentum == 0.9


def test_precedence(tmp_path):
    """Command line, file, preset, data set, architecture, what holds for all."""
    file = tmp_path / "options.toml"
    file.write_text('preset = "fast"\nmomentum = 0.5\nwarmup = 3\noptimizer = "sgd"\n')
    config = asked("cifar10 --warmup 1 --seed 4", "--config", str(file)).resolve()
    assert (config.warmup, config.momentum, config.epochs, config.batch_size) == (1, 0.5, 12, 128)
    assert (config.preset, config.lr, config.image_sizes) == ("fast", 0.2, "16:33%,24:28%,32")
    assert asked("fashion-mnist --preset fast").resolve().epochs == 12
    assert asked("fashion-mnist --arch vgg16").resolve().epochs == 60
    assert asked("digits --arch vgg16-bn --preset none").resolve().batch_size == 32


def test_what_is_given_counts_even_if_it_is_the_default():
    config = asked("cifar10 --preset fast --optimizer rmsprop --image-sizes none --method incremental --warmup 0")
    assert (config.optimizer, config.image_sizes, config.method, config.warmup) == ("rmsprop", None, "incremental", 0)
    assert config.lr == 5e-4, "a rate is one of its optimizer"


@pytest.mark.parametrize("line", ["cifar10 --resize 64", "cifar10 --lookahead-cache fixed", "digits"])
def test_images_do_not_grow_where_they_cannot(line):
    assert asked(f"{line} --preset fast").resolve().image_sizes is None


@pytest.mark.parametrize("arch", ["vgg16", "vgg16-bn"])
@pytest.mark.parametrize("dataset", ["cifar10", "fashion-mnist"])
def test_vgg_takes_the_small_images_of_the_preset(arch, dataset):
    """It pools them down to one pixel, as it does the whole ones."""
    config = Config.from_preset("fast", dataset=dataset, arch=arch).resolve()
    whole = 32 if dataset == "cifar10" else 28
    subnetworks = build(arch, (whole, whole, 3), rng=Blank())
    for size in config.images_grow().sizes:
        shape = (size, size, 3)
        for subnetwork in subnetworks.values():
            shape = subnetwork.output_shape(shape)
        assert shape == (4096,)


@pytest.mark.parametrize("network", [dense, normalised])
def test_images_grow_as_a_network_of_ones_own_takes_them(growing_digits, network):
    config = Config.from_preset("fast", dataset="digits", epochs=6, limit=100)
    assert config.resolve().image_sizes == "4,6,8"
    run = Run(config, network=network)
    sizes = None if network is dense else "4,6,8"
    assert run.config.image_sizes == sizes
    assert [loader.image_size for loader in run.images.growing] == ([None] if sizes is None else [4, 6, 8])
    assert Run(run.config.as_network_of(run.config), network=network).config.image_sizes == sizes


def test_sizes_that_are_asked_for_are_refused_though_the_preset_has_them(growing_digits):
    given = Config.from_preset("fast", dataset="digits", epochs=6, limit=100, image_sizes="4,6,8")
    with pytest.raises(ConfigError, match=r"--image-sizes 4,6,8: .*dense .*takes none of 4.* or --image-sizes none"):
        Run(given, network=dense)


def test_a_run_records_that_its_images_do_not_grow(growing_digits, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(DENSE)
    line = ["digits", "--arch", "net.py:dense", "--preset", "fast", "--epochs", "3", "--limit", "100", "--no-report"]
    assert train.main([*line, "--out", "run", "--stop", "epochs>=1"]) == 0
    assert "--preset fast: the images do not grow" in capsys.readouterr().out
    made = json.loads(Path("run/config.json").read_text())["config"]
    assert (made["preset"], made["image_sizes"]) == ("fast", None)
    assert train.main(["--resume", "run", "--stop", "none"]) == 0
    assert json.loads(Path("run/config.json").read_text())["config"] == made | {"stop": None}


def test_a_preset_sets_what_suits_a_network_of_ones_own():
    """As it does for incnet's: without batch norm what it has for VGG-16."""
    options = {"dataset": "digits", "limit": 100}
    for network, arch in ((normalised, "resnet20"), (plain, "vgg16")):
        run = Run(Config.from_preset("fast", **options), network=network)
        theirs = Config.from_preset("fast", arch=arch, **options).resolve()
        names = ("optimizer", "lr", "momentum", "weight_decay", "epochs", "lr_schedule")
        assert [getattr(run.config, name) for name in names] == [getattr(theirs, name) for name in names]
    assert Run(Config.from_preset("fast", lr=0.03, **options), network=plain).config.lr == 0.03


def test_a_preset_sets_what_suits_images_of_ones_own():
    """Not what suits the data set that is there by default."""
    digits = load_digits()
    own = replace(digits, name="mine")
    run = Run(Config.from_preset("fast", arch="resnet8", limit=100), own)
    assert (run.config.dataset, run.config.lr) == ("mine", 0.2)
    assert Run(Config.from_preset("fast", arch="resnet8", limit=100, lr=0.03), own).config.lr == 0.03
    grown = Config.from_preset("fast", arch="resnet8", dataset="fashion-mnist", limit=100)
    assert grown.image_sizes is not None
    assert Run(grown, own).config.image_sizes is None
    assert Run(Config.from_preset("fast", arch="resnet8", limit=100), digits).config.lr == 0.05


def test_a_study_gives_a_network_of_ones_own_what_suits_it(growing_digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(DENSE)
    line = "table2 --dataset digits --archs net.py:dense net.py:plain resnet8 --preset fast --seeds 1"
    runs = [StudyRun(each, Path("runs") / each.name) for each in parse(Study, line.split(), "study").runs()]
    settle_networks(runs, load_digits())
    found = {each.planned.arch: (each.planned.config.image_sizes, each.planned.config.optimizer) for each in runs}
    assert found == {"net.py:dense": (None, "sgd"), "net.py:plain": ("4,6,8", "rmsprop"), "resnet8": ("4,6,8", "sgd")}


def test_what_is_refused_in_python_says_that_a_preset_has_set_it(monkeypatch):
    with pytest.raises(ConfigError, match=r"--warmup 20: choose fewer than --epochs \(12, from --preset fast\)"):
        Config.from_preset("fast", warmup=20).resolve()
    fast = PRESETS["fast"]
    monkeypatch.setitem(PRESETS, "fast", replace(fast, settings={**fast.settings, "warmup": {"": 20}}))
    with pytest.raises(ConfigError, match=r"--warmup 20 \(from --preset fast\): choose fewer than --epochs, which"):
        Config.from_preset("fast", epochs=12).resolve()
    with pytest.raises(ConfigError, match=r"--warmup 20: choose fewer than --epochs, which"):
        Config.from_preset("fast", epochs=12, warmup=20).resolve()
    monkeypatch.setitem(PRESETS, "fast", replace(fast, settings={**fast.settings, "resize": {"digits": 4}}))
    with pytest.raises(ConfigError, match=r"--resize 4 \(from --preset fast\): the images"):  # when a run is made
        Run(Config.from_preset("fast", dataset="digits"), load_digits())


@pytest.mark.parametrize("epochs", range(1, 13))
def test_a_run_may_be_as_short_as_one_likes(epochs):
    config = asked(f"cifar10 --preset fast --epochs {epochs}").resolve()
    assert (config.warmup, config.image_sizes is None) == ((0, True) if epochs < 3 else (2, False))


def test_near_misses(tmp_path, capsys):
    (tmp_path / "options.toml").write_text('preset = "papers"\n')
    for line, meant in ([["--preset", "Fast"], "fast"], [["--config", str(tmp_path / "options.toml")], "paper"]):
        with pytest.raises(SystemExit) as stopped:
            parse(Config, line, "incnet train")
        assert stopped.value.code == 2
        assert f"choose fast or paper; did you mean {meant}?" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="did you mean fast"):
        Config.from_preset("fsat")


def test_a_run_keeps_what_its_preset_was(tmp_path, monkeypatch, capsys):
    line = ["digits", "--arch", "resnet8", "--preset", "fast", "--limit", "150", "--no-report"]
    assert train.main([*line, "--epochs", "3", "--out", str(tmp_path / "run"), "--stop", "epochs>=1"]) == 0
    assert "--preset fast: the images do not grow" in capsys.readouterr().out
    made = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert (made["preset"], made["lr"], made["epochs"], made["weight_decay"]) == ("fast", 0.05, 3, 5e-4)

    other = replace(PRESETS["fast"], settings=PRESETS["paper"].settings)
    monkeypatch.setitem(PRESETS, "fast", other)
    resume = ["--resume", str(tmp_path / "run")]
    assert train.main([*resume, "--preset", "paper"]) == 2
    assert "--preset paper: the run was begun with fast" in capsys.readouterr().err
    assert train.main([*resume, "--preset", "fast", "--stop", "none"]) == 0
    resumed = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert resumed == made | {"stop": None}
    assert len(read_history(tmp_path / "run").epochs) == 3


def test_the_command_that_makes_a_run_again_has_its_options_by_value(tmp_path):
    """A preset may be another one later."""
    config = Config.from_preset("fast", dataset="digits", arch="resnet8", optimizer="rmsprop", limit=150).resolve()
    (tmp_path / "config.json").write_text(json.dumps({"config": config.as_json()}))
    (tmp_path / "metrics.jsonl").write_text("")
    words = command(read_history(tmp_path)).split()
    assert "--preset" not in words
    again = parse(Config, words[3:], "incnet train").resolve()
    assert replace(again, preset="fast") == config


def test_a_study_of_a_preset():
    """The arms go before it, and so does what is asked for, even if it is what there is without it."""
    study = parse(
        Study,
        ["table2", "--archs", "resnet20", "vgg16", "--preset", "fast", "--seeds", "1", "--optimizer", "rmsprop"],
        "study",
    )
    runs = {(run.arch, run.arm): run.config for run in study.runs()}
    assert [runs["resnet20", arm].method for arm in ("baseline", "lookahead")] == ["baseline", "incremental"]
    assert {config.optimizer for config in runs.values()} == {"rmsprop"}
    assert [runs[arch, "lookahead"].lr for arch in ("resnet20", "vgg16")] == [5e-4, 1e-4]
    for run in study.runs():
        line = arguments(StudyRun(run, Path("runs") / run.name))
        assert replace(parse(Config, line, "incnet train").resolve(), out=None) == run.config


def test_the_network_is_trained_as_the_preset_says():
    run = Run(Config.from_preset("fast", dataset="digits", arch="resnet8", epochs=4), load_digits())
    optimizer = run.state.optimizer
    assert (type(optimizer).__name__, optimizer.momentum, optimizer.weight_decay) == ("SGD", 0.9, 5e-4)


def test_the_page_has_every_setting():
    """Of data sets and networks that differ, too."""
    for name, preset in PRESETS.items():
        table = PAGE.read_text().split(f"## `{name}`")[1].split("\n## ")[0]
        rows = dict(re.findall(r"^\| `--(?:no-)?([\w-]+)` \| (.*) \|$", table, re.MULTILINE))
        assert rows.keys() == {flag(option)[2:] for option in preset.settings}
        for option, values in preset.settings.items():
            for value in filter(None, values.values()):
                assert isinstance(value, bool) or spelt(value) in rows[flag(option)[2:]]
