"""The budget study: known answers from made-up runs, and a real one on a few digits."""

import json
import math
import statistics
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incnet import train
from incnet.commandline import parse
from incnet.config import Config
from incnet.data.digits import load_digits
from incnet.presets import PRESETS
from incnet.report.interval import student
from incnet.report.reading import read_history
from incnet.study import __main__ as command
from incnet.study.budget.branches import begin_branch, plan_branches, shared_epochs
from incnet.study.budget.compare import accuracy_at, compare, cost_at
from incnet.study.budget.curves import Curve, Point, curve_of
from incnet.study.budget.seconds import Measurement, RunTiming, Step, Timings, kind_of
from incnet.study.options import Study
from incnet.timing.steps import Phase

BUDGETS = (2, 4, 8, 16)

# Comparisons.


def logarithmic(seed_levels, slope, share=1.0, budgets=BUDGETS):
    """An arm whose accuracy is linear in the logarithm of the cost, which is a share of another arm's."""
    return Curve(
        "arm",
        {
            seed: {
                epochs: Point(level + slope * math.log(epochs), share * epochs, 3 * share * epochs)
                for epochs in budgets
            }
            for seed, level in enumerate(seed_levels)
        },
    )


levels = st.lists(st.floats(0.2, 0.5), min_size=1, max_size=5)


@given(levels, st.floats(0.01, 0.1), st.floats(0.55, 1.8), st.sampled_from(("macs", "seconds")))
def test_a_saving_is_found(levels, slope, share, cost):
    """Whatever the seeds are: the same accuracy for a share of the cost, so much more accuracy for the same cost."""
    found = compare(logarithmic(levels, slope, share), logarithmic(levels, slope), 4, cost)
    assert found.seeds == tuple(range(len(levels)))
    assert found.ratio == pytest.approx(share)
    assert found.difference == pytest.approx(-slope * math.log(share))
    if len(levels) > 1:  # they are paired: that some seeds are better does not blur the difference
        interval = found.difference_interval
        assert (interval.low, interval.high) == (pytest.approx(found.difference), pytest.approx(found.difference))
    assert (found.difference_interval is None) == (len(levels) < 2)
    assert (found.ratio_interval is None) == (len(levels) < 3)
    if found.ratio_interval:
        assert (found.ratio_interval.low, found.ratio_interval.high) == (pytest.approx(share), pytest.approx(share))


def test_seeds_that_differ_widen_the_intervals():
    other = logarithmic([0.5, 0.5, 0.5, 0.5, 0.5], 0.05)
    shares = [0.6, 0.7, 0.8, 0.9, 1.0]
    arm = Curve("arm", {seed: logarithmic([0.5], 0.05, share).points[0] for seed, share in enumerate(shares)})
    found = compare(arm, other, 4, "macs")
    differences = [-0.05 * math.log(share) for share in shares]
    assert found.difference == pytest.approx(statistics.fmean(differences))
    assert found.difference_interval.high == pytest.approx(student(differences).high)
    assert 0.6 <= found.ratio_interval.low < 0.75 < 0.85 < found.ratio_interval.high <= 1.0
    assert compare(arm, other, 4, "macs") == found, "resamples are the same every time"


def test_nothing_is_said_beyond_the_curve():
    other = logarithmic([0.5, 0.5, 0.5], 0.05)
    cheap, dear = (logarithmic([0.5, 0.5, 0.5], 0.05, share) for share in (0.1, 10))
    for arm, epochs in ((cheap, 2), (dear, 16)):
        found = compare(arm, other, epochs, "macs")
        assert (found.difference, found.difference_interval) == (None, None)
        assert found.ratio == pytest.approx(0.1 if arm is cheap else 10), "this accuracy is on the curve"
    better = logarithmic([0.9, 0.9, 0.9], 0.05)
    assert (compare(better, other, 4, "macs").ratio, compare(better, other, 4, "macs").ratio_below) == (None, 4 / 16)
    worse = compare(logarithmic([0.1, 0.1, 0.1], 0.05), other, 4, "macs")
    assert (worse.ratio, worse.ratio_below) == (None, None)
    assert compare(better, other, 4, "macs").difference == pytest.approx(0.4)
    assert compare(Curve("arm", {7: other.points[0]}), other, 4, "macs").seeds == ()


def test_no_interval_of_a_ratio_that_some_resamples_do_not_have():
    """One seed of the arm is above all that the other arm reaches: with it drawn often, there is no such cost."""
    other = logarithmic([0.5, 0.5, 0.5], 0.05)
    arm = logarithmic([0.5, 0.5, 0.7], 0.05)
    found = compare(arm, other, 4, "macs")
    assert found.ratio is not None
    assert found.ratio_interval is None
    assert found.difference_interval is not None


def test_interpolation():
    line = [(10.0, 0.5), (1000.0, 0.7), (10_000.0, 0.65)]
    assert accuracy_at(line, 100) == pytest.approx(0.6)
    assert accuracy_at(line, 10) == 0.5
    assert (accuracy_at(line, 9), accuracy_at(line, 10_001), accuracy_at([], 1)) == (None, None, None)
    assert cost_at(line, 0.6) == pytest.approx(100)
    assert cost_at(line, 0.5) == 10
    assert cost_at(line, 0.68) == pytest.approx(10 ** (1 + 2 * 0.9)), "the first time"
    assert (cost_at(line, 0.49), cost_at(line, 0.71), cost_at([], 0.5)) == (None, None, None)


# Run folders.

TRAINED, VALIDATED, FORWARD = 90, 10, 1000


def write_run(folder, *, seed, epochs, accuracy, share=(1.0,), **options):
    """A finished run: epoch by epoch, ``accuracy(epoch)`` after an epoch, whose steps cost a share of whole ones."""
    config = replace(Config("cifar10", seed=seed, epochs=epochs, method="baseline"), **options).resolve()
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"config": config.as_json(), "environment": {}}))
    insert = {"event": "insert", "seconds": 0, "epoch": 0, "subnetwork": "S3", "init": "random", "params": 9}
    events, forward, spent = [insert | {"macs_inference": FORWARD}], 0, 0
    sizes = config.images_grow()
    for epoch in range(1, epochs + 1):
        size = sizes.at(epoch - 1) if sizes else 32
        step = int(TRAINED * FORWARD * (size / 32) ** 2)
        forward, spent = forward + step, spent + 3 * step + 500
        events.append(
            {"event": "epoch", "seconds": epoch, "epoch": epoch, "phase": "train", "subnetworks": 3, "params": 9}
            | {"train_accuracy": 0.5, "val_accuracy": accuracy(epoch), "macs_inference": FORWARD, "image_size": size}
            | {"macs_training": spent, "macs_forward": forward}
        )
    events.append({"event": "stop", "seconds": epochs, "epoch": epochs, "reason": "over"})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    (folder / "summary.json").write_text(json.dumps({"test_accuracy": accuracy(epochs) - 0.01, "stages": []}))
    return folder


def rising(level, slope=0.05):
    return lambda epoch: level + slope * math.log(epoch)


def cost_of(epochs):
    """Of whole images: training, recalibration and validation."""
    return epochs * (3 * TRAINED * FORWARD + 500 + VALIDATED * FORWARD)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Three seeds of a constant rate, whose epochs are budgets; of the preset; of something else; one unfinished."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in range(3):
        write_run(folder / f"r20-seed{seed}", seed=seed, epochs=16, accuracy=rising(0.5 + seed / 100))
        fast = vars(Config.from_preset("fast", dataset="cifar10", epochs=12))
        given = {name: fast[name] for name in PRESETS["fast"].settings if name not in ("epochs", "method")}
        write_run(folder / f"small-{seed}", seed=seed, epochs=12, accuracy=rising(0.56 + seed / 100), **given)
    write_run(folder / "r20-hot-4-seed1", seed=1, epochs=4, accuracy=rising(0.5), lr=0.01)
    write_run(folder / "fast-5-seed1", seed=1, epochs=5, accuracy=rising(0.5), lr=0.02, lr_schedule="step")
    (write_run(folder / "unfinished", seed=7, epochs=4, accuracy=rising(0.5)) / "summary.json").unlink()
    return folder


def budget(*line):
    return command.main(["budget", *map(str, line)])


def test_a_table_from_run_folders(published, tmp_path, capsys):
    line = ("--from-runs", published, "--out", tmp_path / "table", "--budgets", "2", "4", "8")
    assert budget(*line) == 0
    assert "against" in capsys.readouterr().out
    content = json.loads((tmp_path / "table" / "budget.json").read_text())
    (network,) = content["networks"]
    points = {(row["arm"], row["epochs"]): row for row in network["points"]}
    assert list(points) == [
        *product(["constant"], (2, 4, 5, 8, 12, 16)),
        ("fast", 12),
        ("fast (other options)", 5),
        *product(["r20-hot"], (2, 4)),
    ]
    assert points["constant", 8]["macs"] == cost_of(8)
    assert points["constant", 8]["accuracy"] == pytest.approx(0.51 + 0.05 * math.log(8))
    sizes = Config.from_preset("fast", dataset="cifar10").resolve().images_grow()
    shares = sum((sizes.at(epoch) / 32) ** 2 for epoch in range(12))
    cost = 3 * TRAINED * FORWARD * shares + 12 * (500 + VALIDATED * FORWARD)
    assert points["fast", 12]["macs"] == pytest.approx(cost)
    row, _, _, other = network["comparisons"]
    assert (row["arm"], row["against"], row["seeds"]) == ("fast", "constant", [0, 1, 2])
    equal = math.exp(0.06 / 0.05) * 12  # epochs of the constant rate to this accuracy: more than there are
    assert equal > 16
    assert (row["macs"]["ratio"], row["macs"]["ratio_below"]) == (None, pytest.approx(cost / cost_of(16)))
    epochs = cost / cost_of(1)
    assert row["macs"]["difference"] == pytest.approx(0.06 + 0.05 * math.log(12 / epochs), abs=1e-6)
    assert (other["arm"], other["seeds"], "seconds" in other) == ("r20-hot", [1], False)
    assert (other["macs"]["difference_interval"], other["macs"]["ratio_interval"]) == (None, None)
    assert f"{100 * row['macs']['difference']:+.2f} (" in (tmp_path / "table" / "budget.md").read_text()
    assert {path.suffix for path in (tmp_path / "table" / "figures").iterdir()} == {".svg", ".png"}


def test_test_accuracy_is_only_there_at_the_end(published, tmp_path):
    assert budget("--from-runs", published, "--out", tmp_path, "--accuracy", "test", "--budgets", "8") == 0
    (network,) = json.loads((tmp_path / "budget.json").read_text())["networks"]
    accuracies = {(row["arm"], row["epochs"]): row["accuracy"] for row in network["points"]}
    assert accuracies["constant", 16] == pytest.approx(0.51 + 0.05 * math.log(16) - 0.01)
    assert accuracies.keys() == {("constant", 16), ("fast", 12), ("fast (other options)", 5), ("r20-hot", 4)}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (("--from-runs", "nowhere"), "nowhere is no folder"),
        (("--epochs", "4"), "the study budget takes --budgets, such as 4"),
        (("--budgets", "0"), "choose numbers of epochs"),
        (("--budgets", "4", "4"), "name each only once"),
        (("--against", "sdg"), "did you mean sgd?"),
        (("--arms", "fats"), "did you mean fast?"),
    ],
)
def test_bad_options(line, message, tmp_path, capsys):
    assert budget(*line, "--out", tmp_path / "new") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_budgets_are_of_no_other_study(tmp_path, capsys):
    assert command.main(["table2", "--budgets", "3", "--out", str(tmp_path)]) == 2
    assert "--budgets: it goes with the study budget" in capsys.readouterr().err


# Plans and branches.


def planned(line):
    return parse(Study, f"budget {line}".split(), "incnet study").runs()


def test_the_runs():
    runs = planned("--budgets 12 24 --seeds 1")
    assert [run.name for run in runs] == [
        "resnet20-constant-24-seed0",
        *(f"resnet20-{arm}-{epochs}-seed0" for arm in ("decay", "sgd", "growing", "fast") for epochs in (12, 24)),
    ]
    configs = {run.arm: run.config for run in runs}
    assert configs["fast-24"] == Config.from_preset("fast", dataset="cifar10", epochs=24).resolve()
    assert configs["sgd-24"] == replace(configs["fast-24"], image_sizes=None)


def test_who_begins_where_another_one_has_been():
    branches = plan_branches(planned("--budgets 10 24 --seeds 2"))
    found = {name: (branch.trunk, branch.epochs) for name, branch in branches.items()}
    for seed in range(2):
        constant, growing = (f"resnet20-{arm}-24-seed{seed}" for arm in ("constant", "growing"))
        assert found.pop(f"resnet20-decay-24-seed{seed}") == (constant, 12)
        assert found.pop(f"resnet20-decay-10-seed{seed}") == (constant, 5)
        assert found.pop(f"resnet20-growing-10-seed{seed}") == (growing, 3), "the first size's epochs"
    assert not found
    alone = plan_branches(planned("--budgets 10 24 --seeds 1 --arms decay"))
    assert {name: branch.trunk for name, branch in alone.items()} == {
        "resnet20-decay-10-seed0": "resnet20-decay-24-seed0"
    }


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 6),
        ({"epochs": 8}, 6),
        ({"lr_schedule": "linear", "lr_decay": 0.5}, 3),
        ({"lr_schedule": "step", "lr_decay": 0.5}, 3),
        ({"lr_schedule": "linear"}, 0),
        ({"image_sizes": "4:2,8"}, 0),
        ({"seed": 1}, 0),
        ({"lr": 0.1}, 0),
        ({"warmup": 1}, 0),
        ({"method": "incremental"}, 0),
    ],
)
def test_shared_epochs(options, expected):
    config = Config("digits", method="baseline", epochs=6)
    assert shared_epochs(replace(config, **options).resolve(), config.resolve()) == expected


def test_images_of_fixed_epochs_are_shared():
    shorter, longer = (Config("digits", method="baseline", epochs=n, image_sizes="4:2,8").resolve() for n in (4, 6))
    assert shared_epochs(shorter, longer) == 4
    assert shared_epochs(replace(shorter, image_sizes="4:3,8"), longer) == 2


SMALL = ("--dataset", "digits", "--archs", "resnet8", "--seeds", "1", "--limit", "120", "--threads", "1")
WHERE = ("--device", "cpu", "--no-report", "--lr", "1e-3")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    line = (*SMALL, *WHERE, "--arms", "constant", "decay", "--budgets", "3", "4", "--out", folder)
    assert budget(*line, "--measure") == 0
    return folder, line


def timeless(path):
    events = [json.loads(text) for text in (path / "metrics.jsonl").read_text().splitlines()]
    timing = ("seconds", "images_per_second", "seconds_training", "seconds_compiling")
    return [{name: value for name, value in event.items() if name not in timing} for event in events]


def test_a_branch_is_the_run_from_the_start_bit_for_bit(study, tmp_path):
    """Weights, every event, and so the cost, which holds that of the trunk."""
    branch = study[0] / "runs" / "resnet8-decay-4-seed0"
    begun = json.loads((branch / "sessions.jsonl").read_text().splitlines()[0])
    assert (begun["event"], begun["trunk"], begun["epochs"]) == ("branch", "resnet8-constant-4-seed0", 2)
    config = json.loads((branch / "config.json").read_text())["config"]
    line = ["digits", "--arch", "resnet8", "--method", "baseline", "--limit", "120", *WHERE, "--threads", "1"]
    whole = tmp_path / "whole"
    assert (
        train.main([*line, "--epochs", "4", "--lr-schedule", "linear", "--lr-decay", "0.5", "--out", str(whole)]) == 0
    )
    assert timeless(branch) == timeless(whole)
    for name in ("last.safetensors", "best.safetensors", "stages/S1-S3.safetensors"):
        assert (branch / name).read_bytes() == (whole / name).read_bytes()
    other = json.loads((whole / "config.json").read_text())["config"]
    assert config | {"out": None} == other | {"out": None}


def test_a_real_study(study, capsys):
    folder, line = study
    content = json.loads((folder / "budget.json").read_text())
    (network,) = content["networks"]
    points = {(row["arm"], row["epochs"]): row for row in network["points"]}
    assert points.keys() == set(product(("constant", "decay"), (3, 4)))
    assert {row["n"] for row in points.values()} == {1}
    assert points["decay", 3]["macs"] == points["constant", 3]["macs"]
    runs = {path.name: read_history(path) for path in (folder / "runs").iterdir()}
    assert points["decay", 4]["accuracy"] == runs["resnet8-decay-4-seed0"].epochs[-1].val_accuracy
    assert points["constant", 3]["accuracy"] == runs["resnet8-constant-4-seed0"].epochs[2].val_accuracy
    # Both arms take the same steps, so that the seconds of one are those of the other.
    assert points["decay", 3]["seconds"] == points["constant", 3]["seconds"] > 0
    assert points["constant", 4]["seconds"] == pytest.approx(points["constant", 3]["seconds"] * 4 / 3)
    assert {(row["arm"], row["against"]) for row in network["comparisons"]} == {
        ("decay", "constant"), ("constant", "decay")
    }  # fmt: skip
    assert (folder / "report.html").exists()
    before = {path: path.stat().st_mtime_ns for path in (folder / "runs").rglob("*.safetensors")}
    capsys.readouterr()
    assert budget(*line) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert json.loads((folder / "budget.json").read_text()) == content, "what was measured is kept"


def test_there_is_no_branch_of_what_has_not_got_there(study, tmp_path):
    """Its run then begins from the start."""
    trunk = study[0] / "runs" / "resnet8-constant-4-seed0"
    config = Config.from_json(read_history(trunk).options)
    for folder, epochs in ((tmp_path / "none", 2), (trunk, 5)):
        assert not begin_branch(folder, epochs, config, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "letter.txt").write_text("dear")
    assert not begin_branch(trunk, 2, config, tmp_path / "used")
    assert [path.name for path in (tmp_path / "used").iterdir()] == ["letter.txt"]


# Seconds.


def test_seconds_are_counted_from_what_was_measured(tmp_path):
    run = read_history(
        write_run(tmp_path / "run", seed=0, epochs=6, accuracy=rising(0.5), image_sizes="16,24,32", batch_size=32)
    )
    sizes = {16: 1.0, 24: 2.0, None: 4.0}
    measured = timings_of(run, [Step(3, False, False, size, 32, seconds) for size, seconds in sizes.items()])
    assert measured.seconds(run) == [13, 26, 42, 58, 80, 102]  # of three steps, and ten for evaluation
    assert Timings.from_json(json.loads(json.dumps(measured.as_json()))) == measured
    curve = curve_of("growing", [run], (2, 4), "validation", measured.seconds)
    assert curve.points[0].keys() == {6}
    assert curve.points[0][6].seconds == 102
    assert timings_of(run, measured.runs[0].steps[:2]).seconds(run) is None


def timings_of(run, steps):
    return Timings("here", [RunTiming(kind_of(Config.from_json(run.options)), 90, steps, {"3": 10.0})])


def test_every_kind_is_measured_once():
    base = Config("digits", "resnet8", method="baseline", limit=100, epochs=4)
    growing = replace(base, image_sizes="4,8")
    configs = [base, replace(base, seed=1, lr=0.1, epochs=9), growing, replace(growing, image_sizes="4:3,8")]
    turns = []
    measurement = Measurement([(each.resolve(), None) for each in configs], load_digits())
    found = measurement.take(rounds=1, steps=1, after_turn=lambda: turns.append(1))
    assert [[step.phase for step in run.steps] for run in found] == [
        [Phase(3)], [Phase(3, image_size=4), Phase(3)]
    ]  # fmt: skip
    assert len(turns) == 2 * measurement.kinds == 2 * (3 + 2)
    assert [(run.images, *run.evaluations) for run in found] == [(90, "3"), (90, "3")]
    assert all(step.seconds > 0 and step.batch_size == 32 for run in found for step in run.steps)
    assert all(run.evaluations["3"] > 0 for run in found)


def test_a_study_error_is_raised_for_runs_without_an_end(tmp_path):
    write_run(tmp_path / "runs" / "one", seed=0, epochs=2, accuracy=rising(0.5))
    (tmp_path / "runs" / "one" / "summary.json").unlink()
    assert budget("--from-runs", tmp_path, "--out", tmp_path / "table") == 2
