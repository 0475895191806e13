"""The learning rate over a run."""

import json

import pytest

from incnet import train as command
from incnet.config import Config, ConfigError
from incnet.learning_rate import RateSchedule, scaled_lr
from tests.faults.runs import ARGUMENTS


def test_constant():
    schedule = RateSchedule("constant", 10, 1.0)
    assert [schedule.factor(epoch, epoch) for epoch in range(10)] == [1.0] * 10


def test_linear_falls_evenly_to_zero():
    factors = [RateSchedule("linear", 10, 1.0).factor(epoch, epoch) for epoch in range(10)]
    assert factors == pytest.approx([0.95, 0.85, 0.75, 0.65, 0.55, 0.45, 0.35, 0.25, 0.15, 0.05])
    factors = [RateSchedule("linear", 10, 0.4).factor(epoch, epoch) for epoch in range(10)]
    assert factors == pytest.approx([1, 1, 1, 1, 1, 1, 0.875, 0.625, 0.375, 0.125])


def test_step_falls_where_he_et_al_let_it():
    """After 32,000 and 48,000 of 64,000 steps: epochs 91 and 137 of 182."""
    factors = [RateSchedule("step", 182, 0.5).factor(epoch, epoch) for epoch in range(182)]
    assert [epoch for epoch in range(1, 182) if factors[epoch] != factors[epoch - 1]] == [91, 137]
    assert [factors[0], factors[91], factors[137]] == pytest.approx([1, 0.1, 0.01])


def test_the_rate_rises_in_every_phase():
    schedule = RateSchedule("constant", 20, 1.0, warmup=3)
    assert [schedule.factor(7 + epoch, epoch) for epoch in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1, 1])


@pytest.mark.parametrize(("how", "expected"), [("off", 1e-4), ("linear", 4e-4), ("sqrt", 2e-4)])
def test_the_rate_follows_the_batch_size(how, expected):
    assert scaled_lr(1e-4, how, 128, 32) == pytest.approx(expected)
    assert Config(arch="vgg16", dataset="cifar10", scale_lr=how).resolve().lr_for(128) == pytest.approx(expected)
    assert scaled_lr(1e-4, how, 32, 32) == 1e-4


def rates(folder):
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [event["lr"] for event in lines if event["event"] == "epoch"]


def test_the_rates_of_a_run(tmp_path):
    """Look-ahead and what follows it are phases of their own, and a resumed run goes on with the same rates."""
    options = ("--growth", "periodic", "--period", "2", "--warmup", "1", "--lr", "1e-3")
    assert command.main([*ARGUMENTS, *options, "--out", str(tmp_path / "run")]) == 0
    assert rates(tmp_path / "run") == pytest.approx([5e-4, 1e-3, 5e-4, 5e-4, 5e-4, 5e-4])


def test_a_falling_rate_uses_the_whole_budget(tmp_path, capsys):
    options = ("--lr-schedule", "linear", "--optimizer", "sgd", "--window", "2", "--gamma", "1")
    assert command.main([*ARGUMENTS, *options, "--out", str(tmp_path / "run")]) == 0
    found = rates(tmp_path / "run")
    assert found == pytest.approx([0.1 * (5.5 - epoch) / 6 for epoch in range(6)])
    capsys.readouterr()
    assert command.main(["--resume", str(tmp_path / "run"), "--epochs", "7"]) == 2
    assert "--epochs 7: the rate of this run falls over its 6 epochs, which may not grow" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr_decay": 0.5}, "--lr-decay 0.5: choose --lr-schedule linear or step"),
        ({"lr_schedule": "step", "lr_decay": 1.5}, "--lr-decay 1.5: choose a fraction"),
        ({"warmup": -1}, "--warmup -1: choose a number of epochs"),
        ({"warmup": 30}, "--warmup 30: choose fewer than --epochs"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(ConfigError, match=message):
        Config(**options).resolve()
