"""Studies on a few hundred digits: what is left in the end, whatever happened on the way."""

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from incnet import train
from incnet.commandline import parse
from incnet.config import Config
from incnet.data.digits import load_digits
from incnet.options import as_arguments
from incnet.storage.lock import Lock
from incnet.study import __main__ as command
from incnet.study.designs import DESIGNS
from incnet.study.estimate import Estimator
from incnet.study.folder import StudyRun
from incnet.study.options import Planned, Study, StudyError

SMALL = (
    *("table2", "--dataset", "digits", "--archs", "resnet8", "--arms", "baseline", "lookahead", "--seeds", "1"),
    *(
        "--epochs",
        "30",
        "--window",
        "3",
        "--lookahead-epochs",
        "2",
        "--limit",
        "200",
        "--lr",
        "1e-3",
        "--end",
        "budget",
    ),
    *("--threads", "1", "--device", "cpu", "--levels", "0.3", "0.99"),
)
RUNS = ("resnet8-baseline-seed0", "resnet8-lookahead-seed0")


def study(folder, *more):
    return command.main([*SMALL, "--out", str(folder), *map(str, more)])


def table(folder):
    """Content of table2.json, less timings."""
    return timeless(json.loads((folder / "table2.json").read_text()))


def timeless(value):
    if isinstance(value, dict):
        return {key: timeless(each) for key, each in value.items() if not key.startswith("seconds")}
    return [timeless(each) for each in value] if isinstance(value, list) else value


def events(run, kind="epoch"):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def tree(folder):
    """All that is in a folder."""
    return {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies") / "table2"
    assert study(folder) == 0
    return folder


@pytest.fixture(autouse=True)
def _no_drawing(monkeypatch, finished):
    """Write no figures and no report; they take longer than everything else, and the finished study has them."""
    monkeypatch.setattr(command, "write_figures", lambda folders, out: [])
    monkeypatch.setattr(command, "write_report", lambda folders, out: [])


@pytest.fixture
def copy(finished, tmp_path):
    """A finished study that a test may change."""
    return shutil.copytree(finished, tmp_path / "copy")


# Images of one's own.


def test_own_images(tmp_path, monkeypatch, capsys):
    """A relative name is that of the same images when the study goes on elsewhere; tables say no more than the name."""
    train = load_digits().train
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    np.savez("mine.npz", x_train=train.images[:60], y_train=train.labels[:60])
    options = ["--archs", "resnet8", "--arms", "baseline", "--seeds", "1", "--epochs", "1", "--threads", "1"]
    assert command.main(["table2", "--dataset", "mine.npz", *options, "--out", "study", "--dry-run"]) == 0
    assert "baseline" in capsys.readouterr().out
    assert command.main(["table2", "--dataset", "mine.npz", *options, "--out", "study"]) == 0
    assert (tmp_path / "study" / "table2.md").read_text().startswith("# table2 on mine\n")
    monkeypatch.chdir("elsewhere")
    assert command.main(["table2", "--dataset", "../mine.npz", *options, "--out", "../study"]) == 0
    assert "table2 on mine: 1 runs, 1 of them finished" in capsys.readouterr().out


# What comes out.


def test_the_folder(finished):
    content = json.loads((finished / "study.json").read_text())
    assert content["name"] == "table2"
    assert content["command"].startswith("python -m incnet.study table2 --dataset digits")
    assert content["options"]["epochs"] == 30
    assert "numpy" in content["versions"]
    assert content["runs"] == [
        {"path": f"runs/{name}", "arch": "resnet8", "arm": name.split("-")[1], "seed": 0, "status": "finished"}
        for name in RUNS
    ]
    assert b"look-ahead" in (finished / "report.html").read_bytes()
    assert list((finished / "figures").glob("*.svg"))
    assert list((finished / "figures").glob("*.png"))


def test_the_table_says_what_the_runs_say(finished):
    rows = json.loads((finished / "table2.json").read_text())["rows"]
    assert [row["arm"] for row in rows] == ["baseline", "lookahead"]
    for row, name in zip(rows, RUNS, strict=True):
        summary = json.loads((finished / "runs" / name / "summary.json").read_text())
        last = events(finished / "runs" / name)[-1]
        assert row["n"] == 1
        assert row["test_accuracy"] == {"mean": summary["test_accuracy"], "deviation": None}
        assert row["val_accuracy"]["mean"] == summary["val_accuracy"]
        assert row["macs_training"]["mean"] == summary["macs_training"] == last["macs_training"]
        assert row["seconds_training"]["mean"] == summary["seconds_training"]
        assert row["params"]["mean"] == summary["params"]
        assert row["macs_inference"]["mean"] == last["macs_inference"]
        assert row["paper_test_accuracy"] is None


def test_cost_at_equal_accuracy(finished):
    baseline, lookahead = (events(finished / "runs" / name) for name in RUNS)
    rows = {row["arm"]: row for row in json.loads((finished / "table2.json").read_text())["rows"]}
    assert all(level["macs_training_ratio"] in (1, None) for level in rows["baseline"]["at_accuracy"])

    def first(run, level):
        return next(event for event in run if event["val_accuracy"] >= level)

    common = min(max(event["val_accuracy"] for event in run) for run in (baseline, lookahead))
    levels = {level["val_accuracy"]: level for level in rows["lookahead"]["at_accuracy"]}
    assert {0.3, int(1000 * common + 1e-6) / 1000} <= set(levels)
    for level in levels:
        theirs, ours = first(baseline, level), first(lookahead, level)
        assert levels[level]["macs_training"] == ours["macs_training"]
        ratio = ours["macs_training"] / theirs["macs_training"]
        assert levels[level]["macs_training_ratio"] == pytest.approx(ratio, abs=1e-4)
        ratio = ours["seconds_training"] / theirs["seconds_training"]
        assert levels[level]["seconds_training_ratio"] == pytest.approx(ratio, abs=1e-4)


def test_more_seeds_reuse_what_is_there(finished, copy):
    before = tree(copy / "runs" / RUNS[0])
    assert study(copy, "--seeds", 2, "--jobs", 2) == 0
    assert tree(copy / "runs" / RUNS[0]) == before
    rows = json.loads((copy / "table2.json").read_text())["rows"]
    assert [row["n"] for row in rows] == [2, 2]
    for row in rows:
        found = [
            json.loads((copy / "runs" / f"resnet8-{row['arm']}-seed{seed}" / "summary.json").read_text())
            for seed in (0, 1)
        ]
        accuracies = [summary["test_accuracy"] for summary in found]
        assert row["test_accuracy"]["mean"] == pytest.approx(statistics.fmean(accuracies))
        assert row["test_accuracy"]["deviation"] == pytest.approx(statistics.stdev(accuracies))
        assert found[0]["test_accuracy"] != found[1]["test_accuracy"]
    assert "| resnet8 | lookahead | 2 |" in (copy / "table2.md").read_text()


# Interruptions.


def begin(folder):
    """Start a study in a process; return it when its first run has had a few epochs."""
    process = subprocess.Popen([sys.executable, "-m", "incnet.study", *SMALL, "--out", str(folder)])
    metrics = folder / "runs" / RUNS[0] / "metrics.jsonl"
    end = time.monotonic() + 60
    while not (metrics.exists() and metrics.read_bytes().count(b'"event": "epoch"') >= 2):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)
    return process


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_an_interrupted_study_goes_on(number, finished, tmp_path, capfd):
    folder = tmp_path / "study"
    process = begin(folder)
    process.send_signal(number)
    code = process.wait(60)
    assert code == (-number if number == signal.SIGKILL else 128 + number)
    assert not (folder / "runs" / RUNS[1]).exists()  # it was not begun any more
    sessions = folder / "runs" / RUNS[0] / "sessions.jsonl"
    assert study(folder) == 0
    assert "resume" in [json.loads(line)["event"] for line in sessions.read_text().splitlines()]
    assert table(folder) == table(finished)
    assert "2 runs, 0 of them finished" in capfd.readouterr().out


def test_a_second_signal_leaves_nobody_behind(tmp_path):
    process = begin(tmp_path / "study")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    Lock(tmp_path / "study" / "runs" / RUNS[0] / "lock").release()


def test_nothing_is_done_twice(copy, capfd):
    before = tree(copy / "runs")
    assert study(copy) == 0
    assert tree(copy / "runs") == before
    assert "2 of them finished" in capfd.readouterr().out


# Dry runs.


def test_a_dry_run_changes_nothing(copy, tmp_path, capsys):
    shutil.rmtree(copy / "runs" / RUNS[1])
    before = tree(tmp_path)
    assert study(copy, "--seeds", 2, "--dry-run") == 0
    assert study(tmp_path / "new", "--dry-run") == 0
    assert tree(tmp_path) == before
    out = capsys.readouterr().out
    assert "finished" in out
    assert "to do" in out


@pytest.mark.parametrize(
    "arguments",
    [
        {"method": "baseline"},
        {"init": "lookahead"},
        {"growth": "periodic"},
        {"lookahead_cache": "views:2"},
        {"lookahead_cache": "fixed", "epochs": 12},
        {"lookahead_cache": "views:1", "freeze": "0.3,0.7"},
    ],
)
def test_estimated_macs_are_those_of_a_run_that_the_rule_does_not_end(arguments, tmp_path):
    config = Config(
        "digits", "resnet8", limit=200, gamma=1e-9, window=9, seed=1, report=False, **{"epochs": 9, **arguments}
    ).resolve()
    estimator = Estimator(config, load_digits())
    assert train.main([*arguments_of(config), "--out", str(tmp_path / "run")]) == 0
    assert estimator.ledger.total == events(tmp_path / "run")[-1]["macs_training"]
    assert 0 < estimator.seconds_per_mac() < 1e-6
    assert estimator.run.images.train.batch_size == config.batch_size


# What goes wrong.


def test_a_failed_run_does_not_stop_the_others(tmp_path, capfd):
    stray = tmp_path / "study" / "runs" / RUNS[0] / "stray"
    stray.parent.mkdir(parents=True)
    stray.touch()
    assert study(tmp_path / "study") == 1
    out = capfd.readouterr().out
    assert f"{RUNS[0]}: failed: exit code 2: --out" in out
    assert "the folder is not empty" in out
    content = json.loads((tmp_path / "study" / "study.json").read_text())
    assert [run["status"] for run in content["runs"]] == ["failed", "finished"]
    rows = json.loads((tmp_path / "study" / "table2.json").read_text())["rows"]
    assert [row["n"] for row in rows] == [0, 1]
    assert rows[0]["test_accuracy"] is None
    stray.unlink()
    assert study(tmp_path / "study") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lr", "0.5"], "was made with --lr 0.001 (asked for: 0.5)"),
        (["--epochs", "31", "--gamma", "0.3"], "--epochs 30 (asked for: 31), --gamma 0.5 (asked for: 0.3)"),
        (["--limit", "150"], "--limit 200 (asked for: 150)"),
        (["--archs", "resnet14"], "holds runs of resnet8, baseline, seed 0, for which"),
        (["--arms", "lookahead"], "they may grow but not shrink"),
    ],
)
def test_other_options_are_named(arguments, message, finished, capsys):
    before = tree(finished)
    assert study(finished, *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert tree(finished) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["table2", "--arms", "baseline", "net2net"],
            "--arms net2net: the study table2 has baseline, lookahead, random",
        ),
        (["table2", "--archs", "resnet20", "resnet20"], "name each only once"),
        (
            ["table2", "--archs", "resnet8,resnet20"],
            "--archs resnet8,resnet20: separate names by spaces, resnet8 resnet20",
        ),
        (["budget", "--arms", "fast", "growing", "--dataset", "digits"], "resnet20, arm growing-10: --image-sizes 16,"),
        (["table2", "--archs", "resnet21", "--dataset", "digits"], "depth 21"),
        (["table2", "--archs", "resnet8", "--partition", "9", "--dataset", "digits"], "can be cut into 1 to 3"),
        (["table2", "--archs", "alexnet"], "--arch alexnet: choose"),
        (["table2", "--seeds", "0"], "--seeds 0: choose at least 1"),
        (["table2", "--jobs", "0"], "--jobs 0: choose at least 1"),
        (["table2", "--levels", "60"], "--levels 60.0: choose fractions"),
        (["table2", "--lr", "-1"], "--lr -1.0: choose a positive number"),
        (["table2", "--memory-limit", "1GB"], "no arm has --batch-size auto, which it goes with"),
        (["table2", "--period", "4"], "no arm has --growth periodic, which it goes with"),
        (["figure5"], "choose a --memory-limit with it"),
        (["gamma", "--window", "7"], "--window 7: the arms of gamma set this option themselves"),
        (["momentum", "--momentum", "0.5"], "--momentum 0.5: the arms of momentum"),
        (["table2", "--data-dir", "nowhere"], "nowhere"),
        (["table2", "--device", "tpu"], "--device tpu"),
    ],
)
def test_bad_options_are_one_line_and_leave_nothing(arguments, message, tmp_path, capsys):
    assert command.main([*arguments, "--out", str(tmp_path / "study")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize("option", ["--seed", "--arch", "--method", "--init", "--resume"])
def test_what_a_study_decides_is_no_option(option, capsys):
    with pytest.raises(SystemExit):
        command.main(["table2", option, "1"])


def test_folders_of_something_else(finished, tmp_path, capsys):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "one.txt").touch()
    assert study(tmp_path / "letters") == 2
    assert "holds one.txt and no study.json" in capsys.readouterr().err
    assert command.main(["gamma", "--dataset", "digits", "--out", str(finished)]) == 2
    assert "holds the study table2" in capsys.readouterr().err


@pytest.mark.parametrize("text", [b"", b"[]", b'{"name": "table2"}', b'{"name": "table2", "runs": [1]}', b"\xff"])
def test_a_damaged_study_is_refused(text, copy, capsys):
    (copy / "study.json").write_bytes(text)
    assert study(copy) == 2
    assert "study.json is damaged" in capsys.readouterr().err


def test_a_damaged_run_is_named(copy, capsys):
    (copy / "runs" / RUNS[1] / "config.json").write_text("{")
    assert study(copy) == 2
    error = capsys.readouterr().err
    assert RUNS[1] in error
    assert "move the folder away" in error


def test_a_study_that_is_at_work(copy, capsys):
    lock = Lock(copy / "lock")
    assert study(copy) == 2
    assert f"process {os.getpid()} is at work there" in capsys.readouterr().err
    lock.release()


# Designs.


@pytest.mark.parametrize("name", DESIGNS)
def test_every_arm_is_a_run(name):
    design = DESIGNS[name]
    arms = (*design.arms, *design.more_arms)
    more = {"figure5": {"memory_limit": "4GB"}, "budget": {"budgets": (24,)}}.get(name, {})
    planned = Study(name=name, arms=arms, seeds=2, **more).runs()
    assert len({run.name for run in planned}) == len(planned) == 2 * len(design.archs) * len(arms)
    for run in planned:
        assert all(
            getattr(run.config, option) == value
            for option, value in (design.arms | design.more_arms)[run.curve or run.arm].items()
        )
        assert (run.config.arch, run.config.seed, run.config.dataset) == (run.arch, run.seed, "cifar10")


def arguments_of(config):
    return as_arguments(Config, vars(config), vars(Config()))


def test_arms_are_distinct():
    for name in DESIGNS:
        runs = Study(name=name, seeds=1, memory_limit="4GB" if name == "figure5" else None).runs()
        configs = [json.dumps(run.config.as_json()) for run in runs]
        assert len(set(configs)) == len(configs)


def test_arguments_give_the_configuration():
    config = Config("digits", "resnet14", "baseline", augment=False, lr=0.25, limit=9, seed=3).resolve()
    assert parse(Config, [*arguments_of(config)], "incnet train") == config


def test_a_run_goes_on_with_options_that_make_no_other_run(finished):
    path = finished / "runs" / RUNS[0]
    begun = Config.from_json(json.loads((path / "config.json").read_text())["config"])
    asked = replace(begun, on_nonfinite="rollback", report=not begun.report, keep_checkpoints=5)
    run = StudyRun(Planned("resnet8", "baseline", 0, asked), path)
    run.look()
    run.status = "unfinished"
    report = "--report" if asked.report else "--no-report"
    assert command.arguments(run) == [
        "--resume", str(run.path), "--keep-checkpoints", "5", "--on-nonfinite", "rollback", report,
    ]  # fmt: skip


def test_options_of_runs_pass_through():
    runs = Study(name="table2", archs=("resnet20",), seeds=1, lr=0.5, lookahead_cache="fixed", augment=False).runs()
    assert {(run.config.lr, run.config.lookahead_cache, run.config.augment) for run in runs} == {(0.5, "fixed", False)}
    with pytest.raises(StudyError, match="--rho"):
        Study(name="momentum", rho=0.5).runs()
