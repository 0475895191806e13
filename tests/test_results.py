"""Published runs: complete, without paths of a machine, and what the documents say of them."""

import json
import re
import statistics
from pathlib import Path

import pytest

from incnet.report import read_runs

DOCUMENT = Path("docs/results/README.md")
RUNS = sorted(path.parent for path in Path("docs/results/runs").glob("*/config.json"))
ROW = re.compile(r"^\| (\S+) \| `([^`]+)` \| (\d+) \| ([\d.]+) \| ([\d.]+) \|$", re.MULTILINE)


@pytest.mark.parametrize("folder", RUNS, ids=lambda folder: folder.name)
def test_a_published_run_can_be_read_and_names_its_commit(folder):
    config = json.loads((folder / "config.json").read_text())
    assert re.fullmatch(r"[0-9a-f]{40}", config["commit"])
    assert (config["config"]["data_dir"], config["config"]["out"]) == (None, folder.name)
    (run,), problems = read_runs([folder])
    assert problems == []
    assert run.test_accuracy is not None


def test_the_tables_say_what_the_runs_hold():
    rows = {name: numbers for name, _, *numbers in ROW.findall(DOCUMENT.read_text())}
    assert rows.keys() == {folder.name for folder in RUNS}
    for name, (epochs, validation, test) in rows.items():
        summary = json.loads((DOCUMENT.parent / "runs" / name / "summary.json").read_text())
        assert int(epochs) == summary["epochs"]
        assert validation == f"{100 * summary['val_accuracy']:.1f}"
        assert test == f"{100 * summary['test_accuracy']:.1f}"


@pytest.mark.parametrize("document", [Path("README.md"), DOCUMENT])
def test_what_the_preset_fast_reaches(document):
    summaries = [json.loads((DOCUMENT.parent / f"runs/fast-12-seed{k}/summary.json").read_text()) for k in range(3)]
    accuracies = [100 * summary["test_accuracy"] for summary in summaries]
    text = document.read_text()
    assert f"{statistics.mean(accuracies):.1f} ± {statistics.stdev(accuracies):.1f} %" in text.replace("*", "")
    assert {round(summary["macs_training"] / 1e12) for summary in summaries} == {43}
    assert re.search(r"\b43(\.2)? T\b", text)


def test_what_twenty_epochs_of_the_baseline_reach():
    summaries = [
        json.loads((DOCUMENT.parent / f"runs/r20-baseline-20-seed{k}/summary.json").read_text()) for k in range(3)
    ]
    accuracies = [100 * summary["test_accuracy"] for summary in summaries]
    assert f"{statistics.mean(accuracies):.1f} ± {statistics.stdev(accuracies):.1f} %" in DOCUMENT.read_text()
