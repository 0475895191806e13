"""Studies on a Dask cluster of this machine, one of whose workers is killed."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from incnet.study import __main__ as command

from .test_study import RUNS, SMALL, events, study, table

pytest.importorskip("distributed", reason="Dask is not installed")

LONGER = ("--limit", "600", "--epochs", "40")
ROOT = Path(__file__).parents[2]
MARK = "INCNET_TEST_DASK"


class OnDask(NamedTuple):
    """How to begin a study in a process of its own, and to find all processes of a test by their mark."""

    begin: Callable
    processes: Callable
    mark: dict[str, str]


@pytest.fixture
def on_dask():
    """At the end nothing of it is left."""
    mark = {MARK: str(uuid.uuid4())}

    def processes():
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if f"{MARK}={mark[MARK]}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
        return found

    def begin(folder, address="local:2"):
        return subprocess.Popen(
            [sys.executable, "-m", "incnet.study", *SMALL, *LONGER, "--out", str(folder), "--dask", address],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | mark | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)},
            cwd=folder.parent,
        )

    yield OnDask(begin, processes, mark)
    for number in processes():
        with suppress(ProcessLookupError):
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
    begin, processes, _ = on_dask
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
    begin, processes, _ = on_dask
    process = begin(tmp_path)
    wait_for_epochs(tmp_path / "runs" / RUNS[0], 3)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert not processes()
    assert study(tmp_path, *LONGER) == 0


# A terminal sends Ctrl-C to every process of its group.


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_stops_the_study_alone(on_dask, tmp_path):
    pexpect = pytest.importorskip("pexpect", reason="pexpect is not installed")
    processes = on_dask.processes
    command = ["-m", "incnet.study", *SMALL, *LONGER, "--epochs", "4000", "--out", str(tmp_path), "--dask", "local:2"]
    # The terminal echoes ^C where output is written just then: between two bytes of a letter, if it comes to that.
    reads = {"dimensions": (24, 80), "encoding": "utf-8", "codec_errors": "replace", "timeout": 60}
    terminal = pexpect.spawn(sys.executable, command, env=os.environ | on_dask.mark, **reads)
    for name in RUNS:
        wait_for_epochs(tmp_path / "runs" / name, 2)
    terminal.sendintr()
    shown = terminal.read()
    terminal.close()
    assert terminal.exitstatus == 130
    assert "stopped; the same command goes on" in shown
    assert "Traceback" not in shown
    assert "Error" not in shown
    assert not processes()
    for name in RUNS:
        sessions = (tmp_path / "runs" / name / "sessions.jsonl").read_text().splitlines()
        assert json.loads(sessions[-1])["exit_code"] == 130


# A cluster of somebody else's.


@pytest.fixture
def cluster(on_dask, tmp_path):
    """Start a scheduler, and workers for it; they end with the test."""
    file, started = tmp_path / "scheduler.json", []

    def dask(kind, *arguments, **environment):
        process = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--scheduler-file", str(file), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | on_dask.mark | environment,
            cwd=tmp_path,
        )
        started.append(process)
        return process

    scheduler = dask("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
    end = time.monotonic() + 60
    while not (file.exists() and file.read_text()):
        assert time.monotonic() < end
        time.sleep(0.05)

    def worker(*arguments, **environment):
        return dask("worker", "--nthreads", "2", "--no-nanny", "--no-dashboard", *arguments, **environment)

    yield json.loads(file.read_text())["address"], scheduler, worker
    for process in started:
        process.kill()
        process.wait()


def lines_until(process, text):
    """Read what a study says until it says this."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return lines
    pytest.fail(f"{text!r} was not said, but {lines} {process.stderr.read()}")


def finish(process):
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in out + err, out + err
    return process.returncode, out


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_scheduler_without_workers(number, code, on_dask, cluster, tmp_path):
    address, _, _ = cluster
    process = on_dask.begin(tmp_path / "study", address=address)
    lines_until(process, f"no worker at {address}; waiting for one")
    process.send_signal(number)
    assert finish(process)[0] == code


@pytest.mark.slow
def test_workers_that_cannot_do_it(on_dask, cluster, tmp_path):
    """One that lacks incnet, then one that does not see the study's folder: runs fail, with the cause."""
    address, _, worker = cluster
    empty = tmp_path / "empty"
    (empty / "incnet").mkdir(parents=True)
    (empty / "incnet" / "__init__.py").touch()
    lacking = worker(PYTHONPATH=str(empty))
    code, out = finish(on_dask.begin(tmp_path / "one", address=address))
    assert code == 1
    assert all(f"{name}: failed: " in out for name in RUNS)
    assert "incnet" in out.partition("failed: ")[2]
    lacking.kill()
    lacking.wait()
    blind = tmp_path / "blind.py"
    blind.write_text("from pathlib import Path\nPath.is_dir = lambda path: False\n")
    worker("--preload", str(blind))
    code, out = finish(on_dask.begin(tmp_path / "two", address=address))
    assert code == 1
    assert out.count(f"does not see {tmp_path / 'two' / 'logs'}") == 2


@pytest.mark.slow
def test_a_scheduler_that_dies(on_dask, cluster, tmp_path):
    """Its runs count as failed, tables are written, and the same command goes on."""
    address, scheduler, worker = cluster
    worker()
    process = on_dask.begin(tmp_path / "study", address=address)
    for name in RUNS:
        wait_for_epochs(tmp_path / "study" / "runs" / name, 2)
    scheduler.kill()
    code, out = finish(process)
    assert code == 1
    assert out.count(f"failed: the scheduler at {address} was lost") == 2
    content = json.loads((tmp_path / "study" / "study.json").read_text())
    assert [run["status"] for run in content["runs"]] == ["failed", "failed"]


def test_nobody_at_the_address(tmp_path, capsys, monkeypatch):
    dask = pytest.importorskip("incnet.study.dask")
    monkeypatch.setattr(dask, "PATIENCE", 0)
    assert study(tmp_path / "study", "--dask", "tcp://127.0.0.1:9") == 1
    assert "failed: no scheduler answers at tcp://127.0.0.1:9" in capsys.readouterr().out


def test_an_address_that_is_none(tmp_path, capsys):
    assert study(tmp_path / "study", "--dask", "local") == 2
    assert "--dask local: choose local:2, for example, or a scheduler's address" in capsys.readouterr().err


def test_without_dask(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "incnet.study.dask", raising=False)
    assert command.main([*SMALL, "--out", str(tmp_path / "study"), "--dask", "local:2"]) == 2
    assert 'pip install "incnet[dask]"' in capsys.readouterr().err
