"""Rules at work: short runs on a few hundred digits."""

import json

import pytest

from incnet import train as command
from incnet.config import Config, ConfigError
from incnet.growth import insertion as initialise
from incnet.growth.criterion import Verdict
from incnet.run import course
from incnet.run.run import Run
from incnet.storage.folder import RunFolder
from incnet.training.loop import evaluate
from tests.faults.runs import ARGUMENTS, TIMINGS


def events(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def train(folder, *arguments):
    """Events of a run."""
    assert command.main([*ARGUMENTS, *map(str, arguments), "--out", str(folder)]) == 0
    return events(folder)


def inserted(log):
    """Sub-networks that were in, epoch by epoch."""
    return [event["subnetworks"] for event in log if event["event"] == "epoch"]


def test_periodic_growth_shares_the_epochs_equally(tmp_path, capsys):
    log = train(tmp_path / "run", "--growth", "periodic", "--epochs", 7)
    assert inserted(log) == [1, 1, 2, 2, 3, 3, 3]
    verdicts = [event for event in log if event["event"] == "verdict"]
    assert [(event["epoch"], event["grow"]) for event in verdicts] == [(2, True), (4, True)]
    assert "epoch 2 of the stage, period 2, grow" in capsys.readouterr().out
    assert log[-1]["reason"] == "the budget of 7 epochs is used"


def test_a_period(tmp_path):
    log = train(tmp_path / "run", "--growth", "periodic", "--period", 1, "--init", "random", "--epochs", 4)
    assert inserted(log) == [1, 2, 3, 3]


def test_growth_on_a_plateau(tmp_path):
    log = train(tmp_path / "run", "--growth", "plateau", "--patience", 1, "--min-delta", 0.9, "--epochs", 9)
    assert inserted(log) == [1, 1, 2, 2, 2, 3, 3, 3]
    assert "1 epoch without a better accuracy" in log[-1]["reason"]


@pytest.mark.parametrize(("init", "phases"), [("identity", {"train"}), ("lookahead+identity", {"train", "lookahead"})])
def test_identity(init, phases, tmp_path):
    log = train(tmp_path / "run", "--init", init, "--epochs", 6)
    assert [event["init"] for event in log if event["event"] == "insert"] == ["random", init, init]
    assert {event["phase"] for event in log if event["event"] == "epoch"} == phases


def test_identity_leaves_the_validation_as_it_is(tmp_path, monkeypatch):
    """Around each insertion of a run, at the moment when it is made."""
    losses = []

    def watched(graph, *arguments, **options):
        before = evaluate(graph, run.images.validation.epoch(0))
        initialise.insert(graph, *arguments, **options)
        losses.append((before, evaluate(graph, run.images.validation.epoch(0))))

    monkeypatch.setattr(course, "insert", watched)
    config = Config(arch="resnet8", limit=200, epochs=6, window=2, threads=1, init="identity").resolve()
    run = Run(config)
    with RunFolder.create(tmp_path / "run", {"config": config.as_json()}) as folder:
        run.train(folder)
    assert len(losses) == 2
    for before, after in losses:
        assert after.loss == pytest.approx(before.loss, rel=1e-5)
        assert after.accuracy == before.accuracy


class EveryOther:
    """Grow after two epochs that were shown."""

    def __init__(self):
        self.shown = 0

    def restart(self):
        self.shown = 0

    def observe(self, accuracy, epoch):
        self.shown += 1
        return Verdict(self.shown == 2, f"epoch {epoch}")

    def state(self):
        return self.shown

    def restore(self, state):
        if not (type(state) is int and 0 <= state < 2):
            raise ValueError(f"{state!r:.80} epochs shown")
        self.shown = state


def test_a_rule_of_ones_own(tmp_path):
    config = Config(arch="resnet8", limit=200, epochs=9, lookahead_epochs=1, threads=1).resolve()
    rule = EveryOther()
    with RunFolder.create(tmp_path / "run", {"config": config.as_json()}) as folder:
        Run(config, rule=rule).train(folder)
        whole = [{**event, **dict.fromkeys(TIMINGS)} for event in events(folder.path)]
        assert inserted(whole) == [1, 1, 2, 2, 2, 3, 3, 3]
        assert rule.shown == 0, "each run has a copy of its own"
        run = Run(config, rule=rule)
        newest = max((folder.path / "checkpoints").iterdir())
        newest.unlink()
        path, damaged = run.resume(folder)
        assert (path.name[:13], damaged) == ("000008-epoch7", [])
        run.train(folder)
        assert [{**event, **dict.fromkeys(TIMINGS)} for event in events(folder.path)] == whole


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"period": 0, "growth": "periodic"}, "--period 0: choose at least 1"),
        ({"period": 5}, "--period 5: choose --growth periodic"),
        ({"patience": 0}, "--patience 0"),
        ({"min_delta": 1.0}, "--min-delta 1.0: choose a fraction"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(ConfigError, match=message):
        Config(**options).resolve()
