"""Spoilt files of every kind: only documented errors. A few inputs each; ``python -m tests.faults.fuzz`` makes many."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .fuzz import attempt as read_or_refused
from .readers import KINDS, MAKERS, TOKENS, readers, spoil

PAYLOADS = st.sampled_from(TOKENS) | st.binary(max_size=8)
EDITS = st.lists(st.tuples(st.sampled_from(KINDS), st.floats(0, 1, exclude_max=True), PAYLOADS), max_size=4)


@pytest.fixture(scope="module")
def all_readers(tmp_path_factory):
    return readers(tmp_path_factory.mktemp("readers"))


@pytest.mark.parametrize("name", MAKERS)
def test_spoilt_files(name, all_readers):
    reader = all_readers[name]

    @settings(max_examples=60, suppress_health_check=list(HealthCheck))
    @given(which=st.integers(0, len(reader.seeds) - 1), edits=EDITS)
    def attempt(which, edits):
        read_or_refused(reader, spoil(reader.seeds[which], edits))

    attempt()


@pytest.mark.parametrize("name", MAKERS)
def test_whole_files_are_read(name, all_readers):
    all_readers[name].read(all_readers[name].seeds[0])


def test_no_reader_runs_anything():
    """The command, which ends where one does; of whole files and some spoilt ones."""
    command = [sys.executable, "-m", "tests.faults.fuzz", "--inputs", "20"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [line.split("  ")[0].partition(" 20 inputs")[0].rstrip() for line in done.stdout.splitlines()] == [*MAKERS]
