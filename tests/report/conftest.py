"""Run folders for the tests of reports."""

import pytest

from .folders import write_run


@pytest.fixture
def run(tmp_path):
    """One finished run with two insertions."""
    return write_run(tmp_path / "one")


@pytest.fixture
def runs(tmp_path):
    """Two seeds of look-ahead, a baseline, and a random run that is not finished."""
    folder = tmp_path / "runs"
    for seed in (0, 1):
        write_run(folder / f"lookahead-{seed}", seed=seed)
    write_run(folder / "baseline", method="baseline", gain=0.06)
    write_run(folder / "random", init="random", epochs=6, finished=False)
    return folder
