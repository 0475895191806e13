"""SIGINT, SIGTERM and SIGHUP: the first one saves and stops, the second one stops at once."""

import json
import os
import signal
import threading

import numpy as np
import pytest
from safetensors.numpy import load_file

from incnet import session
from incnet import train as command
from incnet.config import Config
from incnet.run import epoch as epoch_module
from incnet.run.run import Run
from incnet.storage.folder import RunFolder
from incnet.training import loop
from incnet.training.recalibration import recalibrate
from incnet.training.signals import Interrupted, StopSignals
from tests.faults.runs import ARGUMENTS


def send(*numbers):
    for number in numbers:
        os.kill(os.getpid(), number)


@pytest.fixture
def signalled(monkeypatch, tmp_path):
    """Run the command; it receives the given signals in the fourth step of its third epoch. Returns the exit code."""

    def run(*numbers):
        steps = 0

        def train_epoch(step, batches, *, after_step, **options):
            def hook():
                nonlocal steps
                steps += 1
                if steps == 2 * 6 + 4:
                    send(*numbers)
                after_step()

            return loop.train_epoch(step, batches, after_step=hook, **options)

        monkeypatch.setattr(epoch_module, "train_epoch", train_epoch)
        return command.main([*ARGUMENTS, "--out", str(tmp_path / "run")])

    return run


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.usefixtures("hangup")
def test_the_first_signal_saves_and_stops(number, code, signalled, tmp_path, capfd):
    assert signalled(number) == code
    assert list((tmp_path / "run" / "checkpoints").glob("*-epoch2-batch4-*"))
    assert {path.name for path in (tmp_path / "run").glob("*.safetensors")} == {"last.safetensors"}
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["epochs"], summary["test_accuracy"]) == (2, None)
    out, err = capfd.readouterr()
    assert f"stopped by {number.name}; go on with --resume {tmp_path / 'run'}" in out
    assert f"{number.name}: finishing the step, then saving; a second signal ends the run at once" in err
    sessions = [json.loads(line) for line in (tmp_path / "run" / "sessions.jsonl").read_text().splitlines()]
    assert [(session["event"], session.get("exit_code")) for session in sessions] == [("begin", None), ("end", code)]


def test_what_is_saved_of_an_epoch_that_was_broken_off_is_a_network(signalled, tmp_path):
    """With batch norm's statistics taken anew of the weights, where they learn; the checkpoint has those in use."""
    assert signalled(signal.SIGINT) == 130
    saved = load_file(tmp_path / "run" / "last.safetensors")
    run = Run(Config.from_json(json.loads((tmp_path / "run" / "config.json").read_text())["config"]))
    with RunFolder.reopen(tmp_path / "run") as folder:
        run.resume(folder)
    in_use = {name: array.copy() for name, array in run.state.graph.state().items()}
    with run.state.averaged():
        recalibrate(run.state.graph, run.images.train.epoch(2))
        expected = run.state.graph.state()
        for name, array in saved.items():
            np.testing.assert_array_equal(array, expected[name], err_msg=name)
    moved = {name for name, array in saved.items() if not np.array_equal(array, in_use[name])}
    assert moved == {name for name in saved if name.startswith("S2.") and "running" in name}


def test_the_second_signal_ends_the_run_at_once(signalled, tmp_path):
    with pytest.raises(SystemExit) as exit_:
        signalled(signal.SIGINT, signal.SIGTERM)
    assert exit_.value.code == 143
    assert not list((tmp_path / "run" / "checkpoints").glob("*-epoch2-batch4-*"))
    assert not (tmp_path / "run" / "summary.json").exists()
    assert not list((tmp_path / "run").rglob("*.tmp"))


@pytest.fixture
def hangup():
    """What SIGHUP does by default, though the tests may run under nohup; put back in the end."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangup")
def test_a_terminal_that_hangs_up_again_and_again_lets_the_run_save(signalled, tmp_path, monkeypatch):
    save = session.export_weights
    monkeypatch.setattr(session, "export_weights", lambda *given: (send(signal.SIGHUP), save(*given)))
    assert signalled(signal.SIGHUP, signal.SIGHUP) == 129
    assert (tmp_path / "run" / "summary.json").exists()


@pytest.mark.usefixtures("hangup")
def test_a_run_under_nohup_goes_on(signalled):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert signalled(signal.SIGHUP) == 0


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals() as signals:
        signals.check()
        send(signal.SIGTERM)
        with pytest.raises(Interrupted, match="SIGTERM"):
            signals.check()
    assert signal.getsignal(signal.SIGTERM) is before


def test_other_threads_take_no_signals():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def enter():
        with StopSignals():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [before]
