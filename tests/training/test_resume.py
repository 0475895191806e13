"""Going on with a run that was stopped: in this process, on a few hundred digits."""

import json
import math
import os
import shutil
import signal

import numpy as np
import pytest

from incnet import session
from incnet import train as command
from incnet.run import epoch as epoch_module
from incnet.run import machine
from incnet.run import network as network_module
from incnet.storage import folder as folder_module
from incnet.storage.checkpoint import Checkpoints
from incnet.storage.lock import Lock
from incnet.training import loop
from tests.faults.runs import ARGUMENTS, dropout_network, outcome


def train(*arguments):
    return command.main([*ARGUMENTS, *map(str, arguments)])


def resume(folder, *arguments):
    return command.main(["--resume", str(folder), *map(str, arguments)])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "finished"
    assert train("--out", folder) == 0
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    """A finished run that a test may change."""
    return shutil.copytree(finished, tmp_path / "copy")


def one_step_a_session(monkeypatch, number=signal.SIGTERM):
    """Let every session receive a signal during its first step."""

    def interrupted(step, batches, *, after_step, **options):
        def receive_signal():
            os.kill(os.getpid(), number)
            after_step()

        return loop.train_epoch(step, batches, after_step=receive_signal, **options)

    monkeypatch.setattr(epoch_module, "train_epoch", interrupted)


def in_sessions(folder, *arguments):
    """Begin a run and resume it until it is finished. Returns the number of sessions."""
    code, sessions = train("--out", folder, *arguments), 1
    while code == 128 + signal.SIGTERM:
        assert not (folder / "summary.json").exists() or json.loads((folder / "summary.json").read_text())
        code, sessions = resume(folder), sessions + 1
    assert code == 0
    return sessions


@pytest.mark.parametrize(
    "arguments",
    [
        ("--batch-size", 32),
        ("--batch-size", 64, "--epochs", 11, "--window", 5, "--lookahead-epochs", 2),
        ("--batch-size", 64, "--init", "random"),
        ("--batch-size", 64, "--init", "identity"),
        ("--batch-size", 64, "--init", "lookahead+identity"),
        ("--batch-size", 64, "--frozen-bn", "batch"),
        ("--batch-size", 64, "--arch", "resnet14", "--partition", "depth", "--init", "lookahead+copy"),
        ("--batch-size", 64, "--freeze", "0.2,0.7", "--epochs", 9, "--lookahead-cache", "views:2"),
        ("--batch-size", 64, "--growth", "periodic", "--period", 3),
        ("--batch-size", 64, "--growth", "plateau", "--patience", 2, "--min-delta", 0.1, "--epochs", 10),
        ("--batch-size", 64, "--method", "baseline", "--lr", 0.01),
    ],
    ids=[
        *("look-ahead", "longer look-ahead", "random", "identity", "look-ahead from identity", "batch statistics"),
        *("in depth", "frozen for good", "periodic", "plateau", "baseline that gets worse"),
    ],
)
def test_stopped_after_every_step(arguments, tmp_path, monkeypatch):
    assert train("--out", tmp_path / "whole", *arguments) == 0
    one_step_a_session(monkeypatch)
    steps = outcome(tmp_path / "whole")["summary"]["epochs"] * math.ceil(180 / arguments[1])
    assert in_sessions(tmp_path / "pieces", *arguments) == steps + 1
    assert outcome(tmp_path / "pieces") == outcome(tmp_path / "whole")


def test_dropout_goes_on_with_the_masks_that_would_have_come(tmp_path, monkeypatch):
    monkeypatch.setattr(network_module, "build", dropout_network)
    assert train("--out", tmp_path / "whole") == 0
    one_step_a_session(monkeypatch)
    assert in_sessions(tmp_path / "pieces") == 37
    assert outcome(tmp_path / "pieces") == outcome(tmp_path / "whole")


def test_a_finished_run_stays_as_it_is(finished, copy):
    assert resume(copy) == 0
    assert outcome(copy) == outcome(finished)


@pytest.mark.parametrize("arguments", [("--method", "baseline"), ("--max-stage-epochs", 2), ("--end", "budget")])
def test_epochs_may_grow(arguments, tmp_path):
    assert train("--out", tmp_path / "short", *arguments, "--epochs", 5, "--max-stage-epochs", 2) == 0
    assert resume(tmp_path / "short", "--epochs", 7) == 0
    assert train("--out", tmp_path / "long", *arguments, "--epochs", 7, "--max-stage-epochs", 2) == 0
    assert outcome(tmp_path / "short") == outcome(tmp_path / "long")
    assert json.loads((tmp_path / "short" / "config.json").read_text())["config"]["epochs"] == 7


def test_a_period_does_not_depend_on_the_epochs(tmp_path):
    arguments = ("--growth", "periodic", "--period", 4)
    assert train("--out", tmp_path / "short", *arguments, "--epochs", 3) == 0
    assert resume(tmp_path / "short", "--epochs", 7) == 0
    assert train("--out", tmp_path / "long", *arguments, "--epochs", 7) == 0
    assert outcome(tmp_path / "short") == outcome(tmp_path / "long")


def test_a_killed_process_that_had_saved_nothing(finished, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    shutil.copy(finished / "config.json", tmp_path / "run")
    (tmp_path / "run" / "metrics.jsonl").write_text('{"event": "ins')
    assert resume(tmp_path / "run") == 0
    assert "going on after 0 epochs and 0 batches, from the beginning" in capsys.readouterr().out
    assert outcome(tmp_path / "run") == outcome(finished)


def test_a_killed_process_that_had_not_begun(tmp_path):
    (tmp_path / "lock").touch()
    (tmp_path / "config.json.tmp").touch()
    assert train("--out", tmp_path, "--epochs", 1) == 0
    assert not list(tmp_path.rglob("*.tmp"))


# What is refused.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lr", "0.01"], "--lr 0.01: the run was begun with 0.0003"),
        (["cifar10"], "--dataset cifar10: the run was begun with digits"),
        (["--arch", "resnet20"], "--arch resnet20: the run was begun with resnet8"),
        (["--seed", "1"], "--seed 1"),
        (["--no-augment"], "--augment False: the run was begun with True"),
        (["--threads", "7"], "--threads 7: the run was begun with 1"),
        (["--device", "gpu"], "--device gpu: the run was begun with cpu"),
        (["--epochs", "5"], "--epochs 5: the run was begun with 6, which may grow but not shrink"),
        (["--out", "elsewhere"], "--out elsewhere"),
        (["--keep-checkpoints", "0"], "--keep-checkpoints 0: choose at least 1"),
    ],
)
def test_a_changed_option_is_refused_by_name(arguments, message, copy, capsys):
    before = {path.name: path.read_bytes() for path in copy.iterdir() if path.is_file() and path.name != "lock"}
    assert resume(copy, *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert all((copy / name).read_bytes() == content for name, content in before.items())


def test_options_that_are_repeated_or_harmless_are_taken(finished, copy):
    assert train("--resume", copy, "--device", "auto", "--checkpoint-minutes", 1, "--keep-checkpoints", 3) == 0
    assert outcome(copy) == outcome(finished)


# Device and threads, chosen by the machine or by the user.

LEFT_OPEN = (*ARGUMENTS[: ARGUMENTS.index("--threads")], "--no-report")


@pytest.fixture
def on_cores(monkeypatch):
    """Run the command where so many threads find a core to run on."""

    def run(cores, *arguments):
        used = []
        monkeypatch.setattr(machine, "available_threads", lambda sharing: cores)
        monkeypatch.setattr(machine, "use_threads", lambda count: used.append(min(count, cores)))
        for module in (command, session):
            monkeypatch.setattr(module, "threads_in_use", lambda: used[-1])
        return command.main([*map(str, arguments)])

    return run


def kept(folder):
    content = json.loads((folder / "config.json").read_text())
    return {name: (content["config"][name], content["environment"][name]) for name in ("device", "threads")}


def test_what_the_machine_chose_is_not_the_users(on_cores, tmp_path, capsys):
    run = tmp_path / "run"
    assert on_cores(2, *LEFT_OPEN, "--epochs", 1, "--out", run) == 0
    assert kept(run) == {"device": ("auto", "cpu"), "threads": (None, "2")}
    assert "on cpu (2 threads)" in capsys.readouterr().out
    assert on_cores(1, "--resume", run, "--epochs", 2) == 0
    out = capsys.readouterr().out
    assert "'threads' was '2' and is '1' now: results may differ in rounding" in out
    assert "on cpu (1 thread)" in out
    assert on_cores(8, "--resume", run, "--epochs", 3) == 0  # as many as it was begun with, and so the same bits
    out = capsys.readouterr().out
    assert "on cpu (2 threads)" in out
    assert "warning" not in out


def test_what_was_left_to_the_machine_may_be_said_later(on_cores, tmp_path, capsys):
    run = tmp_path / "run"
    assert on_cores(2, *LEFT_OPEN, "--epochs", 1, "--out", run) == 0
    assert on_cores(2, "--resume", run, "--epochs", 2, "--threads", 1, "--device", "cpu") == 0
    assert "'threads' was '2' and is '1' now" in capsys.readouterr().out
    assert kept(run) == {"device": ("cpu", "cpu"), "threads": (1, "2")}
    assert on_cores(2, "--resume", run, "--epochs", 3, "--threads", 2) == 2
    assert "--threads 2: the run was begun with 1" in capsys.readouterr().err


def test_fewer_cores_than_the_user_asked_for(on_cores, tmp_path, capsys):
    run = tmp_path / "run"
    assert on_cores(2, *LEFT_OPEN, "--epochs", 1, "--threads", 2, "--out", run) == 0
    assert on_cores(1, "--resume", run, "--epochs", 2) == 0
    assert "'threads' was '2' and is '1' now" in capsys.readouterr().out
    assert kept(run)["threads"] == (2, "2")


def test_a_device_that_is_gone(on_cores, tmp_path, capsys):
    run = tmp_path / "run"
    assert on_cores(1, *LEFT_OPEN, "--epochs", 1, "--out", run) == 0
    content = json.loads((run / "config.json").read_text())
    content["environment"]["device"] = "gpu:7"
    (run / "config.json").write_text(json.dumps(content))
    capsys.readouterr()
    assert on_cores(1, "--resume", run, "--epochs", 2) == 0
    assert "'device' was 'gpu:7' and is 'cpu' now" in capsys.readouterr().out


@pytest.mark.parametrize("threads", [None, "", "0", "two", 2, "9" * 5000, ["2"]])
def test_an_environment_of_anything(threads, on_cores, copy):
    content = json.loads((copy / "config.json").read_text())
    content["config"] |= {"threads": None, "device": "auto"}
    content["environment"] |= {"threads": threads, "device": threads}
    (copy / "config.json").write_text(json.dumps(content))
    assert on_cores(1, "--resume", copy) == 0


def test_a_run_of_before_kept_both_among_its_options(copy, finished, capsys):
    content = json.loads((copy / "config.json").read_text())
    assert (content["config"]["device"], content["config"]["threads"]) == ("cpu", 1)
    del content["environment"]["device"], content["environment"]["threads"]
    (copy / "config.json").write_text(json.dumps(content))
    assert resume(copy) == 0
    assert "warning" not in capsys.readouterr().out
    assert outcome(copy) == outcome(finished)


# Folders.


def test_another_process_is_in_the_folder(copy, capsys):
    lock = Lock(copy / "lock")
    assert resume(copy) == 2
    assert f"process {os.getpid()} is at work there" in capsys.readouterr().err
    lock.release()
    assert resume(copy) == 0


def test_no_run_folder(tmp_path, capsys):
    assert resume(tmp_path) == 2
    assert "holds no config.json\n" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_is_taken_for_a_run_folder(tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text("{}", encoding="utf-8")
    for path, message in [
        (tmp_path / "nowhere", "there is no such folder"),
        (run / "config.json", "this is a file; name the run folder that it is in"),
        (tmp_path, f"no run folder, since it holds no config.json; of the runs in it the newest is {run}"),
    ]:
        assert resume(path) == 2
        assert capsys.readouterr().err == f"error: --resume {path}: {message}\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": "fast"}, "config.lr is 'fast', expected float"),
        ({"epochs": 6.5}, "config.epochs is 6.5, expected int"),
        ({"augment": 1}, "config.augment is 1, expected bool"),
        ({"init": "zeros"}, "config.init is 'zeros', expected one of 'lookahead', 'random'"),
        ({"arch": "resnet999998"}, "--arch resnet999998: choose a depth of at most"),
        ({"partition": "9" * 5000}, "--partition 999"),
        ({"gamma": 3.0}, "--gamma 3.0: choose"),
        ({"lr": 1e999}, "Infinity is no JSON"),
        ({"data_dir": "a\0b"}, "which can be no path"),
        ({"data_dir": "\x1b[31m"}, "which can be no path"),
        ({"extra": 1}, "config has 'extra', which is unknown"),
    ],
)
def test_a_changed_config_is_refused(change, message, copy, capsys):
    content = json.loads((copy / "config.json").read_text())
    content["config"].update(change)
    (copy / "config.json").write_text(json.dumps(content))
    assert resume(copy) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b'{"config": 1}', b" " * 2**21])
def test_a_damaged_config_is_refused(text, copy, capsys):
    (copy / "config.json").write_bytes(text)
    assert resume(copy) == 2
    assert "config.json is no configuration" in capsys.readouterr().err


def test_a_config_without_an_option_is_refused(copy, capsys):
    content = json.loads((copy / "config.json").read_text())
    del content["config"]["gamma"]
    (copy / "config.json").write_text(json.dumps(content))
    assert resume(copy) == 2
    assert "config lacks gamma" in capsys.readouterr().err


def test_other_images_are_refused(copy, capsys):
    content = json.loads((copy / "config.json").read_text())
    content["data"]["sha256"] = "0" * 64
    (copy / "config.json").write_text(json.dumps(content))
    assert resume(copy) == 2
    assert "holds other images" in capsys.readouterr().err


def test_other_versions_are_named(copy, capsys, monkeypatch):
    monkeypatch.setattr(session, "environment", lambda: folder_module.environment() | {"numpy": "9.9"})
    assert resume(copy) == 0
    assert f"'numpy' was '{np.__version__}' and is '9.9' now: results may differ" in capsys.readouterr().out


# Checkpoints that are damaged, or not this run's.


def newest(folder):
    return max((folder / "checkpoints").glob("*.safetensors"))


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("position", [3, 100, -1])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(position, finished, copy, capsys):
    damaged = newest(copy)
    flip(damaged, position)
    assert resume(copy) == 0
    out = capsys.readouterr().out
    assert f"warning: checkpoint {damaged} is damaged" in out
    assert "going on after 5 epochs and 0 batches" in out
    assert outcome(copy) == outcome(finished)
    assert damaged.with_suffix(".damaged").exists()


def test_nothing_but_damaged_checkpoints(copy, capsys):
    for path in (copy / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    assert resume(copy) == 2
    assert "is damaged, and so is every one before it" in capsys.readouterr().err


def test_a_checkpoint_of_another_run(copy, tmp_path, capsys):
    assert train("--out", tmp_path / "other", "--arch", "resnet14", "--epochs", 1) == 0
    shutil.rmtree(copy / "checkpoints")
    shutil.copytree(tmp_path / "other" / "checkpoints", copy / "checkpoints")
    assert resume(copy) == 2
    assert "does not fit this run" in capsys.readouterr().err


def test_events_that_a_checkpoint_counts_on_are_missing(copy, capsys):
    (copy / "metrics.jsonl").write_text("")
    assert resume(copy) == 2
    assert "metrics.jsonl, which has fewer" in capsys.readouterr().err


def test_the_last_ones_are_kept_and_the_last_whole_epoch(tmp_path):
    assert train("--out", tmp_path, "--epochs", 2, "--checkpoint-minutes", "1e-9", "--keep-checkpoints", 3) == 0
    kept = sorted(path.name.rpartition("-")[0] for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["000013-epoch1-batch5", "000014-epoch1-batch6", "000015-epoch2-batch0"]


def test_the_last_whole_epoch_is_kept_within_a_later_one(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for serial, batch in enumerate([0, 0, 1, 2, 3], start=1):
        (tmp_path / f"{serial:06d}-epoch1-batch{batch}-{'0' * 32}.safetensors").touch()
    checkpoints._remove_old()
    assert sorted(int(path.name[:6]) for path in tmp_path.iterdir()) == [2, 4, 5]
