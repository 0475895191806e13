"""What is said of options once, and what is made of it."""

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import get_type_hints

import pytest

from incnet import export, predict
from incnet.commandline import parse
from incnet.config import Config
from incnet.doctor import __main__ as doctor
from incnet.options import as_arguments, default_in_words, described, making_no_other, option
from incnet.report import __main__ as report
from incnet.savings import __main__ as savings
from incnet.session import environment_before
from incnet.study.options import Study

DOCUMENT = Path(__file__).parents[1] / "docs" / "reliability.md"
KINDS = [doctor.Doctor, Config, Study, report.Options, predict.Predict, export.Export, savings.Savings]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_option_is_described(kind):
    hints = get_type_hints(kind)
    for each in fields(kind):
        facts = described(kind)[each.name]
        if not facts.shown:
            continue
        assert facts.help.endswith("."), each.name
        if hints[each.name] not in (bool, str) and each.default in (None, ()):
            unset = {"stop", "memory_limit", "resume", "dask", "json", "plot", "figures", "images", "runs", "trust"}
            assert default_in_words(facts, each.default) or each.name in unset, each.name
        if facts.goes_with:
            assert facts.goes_with[0] in hints
        for old in facts.old_names:
            assert old not in hints


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"dataset": "digits"}, (30, 32, 3e-4)),
        ({"dataset": "digits", "arch": "vgg16"}, (30, 32, 3e-4)),
        ({"dataset": "digits", "optimizer": "sgd"}, (30, 32, 0.1)),
        ({"dataset": "cifar10"}, (100, 128, 1e-4)),
        ({"dataset": "cifar100", "arch": "vgg16-bn"}, (30, 32, 1e-4)),
        ({"dataset": "cifar10", "arch": "resnet56", "optimizer": "sgd"}, (100, 128, 0.1)),
        ({"dataset": "mnist"}, (30, 128, 1e-4)),
        ({"dataset": "fashion-mnist"}, (60, 128, 1e-4)),
    ],
)
def test_what_is_left_open_depends_on_other_options(options, expected):
    config = Config(**options).resolve()
    assert (config.epochs, config.batch_size, config.lr) == expected


def test_what_makes_no_other_run():
    assert making_no_other(Config) == {
        "out", "resume", "data_dir", "cache_memory", "allreduce", "checkpoint_minutes", "keep_checkpoints",
        "on_nonfinite", "preset", "set_by_preset", "stop", "end", "report", "tensorboard", "trust",
    }  # fmt: skip


def test_arguments():
    values = {"epochs": 3, "dataset": "digits", "augment": False, "report": True, "lr": 0.1 + 0.2, "stop": None}
    assert [*as_arguments(Config, values, {"report": True})] == [
        "digits", "--epochs", "3", "--no-augment", "--lr", "0.30000000000000004", "--stop", "none",
    ]  # fmt: skip


def test_an_old_name_is_read(monkeypatch):
    @dataclass(frozen=True)
    class Renamed(Config):
        lr: float | None = option("Learning rate.", None, defaults={"": 1e-4}, old_names=("learning_rate",))

    written = Config().resolve().as_json()
    monkeypatch.setattr("incnet.options.described", lambda kind: described(Renamed))
    written["learning_rate"] = written.pop("lr") * 2
    assert Config.from_json(written).lr == 6e-4


def test_a_run_of_before_is_read_as_it_ran():
    written = Config().resolve().as_json()
    before = {"recalibrate": 0, "average": False, "optimizer": "rmsprop", "lr_schedule": "constant", "lr_decay": None}
    before |= {"warmup": 0, "subnetworks": None, "shortcut": "A", "image_sizes": None, "preset": None}
    config = Config.from_json({name: value for name, value in written.items() if name not in before})
    assert {name: getattr(config, name) for name in before} == before
    vgg = Config(arch="vgg16-bn").resolve().as_json()
    assert vgg.pop("dense_init") == "normal"
    assert Config.from_json(vgg).dense_init == "he"


def test_a_run_of_an_option_that_was_renamed_goes_on():
    written = Config(dataset="digits").resolve().as_json()
    del written["allreduce"]
    assert Config.from_json(written | {"sums": "staged"}).allreduce == "staged"
    assert parse(Config, ["digits", "--sums", "nccl"], "incnet train").allreduce == "nccl"
    assert environment_before({"environment": {"sums": "NCCL 2"}}) == {"allreduce": "NCCL 2"}


def test_the_document_on_resuming():
    """It has each option that may be another one then."""
    table = DOCUMENT.read_text().split("| option | on resuming |\n|---|---|\n")[1]
    cells = [row.split("|")[1] for row in table.split("\n\n")[0].splitlines()]
    options = described(Config).items()
    free = {name for name, facts in options if facts.shown and facts.on_resume != "fixed"} - {"resume"}
    assert {name.replace("-", "_") for name in re.findall(r"--([\w-]+)", " ".join(cells))} == free
