"""Growth rules replayed on a logged curve."""

import pytest

from incnet.growth.criterion import Plateau, SlopeAngle
from incnet.report import read_runs
from incnet.report.arms import networks
from incnet.report.history import Epoch, Insert, StageHistory
from incnet.report.numbers import NOTHING
from incnet.report.other_rules import ends, other_rules

from .folders import write_run


def stage(accuracies, lookahead=0):
    insert = Insert(0, "S1", "random", 10, 100)
    epochs = [
        Epoch(n, "lookahead" if n <= lookahead else "train", 1, 0.5, accuracy, 1, 1, 10)
        for n, accuracy in enumerate(accuracies, start=1)
    ]
    return StageHistory(insert, start=0.0, end=1.0, subnetworks=("S1",), epochs=epochs)


# Six epochs of ten points each, then six of two: angles of 84.3 and 63.4 degrees, slopes of 10 and 2.
BENT = [0.1 * n for n in range(1, 7)] + [0.6 + 0.02 * n for n in range(1, 7)]


@pytest.mark.parametrize(
    ("rule", "epoch"),
    [
        (SlopeAngle(6, 0.7), None),
        (SlopeAngle(6, 0.76), 12),
        (SlopeAngle(6, 0.25, "fraction"), 12),
        (SlopeAngle(3, 0.25, "fraction"), 9),
        (Plateau(3, 0.065), 9),
        (Plateau(2, 0.0), None),
    ],
)
def test_the_epoch_at_which_a_rule_ends_a_stage(rule, epoch):
    assert ends(rule, stage(BENT)) == epoch


def test_look_ahead_is_counted_but_not_shown():
    assert ends(SlopeAngle(3, 0.25, "fraction"), stage([0.9, 0.1, *BENT], lookahead=2)) == 11


def test_the_rule_that_the_run_had_ends_where_it_ended(tmp_path):
    """Straight lines: no ratio of angles is below 1; and a window of ten does not fit into four epochs."""
    (run,), _ = read_runs([write_run(tmp_path / "run")])
    ((arm,),) = [network.arms for network in networks([run])]
    table = other_rules(arm)
    assert table.columns == ["rule", "S1, 4 epochs", "S2, 4 epochs", "S3, 4 epochs"]
    assert len(table.rows) == 10
    assert {cell for row in table.rows for cell in row[1:]} == {NOTHING}


def test_a_baseline_has_no_stages_to_end(tmp_path):
    (run,), _ = read_runs([write_run(tmp_path / "run", method="baseline")])
    ((arm,),) = [network.arms for network in networks([run])]
    assert other_rules(arm) is None


def test_a_unit_that_a_changed_file_names(tmp_path):
    folder = write_run(tmp_path / "run")
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"percent"', '"furlong"'))
    (run,), _ = read_runs([folder])
    ((arm,),) = [network.arms for network in networks([run])]
    assert len(other_rules(arm).rows) == 10
