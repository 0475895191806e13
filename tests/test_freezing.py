"""Freezing towards the end: by schedule, with averaged weights and recalibrated statistics, on cached features."""

import json
import shutil

import numpy as np
import pytest

from incnet import train as command
from incnet.backend import asnumpy
from incnet.config import Config, ConfigError
from incnet.cost import Ledger
from incnet.freezing import Freezing
from incnet.report.arms import networks
from incnet.report.course import course
from incnet.report.growth import phases
from incnet.report.reading import read_history
from incnet.run.run import Run
from incnet.run.state import RunState
from incnet.session import train_run
from tests.faults.runs import ARGUMENTS, history
from tests.small_networks import grow


@pytest.mark.parametrize(
    ("text", "budget", "expected"),
    [
        ("0.7,0.85", 20, [0] * 14 + [1] * 3 + [2] * 3),
        ("0.7,0.85", 12, [0] * 9 + [1] * 2 + [2]),
        ("0.5", 2, [0, 1]),
        ("0.1,0.2", 10, [0] + [1] + [2] * 8),
        ("0.5,0.6", 4, [0, 0, 1, 2]),
        ("0.55,0.6", 10, [0] * 6 + [2] * 4),
    ],
)
def test_schedule(text, budget, expected):
    freezing = Freezing.parse(text, budget)
    assert [freezing.at(epoch) for epoch in range(budget)] == expected
    for epoch, count in enumerate(expected):
        alike = freezing.epochs(epoch)
        assert list(alike) == [other for other in range(budget) if expected[other] == count]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"freeze": "S1"}, "--freeze: 'S1' does not have the form 0.7,0.85"),
        ({"freeze": ""}, "does not have the form"),
        ({"freeze": "0.7,"}, "does not have the form"),
        ({"freeze": "70"}, "--freeze: 70: choose fractions between 0 and 1"),
        ({"freeze": "nan"}, "choose fractions between 0 and 1"),
        ({"freeze": "0.8,0.7"}, "choose fractions that rise: S1 is frozen first"),
        ({"freeze": "0.9", "epochs": 5}, "0.9: the last fraction leaves none of 5 epochs"),
        ({"freeze": "0.5", "partition": "depth"}, "another --partition than depth: there S1 lies between"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(ConfigError) as error:
        Config(**options).resolve()
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_one_sub_network_learns_to_the_end(capsys):
    assert command.main([*ARGUMENTS, "--freeze", "0.5,0.6,0.7", "--epochs", "20"]) == 2
    assert "there are 3 sub-networks; give fewer fractions" in capsys.readouterr().err


def train(folder, **options):
    """Train a baseline on a few digits, and return the run."""
    given = {"dataset": "digits", "arch": "resnet8", "limit": 150, "epochs": 5, "method": "baseline", "device": "cpu"}
    run = Run(Config(**given | options).resolve())
    train_run(run, folder, say=lambda line: None)
    return run


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    """Folder of a run that freezes S1 after two of five epochs, and S2 after four."""
    folder = tmp_path_factory.mktemp("freezing") / "frozen"
    train(folder, freeze="0.4,0.8")
    return folder


def epochs(folder):
    return [event for event in history(folder) if event["event"] == "epoch"]


def test_a_frozen_part_is_the_average_that_was_evaluated(tmp_path, monkeypatch):
    """With the statistics that were recalibrated for it; and none of it moves any more."""
    evaluated, keep = [], RunState.keep_if_best

    def watched(state, validation):
        evaluated.append({name: asnumpy(array).copy() for name, array in state.graph.state().items()})
        keep(state, validation)

    monkeypatch.setattr(RunState, "keep_if_best", watched)
    run = train(tmp_path / "run", freeze="0.4")
    first, of_epoch_2, *_, last = evaluated
    for name, array in of_epoch_2.items():
        assert not np.array_equal(first[name], array)
        assert np.array_equal(last[name], array) == name.startswith("S1."), name
        if name.startswith("S1."):
            np.testing.assert_array_equal(asnumpy(run.state.graph.state()[name]), array, err_msg=name)


def test_until_then_it_is_the_run_that_it_would_be(frozen, tmp_path):
    train(tmp_path / "whole")
    ours, theirs = epochs(frozen), epochs(tmp_path / "whole")
    assert [event["val_loss"] for event in ours[:2]] == [event["val_loss"] for event in theirs[:2]]
    assert ours[2]["train_loss"] != theirs[2]["train_loss"]


def test_costs_and_events(frozen):
    log = history(frozen)
    assert [(event["epoch"], event["subnetworks"]) for event in log if event["event"] == "freeze"] == [(2, 1), (4, 2)]
    graph, skipped = grow("resnet8", (8, 8, 1)), []
    for count in (0, 0, 1, 1, 2):
        graph.freeze_prefix(count)
        skipped.append(Ledger.of(graph, 135).skipped)
    found = [event["macs_skipped"] for event in epochs(frozen)]
    assert np.diff([0, *found]).tolist() == skipped
    summary = json.loads((frozen / "summary.json").read_text())
    assert summary["epochs"] == 5  # the rule does not end a run that is planned over all epochs


def test_the_report_tells_and_draws_it(frozen):
    run = read_history(frozen)
    assert [(phase.first, phase.last, phase.frozen) for phase in phases(run)] == [(1, 2, 0), (3, 4, 1), (5, 5, 2)]
    assert [phases(run)[1].state(index) for index in range(3)] == ["frozen", "trained", "trained"]
    (network,) = networks([run])
    told = [(step.when, step.text) for step in course(network.arms[0], run).steps if step.kind == "freeze"]
    assert told == [
        ("epoch 2", "S1 frozen for good, with averaged weights"),
        ("epoch 4", "S1-S2 frozen for good, with averaged weights"),
    ]


def test_cached_features_of_every_epoch_change_nothing(frozen, tmp_path):
    """As many views as S1 is frozen for epochs; with one, its prefix does not run in the second of them."""
    train(tmp_path / "cached", freeze="0.4,0.8", lookahead_cache="views:2")
    train(tmp_path / "read", freeze="0.4,0.8", lookahead_cache="views:1")
    losses = [[event["val_loss"] for event in epochs(folder)] for folder in (frozen, tmp_path / "cached")]
    assert losses[0] == losses[1]
    cached = [event["macs_cached"] for event in epochs(tmp_path / "read")]
    graph = grow("resnet8", (8, 8, 1))
    graph.freeze_prefix(1)
    assert cached == [0, 0, 0, 135 * graph.prefix_macs, 135 * graph.prefix_macs]


def test_growth_leaves_what_is_frozen_for_good(tmp_path):
    """An insertion after the time to freeze looks ahead over all that is there; then S1 stays frozen."""
    folder = tmp_path / "run"
    train(folder, method="incremental", epochs=9, freeze="0.3", lookahead_epochs=1, growth="periodic", period=3)
    log = [event for event in history(folder) if event["event"] in ("insert", "freeze", "epoch")]
    course = [(event["event"], event.get("subnetwork", event.get("subnetworks"))) for event in log]
    assert course == [
        ("insert", "S1"), ("epoch", 1), ("epoch", 1), ("epoch", 1),
        ("insert", "S2"), ("epoch", 2), ("freeze", 1), ("epoch", 2), ("epoch", 2),
        ("insert", "S3"), ("epoch", 3), ("freeze", 1), ("epoch", 3), ("epoch", 3),
    ]  # fmt: skip


def test_the_epochs_may_not_grow(frozen, tmp_path, capsys):
    shutil.copytree(frozen, tmp_path / "run")
    assert command.main(["--resume", str(tmp_path / "run"), "--epochs", "9"]) == 2
    assert "--epochs 9: sub-networks of this run are frozen at fractions of its 5 epochs" in capsys.readouterr().err
