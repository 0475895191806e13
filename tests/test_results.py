"""Published runs: complete, without paths of a machine, and what the documents say of them."""

import json
import re
import shutil
import statistics
from itertools import pairwise
from pathlib import Path

import pytest

from incnet.report import read_runs
from incnet.study.__main__ import main as study

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
@pytest.mark.parametrize(("epochs", "cost"), [(12, r"43(\.2)?"), (24, r"84(\.0)?")])
def test_what_the_preset_fast_reaches(document, epochs, cost):
    folders = [folder for folder in RUNS if re.fullmatch(rf"fast-{epochs}-seed\d", folder.name)]
    assert len(folders) >= 3
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in folders]
    accuracies = [100 * summary["test_accuracy"] for summary in summaries]
    text = " ".join(document.read_text().replace("*", "").split())
    assert f"{statistics.mean(accuracies):.1f} ± {statistics.stdev(accuracies):.1f} %" in text
    (macs,) = {summary["macs_training"] / 1e12 for summary in summaries}
    assert re.fullmatch(cost, f"{macs:.1f}") or re.fullmatch(cost, f"{macs:.0f}")
    assert re.search(rf"\b{cost} T\b", text)


def test_what_twenty_epochs_of_the_baseline_reach():
    summaries = [
        json.loads((DOCUMENT.parent / f"runs/r20-baseline-20-seed{k}/summary.json").read_text()) for k in range(3)
    ]
    accuracies = [100 * summary["test_accuracy"] for summary in summaries]
    assert f"{statistics.mean(accuracies):.1f} ± {statistics.stdev(accuracies):.1f} %" in DOCUMENT.read_text()


def test_what_the_papers_method_reaches():
    summary = json.loads((DOCUMENT.parent / "runs/r20-lookahead-seed0/summary.json").read_text())
    said = f"{100 * summary['test_accuracy']:.1f} %", f"{summary['macs_training'] / 1e12:.0f} T"
    for document in (Path("README.md"), DOCUMENT):
        text = " ".join(document.read_text().split())
        assert all(words in text for words in said)


def test_the_tables_of_costs_are_those_of_the_runs(tmp_path):
    published = DOCUMENT.parent / "budget"
    shutil.copy(published / "timings.json", tmp_path)
    folders = [str(folder) for folder in RUNS if folder.name.startswith(("r20-", "fast-"))]
    assert study(["budget", "--from-runs", *folders, "--out", str(tmp_path)]) == 0
    assert (tmp_path / "budget.md").read_text() == (published / "budget.md").read_text()
    assert json.loads((tmp_path / "budget.json").read_text()) == json.loads((published / "budget.json").read_text())


def test_the_page_says_what_the_tables_of_costs_say():
    (network,) = json.loads((DOCUMENT.parent / "budget/budget.json").read_text())["networks"]
    points = {(point["arm"], point["epochs"]): point for point in network["points"]}
    rows = re.findall(
        r"^\| (\S+) \| (\d+) \| (\d+) \| ([\d.]+) \| ([\d.]+) \| ([\d,]+) \|", DOCUMENT.read_text(), re.MULTILINE
    )
    assert len(rows) >= 10
    for arm, epochs, seeds, accuracy, cost, seconds in rows:
        point = points[arm, int(epochs)]
        assert int(seeds) == point["n"]
        assert accuracy == f"{100 * point['accuracy']:.1f}"
        assert cost == f"{point['macs'] / 1e12:.1f}"
        assert seconds == f"{point['seconds']:,.0f}"


def test_what_the_preset_reaches_for_vgg16():
    runs = [DOCUMENT.parent / f"runs/vgg16-bn-{run}-seed0/summary.json" for run in ("fast-12", "sgd-baseline")]
    fast, constant = (json.loads(run.read_text()) for run in runs)
    reached = [
        (f"{100 * run['test_accuracy']:.1f} %", f"{run['macs_training'] / 1e12:.0f} T") for run in (fast, constant)
    ]
    (preset, its_cost), (other, other_cost) = reached
    constantly = f"where a constant rate on whole images has {other} for {other_cost}"
    for document, verb in ((Path("README.md"), f"{preset} with {its_cost}"), (DOCUMENT, f"{preset} for {its_cost}")):
        assert f"{verb}, {constantly}" in " ".join(document.read_text().split())


def test_what_growing_saves_for_vgg16():
    """The table of costs at equal accuracy, by lines between epochs; and README's line."""
    baseline, grown = (curve(f"vgg16-bn-sgd-{arm}-seed0") for arm in ("baseline", "lookahead"))
    last, document, shares = grown[-1][1], DOCUMENT.read_text(), {}
    for accuracy, name in [
        *((level, f"{level}") for level in (65, 70, 75, 80)),
        (last, f"{last:.2f}, look-ahead's last"),
    ]:
        costs = [cost(of, accuracy) for of in (baseline, grown)]
        shares[accuracy] = f"{costs[1] / costs[0]:.2f}"
        assert f"| {name} | {costs[0]:.0f} | {costs[1]:.0f} | {shares[accuracy]} |" in document
    said = " ".join(Path("README.md").read_text().split())
    assert f"{shares[75]} of the baseline's multiply-adds to 75 % of the validation images" in said
    assert f"{shares[last]} to {last:.1f} %" in said


def test_what_growing_saves_for_vgg16_with_hes_dense_layers():
    baseline, grown, alone = (curve(f"vgg16-bn-{arm}-seed0") for arm in ("baseline", "lookahead", "S1-S3"))
    cost_of_it, accuracy = baseline[-1]
    costs = [cost(of, accuracy) for of in (grown, alone)]
    shares = [each / cost_of_it for each in costs]
    said = " ".join(DOCUMENT.read_text().split())
    assert f"{cost_of_it:.0f} T, look-ahead took {costs[0]:.0f} T, {shares[0]:.2f} of it" in said
    assert f"none of the dense layers, {costs[1]:.0f} T, {shares[1]:.2f}" in said
    better = cost(curve("vgg16-bn-sgd-baseline-seed0"), accuracy)
    assert f"with a better one the whole network is at {accuracy:.1f} % after {better:.0f} T" in said


def curve(name):
    """Multiply-adds of training in T, and validation accuracy in percent, epoch by epoch."""
    lines = (DOCUMENT.parent / "runs" / name / "metrics.jsonl").read_text().splitlines()
    epochs = [event for event in map(json.loads, lines) if event["event"] == "epoch"]
    return [(epoch["macs_training"] / 1e12, 100 * epoch["val_accuracy"]) for epoch in epochs]


def cost(points, accuracy):
    """What it first takes to reach an accuracy."""
    for (before, low), (after, high) in pairwise(points):
        if low < accuracy <= high:
            return before + (after - before) * (accuracy - low) / (high - low)
    raise ValueError(f"{accuracy} is not reached")
