"""Whole runs of several ranks: one history, one folder, one end."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.faults.runs import ARGUMENTS, EVERY_STEP, VARIANTS, history, outcome
from tests.run.test_own_networks import CODE

from .mpiexec import Ranks, needs_mpi, run, wait_until

pytestmark = needs_mpi

COMMAND = "incnet.train"
LONG = (*ARGUMENTS, "--epochs", 500, "--end", "budget", "--max-stage-epochs", 200)


def alone(module, *arguments):
    """Run a module in one process."""
    return subprocess.run([sys.executable, "-m", module, *map(str, arguments)], check=True, capture_output=True)


def decisions(folder):
    """What the growth rule saw and did."""
    kept = ("event", "epoch", "phase", "subnetworks", "grow", "subnetwork", "reason", "val_accuracy")
    return [{key: event[key] for key in kept if key in event} for event in history(folder)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of two ranks; what it has printed."""
    folder = tmp_path_factory.mktemp("ranks") / "run"
    code, out, err = run(2, COMMAND, *ARGUMENTS, "--out", folder)
    assert (code, err) == (0, "")
    return folder, out


def test_only_rank_0_speaks_and_writes(finished):
    folder, out = finished
    assert len(re.findall("^epoch", out, re.M)) == 6
    assert len(re.findall("test accuracy", out)) == 1
    assert "2 ranks, 1 thread each" in out
    logs = {"config.json", "metrics.jsonl", "sessions.jsonl", "summary.json", "test.json", "lock"}
    weights = {"checkpoints", "stages", "best.safetensors", "last.safetensors"}
    assert {path.name for path in folder.iterdir()} - {"report.html"} == logs | weights
    session = json.loads((folder / "sessions.jsonl").read_text().splitlines()[0])
    assert len(session["processes"]) == 2
    assert json.loads((folder / "config.json").read_text())["environment"]["ranks"] == "2"


def test_only_what_is_trained_travels(finished):
    folder, _ = finished
    epochs = [event for event in history(folder) if event["event"] == "epoch"]
    sent = np.diff([0] + [epoch["bytes_communicated"] for epoch in epochs])
    phases = [(epoch["phase"], epoch["subnetworks"]) for epoch in epochs]
    at = {phase: int(sent[phases.index(phase)]) // 6 for phase in phases}  # of six steps
    state = load_file(folder / "last.safetensors")

    def size(*names, running):
        found = [a for n, a in state.items() if n.startswith(names) and (".running_" in n) == running]
        return sum(-(-array.nbytes // (1 if running else 64)) * (1 if running else 64) for array in found)

    def step(*names):
        return size(*names, running=False) + size(*names, running=True) + 16  # and the loss, and the hits

    assert at["train", 3] == step("S1", "S2", "S3", "classifier")
    assert at["lookahead", 3] == step("S3", "classifier")
    assert at["lookahead", 3] < at["train", 3]


def test_a_process_alone_sends_nothing(tmp_path):
    alone(COMMAND, *ARGUMENTS, "--epochs", 1, "--out", tmp_path / "run")
    assert history(tmp_path / "run")[1]["bytes_communicated"] == 0


def test_one_seed_gives_one_history(finished, tmp_path):
    assert run(2, COMMAND, *ARGUMENTS, "--out", tmp_path / "again")[0] == 0
    assert outcome(tmp_path / "again") == outcome(finished[0])


@pytest.mark.parametrize(("ranks", "init"), [(2, "lookahead"), (3, "lookahead"), (2, "identity")])
def test_ranks_decide_like_a_single_process(ranks, init, tmp_path):
    # The rule lets two stages end early, and then the run.
    arguments = ("--limit", 400, "--epochs", 24, "--max-stage-epochs", 9, "--lr", "1e-3", "--init", init)
    events = history_of_all(ranks, tmp_path, *arguments)
    assert sum(event["event"] == "window" and event["grow"] for event in events) >= 2


def test_ranks_learn_from_images_that_grow(tmp_path):
    events = history_of_all(2, tmp_path, "--image-sizes", "4,6,8")
    assert [event["image_size"] for event in events if event["event"] == "epoch"] == [4, 4, 6, 6, 8, 8]


def test_ranks_train_a_network_of_ones_own(tmp_path):
    """With a class of one's own, dense layers and dropout."""
    (tmp_path / "net.py").write_text(CODE.replace('"executed"', repr(str(tmp_path / "executed"))))
    events = history_of_all(2, tmp_path, "--arch", f"{tmp_path / 'net.py'}:with_a_class", "--lr", "1e-3")
    assert [event["subnetwork"] for event in events if event["event"] == "insert"] == ["stem", "dense", "top"]


def history_of_all(ranks, folder, *arguments):
    """Let one process train, and so many ranks; see that they do the same, and return the events."""
    program, arguments = "tests.parallel.programs.float64_run", (*ARGUMENTS, *arguments, "--sync-bn")
    alone(program, *arguments, "--out", folder / "one")
    code, _, err = run(ranks, program, *arguments, "--out", folder / "several")
    assert code == 0, err
    assert decisions(folder / "several") == decisions(folder / "one")
    ours, theirs = (load_file(folder / name / "last.safetensors") for name in ("several", "one"))
    for name, array in theirs.items():
        np.testing.assert_allclose(ours[name], array, rtol=1e-6, atol=1e-8, err_msg=name)
    return history(folder / "one")


# The end, from outside.


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_any_rank_stops_all(number, code, rank, tmp_path):
    folder = tmp_path / "run"
    with Ranks(2, COMMAND, *LONG, "--out", folder) as ranks:
        wait_until(lambda: list(folder.glob("checkpoints/*-epoch2-*")))
        ranks.send(number, rank)
        assert ranks.finish(20)[0] == code
        assert not ranks.processes()
    sessions = [json.loads(line) for line in (folder / "sessions.jsonl").read_text().splitlines()]
    assert [session.get("exit_code") for session in sessions] == [None, code]
    assert json.loads((folder / "summary.json").read_text())["test_accuracy"] is None


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_ends_all_and_the_run_goes_on(rank, finished, tmp_path):
    folder = tmp_path / "run"
    with Ranks(2, COMMAND, *ARGUMENTS, *EVERY_STEP, "--keep-checkpoints", 50, "--out", folder) as ranks:
        wait_until(lambda: list(folder.glob("checkpoints/*-epoch2-batch3*")))
        ranks.send(signal.SIGKILL, rank)
        start = time.monotonic()
        code, out, err = ranks.finish(20)
        assert time.monotonic() - start < 5
        assert code != 0
        assert "Killed (signal 9)" in out + err
        wait_until(lambda: not ranks.processes(), 5)
    code, _, err = run(2, COMMAND, "--resume", folder)
    assert code == 0, err
    assert outcome(folder) == outcome(finished[0])


def test_cached_features_that_were_lost_are_computed_again(tmp_path):
    def later(folder):
        """Checkpoints after the third batch of the fifth epoch, the third of a look-ahead, whose own is whole then."""
        found = folder.glob("checkpoints/*")
        return [path for path in found if re.search(r"-epoch(5-batch[4-9]|[6-9])", path.name)]

    arguments = (*ARGUMENTS, *VARIANTS["cached features"])
    assert run(2, COMMAND, *arguments, "--out", tmp_path / "whole")[0] == 0
    folder = tmp_path / "run"
    with Ranks(2, COMMAND, *arguments, *EVERY_STEP, "--keep-checkpoints", 100, "--out", folder) as ranks:
        wait_until(lambda: later(folder))
        ranks.send(signal.SIGKILL, 1)
        ranks.finish(20)
    for path in later(folder):  # the newest one left is from within that epoch
        path.unlink()
    code, out, err = run(2, COMMAND, "--resume", folder)
    assert code == 0, err
    assert "going on after 5 epochs and 3 batches" in out
    assert outcome(folder) == outcome(tmp_path / "whole")


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_fails_is_named_and_ends_all(rank, tmp_path):
    program = "tests.parallel.programs.failing_rank"
    start = time.monotonic()
    code, _, err = run(2, program, *LONG, "--out", tmp_path / "run", environment={"FAILING_RANK": str(rank)})
    assert time.monotonic() - start < 30
    assert code == 1
    assert re.search(rf"error: rank {rank}, process \d+ on .*, failed with ZeroDivisionError: a bug", err)


@pytest.mark.parametrize("ranks", [1, 3])
def test_another_number_of_ranks_goes_on(ranks, tmp_path):
    folder = tmp_path / "run"
    with Ranks(2, COMMAND, *LONG, "--out", folder) as first:
        wait_until(lambda: list(folder.glob("checkpoints/*-epoch2-*")))
        first.send(signal.SIGTERM, 1)
        first.finish()
    done = len([event for event in history(folder) if event["event"] == "epoch"])
    shutil.copytree(folder, tmp_path / "other")
    for copy in (folder, tmp_path / "other"):
        with Ranks(ranks, COMMAND, "--resume", copy) as second:
            wait_until(lambda copy=copy: list(copy.glob(f"checkpoints/*-epoch{done + 2}-*")))
            second.send(signal.SIGTERM, 0)
            out = second.finish()[1]
        assert re.search(r"'ranks' was '2' and is '\d' now: results may differ", out)
        assert f"going on after {done} epochs" in out
    ours, theirs = history(folder), history(tmp_path / "other")
    common = min(len(ours), len(theirs))
    assert ours[:common] == theirs[:common]


def test_one_rank_is_a_process_by_itself(tmp_path):
    with Ranks(1, COMMAND, *LONG, "--out", tmp_path / "run") as rank:
        wait_until(lambda: list((tmp_path / "run").glob("checkpoints/*-epoch2-*")))
        rank.send(signal.SIGTERM, 0)
        code, out, _ = rank.finish(20)
    assert code == 143
    assert "ranks" not in out


# What is refused, once.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--arch", "alexnet"), "--arch alexnet: choose one of resnet20"),
        (
            ("--batch-size", "auto", "--memory-limit", "1GB"),
            "--batch-size auto: that looks at the memory of one process; choose a number for 3",
        ),
        (("--batch-size", 178), "--batch-size 178: 180 training images end with a batch of 2, too few for 3 ranks"),
    ],
)
def test_bad_input_is_one_line_of_all_ranks(arguments, message, tmp_path):
    code, _, err = run(3, COMMAND, *ARGUMENTS, *arguments, "--out", tmp_path / "run")
    assert code == 2
    assert message in err.replace("\n", " ")
    assert err.count("error:") == 1
    assert not (tmp_path / "run").exists()


def test_missing_data_is_one_line_of_all_ranks(tmp_path):
    code, _, err = run(2, COMMAND, "cifar10", "--data-dir", tmp_path)
    assert code == 2
    assert err.startswith(f"error: {tmp_path} holds no cifar10")
    assert err.count("\n") == 1


def test_a_used_folder_is_one_line_of_all_ranks(finished):
    code, _, err = run(2, COMMAND, *ARGUMENTS, "--out", finished[0])
    assert code == 2
    assert err.count("error:") == 1
    assert "the folder is not empty" in err


def test_unknown_options_are_explained_once(tmp_path):
    code, out, err = run(2, COMMAND, "digits", "--no-such-option", 1)
    assert code == 2
    assert (out + err).count("unknown option --no-such-option") == 1
