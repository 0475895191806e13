"""Studies on a Dask cluster of this machine, one of whose workers is killed."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from incnet.study import __main__ as command

from .test_study import RUNS, SMALL, events, study, table

pytest.importorskip("distributed", reason="Dask is not installed")

LONGER = ("--limit", "600", "--epochs", "40")
MARK = "INCNET_TEST_DASK"


@pytest.fixture
def on_dask(tmp_path):
    """Start a study in a process of its own; at the end nothing of it is left."""
    mark = str(uuid.uuid4())

    def processes():
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
        return found

    def begin(folder, *more):
        return subprocess.Popen(
            [sys.executable, "-m", "incnet.study", *SMALL, *LONGER, "--out", str(folder), "--dask", "local:2", *more],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {MARK: mark},
        )

    yield begin, processes
    for number in processes():
        os.kill(number, signal.SIGKILL)


def wait_for_epochs(run, count, seconds=60):
    end = time.monotonic() + seconds
    while not (run / "metrics.jsonl").exists() or len(events(run)) < count:
        assert time.monotonic() < end, f"{run} has not begun"
        time.sleep(0.05)


def parent(number):
    return int(Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.slow
def test_a_killed_workers_run_goes_on_elsewhere(on_dask, tmp_path):
    begin, processes = on_dask
    process = begin(tmp_path / "dask")
    run = tmp_path / "dask" / "runs" / RUNS[1]
    wait_for_epochs(run, 5)
    training = next(number for number, command in processes().items() if str(run) in command)
    os.kill(parent(training), signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert not processes()
    sessions = [json.loads(line)["event"] for line in (run / "sessions.jsonl").read_text().splitlines()]
    assert sessions.count("resume") == 1
    assert study(tmp_path / "here", *LONGER) == 0
    assert table(tmp_path / "dask") == table(tmp_path / "here")


@pytest.mark.slow
def test_a_stopped_study_goes_on(on_dask, tmp_path):
    begin, processes = on_dask
    process = begin(tmp_path)
    wait_for_epochs(tmp_path / "runs" / RUNS[0], 3)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert not processes()
    assert study(tmp_path, *LONGER) == 0


def test_an_address_that_is_none(tmp_path, capsys):
    assert study(tmp_path / "study", "--dask", "local") == 2
    assert "--dask local: choose local:2, for example, or a scheduler's address" in capsys.readouterr().err


def test_without_dask(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "incnet.study.dask", raising=False)
    assert command.main([*SMALL, "--out", str(tmp_path / "study"), "--dask", "local:2"]) == 2
    assert "pip install 'incnet[dask]'" in capsys.readouterr().err
