"""Learning curves from run folders."""

import json

import pytest

from incnet.report.curves import learning_curves, read_events


@pytest.fixture
def run(tmp_path):
    """A run folder with one insertion and a look-ahead."""
    phases = ["train", "train", "lookahead", "train"]
    events = [{"event": "insert", "epoch": 0, "subnetwork": "S1"}]
    for i, phase in enumerate(phases, start=1):
        events.append({"event": "epoch", "epoch": i, "phase": phase, "val_accuracy": i / 10, "macs_training": 1e12 * i})
        if i == 2:
            events.append({"event": "insert", "epoch": 2, "subnetwork": "S2"})
    folder = tmp_path / "lookahead"
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return folder


def test_curves_show_every_epoch(run, tmp_path):
    figure = learning_curves([run])
    by_epoch, by_cost = figure.axes
    (curve, insertion) = by_epoch.lines
    assert list(curve.get_xdata()) == [1, 2, 3, 4]
    assert list(curve.get_ydata()) == pytest.approx([10, 20, 30, 40])
    assert list(insertion.get_xdata()) == [2, 2]
    assert list(by_cost.lines[0].get_xdata()) == [1e12, 2e12, 3e12, 4e12]
    assert by_epoch.get_legend().get_texts()[0].get_text() == "lookahead"
    figure.savefig(tmp_path / "curves.svg")
    assert (tmp_path / "curves.svg").stat().st_size > 5000


def test_a_folder_without_metrics(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_events(tmp_path)
