"""Studies in a terminal of 80 columns."""

import re
from pathlib import Path

import pytest

from incnet.config import Config
from incnet.study.__main__ import main
from incnet.study.designs import DESIGNS
from incnet.study.display import StudyDisplay, plan_table
from incnet.study.folder import StudyRun
from incnet.study.options import Planned
from incnet.terminal import Terminal

from .screen import Inside


@pytest.mark.parametrize("name", DESIGNS)
def test_the_plan_of_a_study(name, monkeypatch):
    """All arms, of networks with long names, with costs as long as they get."""
    arms = [*DESIGNS[name].arms, *DESIGNS[name].more_arms]
    runs = [StudyRun(Planned("resnet110", arm, 12, Config(epochs=1000)), Path("run"), "unfinished") for arm in arms]
    with Inside(monkeypatch) as screen:
        Terminal().print(plan_table(runs, {("resnet110", arm): (1.234e15, 359_999.0) for arm in arms}))
    screen.check()
    for arm in arms:
        assert re.search(
            rf"^ ?resnet110 +{arm} +12 +unfinished +0/1000 +1\.23 P +99 h 59 min$", screen.text, re.MULTILINE
        )


def test_a_study_and_its_results(tmp_path, monkeypatch):
    small = ("--archs", "resnet8", "--dataset", "digits", "--limit", "200", "--epochs", "2", "--seeds", "1")
    with Inside(monkeypatch) as screen:
        assert main(["table2", *small, "--arms", "baseline", "--out", str(tmp_path / "study")]) == 0
    screen.check()
    assert "resnet8-baseline-seed0: finished after 2 epochs in" in screen.text
    assert re.search(r"^ ?resnet8 +baseline +1 +\d+\.\d\d ", screen.text, re.MULTILINE)


def test_bars_of_runs_with_long_names(tmp_path, monkeypatch):
    run = StudyRun(Planned("resnet110", "lookahead-rho-alone", 12, Config(epochs=1000)), tmp_path)
    with Inside(monkeypatch) as screen, StudyDisplay(Terminal()) as display:
        display.follow(run)
        (tmp_path / "metrics.jsonl").write_bytes(b'{"event": "epoch"' * 3)
        display.follow(run)
        display.bars.refresh()
    frames = "\n".join(screen.frames)
    assert re.search(r"resnet110-lookahead-rho-alone-seed12 +3/1000 [━╸╺]+ -:--:-- left$", frames, re.MULTILINE)
    assert "…" not in frames
