"""Killed again and again at random moments, a run ends as if nothing had happened.

``INCNET_KILLS`` is the number of kills, ``INCNET_KILLS_SEED`` chooses the moments.
"""

import os
import time
from itertools import count, cycle

import numpy as np
import pytest

from .runs import ARGUMENTS, EVERY_STEP, VARIANTS, Child, history, outcome

KILLS = int(os.environ.get("INCNET_KILLS", "8"))
SEED = int(os.environ.get("INCNET_KILLS_SEED", "0"))
KILLS_A_RUN = 12
SIGKILLED = -9


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What each variant ends with, and how long it takes, in seconds; computed when first asked for."""
    known = {}

    def get(variant):
        if variant not in known:
            folder = tmp_path_factory.mktemp("undisturbed")
            arguments = (*ARGUMENTS, *VARIANTS[variant], *EVERY_STEP, "--out", str(folder / "run"))
            assert Child(arguments, folder / "warm-up").wait() == 0  # compiles what is not compiled yet
            begun = time.monotonic()
            assert Child((*arguments[:-1], str(folder / "timed")), folder / "log").wait() == 0
            assert outcome(folder / "timed") == outcome(folder / "run")
            known[variant] = outcome(folder / "run"), time.monotonic() - begun
        return known[variant]

    return get


def test_killed_runs_end_like_undisturbed_ones(undisturbed, tmp_path, capsys):
    rng = np.random.default_rng(SEED)
    kills = runs = 0
    progress = []
    for number, variant in zip(count(), cycle(VARIANTS)):
        if kills >= KILLS:
            break
        expected, seconds = undisturbed(variant)
        folder = tmp_path / f"run{number}"
        killed = killed_run(folder, variant, seconds, min(KILLS_A_RUN, KILLS - kills), rng, progress)
        assert outcome(folder) == expected, f"{variant}: not as if it had not been killed"
        assert not list(folder.rglob("*.tmp"))
        kills, runs = kills + killed, runs + 1
    with capsys.disabled():
        print(
            f"\n{kills} kills in {runs} runs, {sum(p == 0 for p in progress)} of them before the first epoch's end; "
            f"every run ended with the weights, metrics and summary of one that was not killed"
        )
    assert kills >= KILLS


def killed_run(folder, variant, seconds, limit, rng, progress):
    """Run one variant to its end, killing it up to ``limit`` times. Returns how often it was killed."""
    log = folder.with_suffix(".log")
    kills = 0
    while True:
        begun = (folder / "config.json").exists()
        place = ("--resume", str(folder)) if begun else ("--out", str(folder))
        arguments = (*ARGUMENTS, *VARIANTS[variant], *EVERY_STEP, *place)
        if kills == limit:
            code = Child(arguments, log).wait()
        elif rng.random() < 0.5:
            # At a moment of the clock ...
            child = Child(arguments, log)
            if (code := child.wait(rng.uniform(0, seconds))) is None:
                code = child.kill()
        else:
            # ... or of the disk: in the middle of a write, before a sync or a renaming.
            code = Child(arguments, log, die_at=int(rng.integers(1, 400))).wait()
        if code == 0:
            return kills
        assert code == SIGKILLED, log.read_text()
        kills += 1
        progress.append(epochs_done(folder))


def epochs_done(folder):
    try:
        return sum(event["event"] == "epoch" for event in history(folder))
    except (OSError, ValueError):  # killed before the log was there, or within a line
        return 0
