"""A run's own page: written while it goes on and at its end, and never worth a run."""

import errno
import os
import re
from dataclasses import fields

import pytest

from incnet import train
from incnet.report import live
from incnet.report.live import LiveReport
from incnet.training.events import Epoch, Stop
from tests.faults.runs import ARGUMENTS, outcome

from .folders import write_run

ARGUMENTS = [argument for argument in ARGUMENTS if argument != "--no-report"]
EPOCH = Epoch(**{field.name: 1 for field in fields(Epoch)})


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is moved."""

    class Clock:
        now = 0.0

    monkeypatch.setattr(live.time, "monotonic", lambda: Clock.now)
    return Clock


def test_a_run_leaves_its_page(tmp_path, capsys):
    assert train.main([*ARGUMENTS, "--out", str(tmp_path / "run")]) == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "test accuracy" in page
    assert "refresh" not in page
    assert f"report: {tmp_path / 'run' / 'report.html'}" in capsys.readouterr().out.replace("\n", "")


def test_pages_while_a_run_goes_on(tmp_path, clock):
    """The first page has its time after 50 seconds; it takes none by this clock, so that the next one comes too."""
    run = write_run(tmp_path / "run", epochs=6, finished=False)
    page = run / "report.html"
    report = LiveReport(run, pytest.fail)
    for clock.now in (0, 49):
        report.event(EPOCH)
        assert not page.exists()
    clock.now = 50
    report.event(Stop(1, "not an epoch"))
    assert not page.exists()
    report.event(EPOCH)
    assert '<meta http-equiv="refresh" content="20">' in page.read_text()
    assert "Going on, after epoch 6 of at most 12: this page renews itself." in page.read_text()
    page.unlink()
    report.event(EPOCH)
    assert page.exists()


def test_pages_take_a_small_share_of_the_time(tmp_path, clock, monkeypatch):
    run = write_run(tmp_path / "run", epochs=6, finished=False)
    written = []

    def slow(path, pieces):
        clock.now += 3
        written.append(clock.now)

    monkeypatch.setattr(live, "replace_file", slow)
    report = LiveReport(run, pytest.fail)
    for _ in range(1000):
        clock.now += 1
        report.event(EPOCH)
    assert len(written) > 4
    assert 3 * len(written) <= 0.02 * clock.now


def test_the_last_page_does_not_reload_itself(tmp_path, clock):
    run = write_run(tmp_path / "run", epochs=6, finished=False)
    said = []
    LiveReport(run, said.append).close()
    page = (run / "report.html").read_text()
    assert "refresh" not in page
    assert "Not finished: run is after epoch 6 of at most 12." in page
    assert said == [f"report: {run / 'report.html'}"]


def test_a_disk_without_room_for_a_page_costs_no_run(tmp_path, monkeypatch, capsys):
    assert train.main([*ARGUMENTS, "--out", str(tmp_path / "whole")]) == 0
    monkeypatch.setattr(live, "FIRST", 0.0)
    replace = os.replace

    def full(source, target):
        if "report.html" in str(target):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    capsys.readouterr()
    assert train.main([*ARGUMENTS, "--out", str(tmp_path / "run")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert re.search(
        r"warning: report.html is not up to date: cannot write .*No space left on device; the run goes on", said
    )
    assert said.count("warning") == 1
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")
    assert not list((tmp_path / "run").glob("report*"))


def test_a_fault_in_a_page_costs_no_run(tmp_path, clock, monkeypatch):
    run = write_run(tmp_path / "run", epochs=6, finished=False)
    monkeypatch.setattr("incnet.report.page.render", lambda *_, **__: 1 / 0)
    said = []
    report = LiveReport(run, said.append)
    clock.now = 100
    for _ in range(2):
        report.event(EPOCH)
    report.close()
    assert said == ["warning: report.html is not up to date: division by zero; the run goes on without it"]


def test_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setattr(live, "find_spec", lambda name: None if name == "matplotlib" else True)
    said = []
    report = LiveReport(write_run(tmp_path / "run"), said.append)
    report.event(EPOCH)
    report.close()
    (line,) = said
    assert 'no report.html is written: it needs matplotlib and Jinja: pip install "incnet[report]"' in line
    assert not (tmp_path / "run" / "report.html").exists()
