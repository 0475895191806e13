"""How many threads find a core to run on."""

import math
import os

import pytest

from incnet.threads import available_threads, quota

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@pytest.fixture(autouse=True)
def _no_limit(monkeypatch):
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    monkeypatch.setattr("incnet.threads.quota", lambda: math.inf)


def test_processes_divide_the_cores_that_they_share():
    assert available_threads() == CORES
    assert available_threads(2) == max(1, CORES // 2)
    assert available_threads(1000) == 1


def test_numbas_own_limit_counts(monkeypatch):
    monkeypatch.setenv("NUMBA_NUM_THREADS", "1")
    assert available_threads() == 1


@pytest.mark.parametrize(("cores", "threads"), [(0.5, 1), (1.0, 1), (1.9, 1), (2.0, min(2, CORES)), (math.inf, CORES)])
def test_a_quota_counts_as_the_cores_that_can_always_run(cores, threads, monkeypatch):
    monkeypatch.setattr("incnet.threads.quota", lambda: cores)
    assert available_threads() == threads


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_quota_of_control_groups_version_2(tmp_path):
    """The least of this group's and of those above it."""
    write(tmp_path / "cgroup", "0::/pod/container\n")
    groups = tmp_path / "fs"
    assert quota(groups, tmp_path / "cgroup") == math.inf
    write(groups / "pod" / "container" / "cpu.max", "max 100000\n")
    write(groups / "pod" / "cpu.max", "50000 100000\n")
    assert quota(groups, tmp_path / "cgroup") == 0.5
    write(groups / "pod" / "container" / "cpu.max", "25000 100000\n")
    assert quota(groups, tmp_path / "cgroup") == 0.25


def test_quota_of_control_groups_version_1(tmp_path):
    """In a container the path is often the host's, and what is seen is the root."""
    write(tmp_path / "cgroup", "3:memory:/m\n2:cpu,cpuacct:/docker/123\n")
    write(tmp_path / "fs" / "cpu,cpuacct" / "cpu.cfs_quota_us", "150000\n")
    write(tmp_path / "fs" / "cpu,cpuacct" / "cpu.cfs_period_us", "100000\n")
    assert quota(tmp_path / "fs", tmp_path / "cgroup") == 1.5
    write(tmp_path / "fs" / "cpu,cpuacct" / "cpu.cfs_quota_us", "-1\n")
    assert quota(tmp_path / "fs", tmp_path / "cgroup") == math.inf


def test_other_systems_have_no_control_groups(tmp_path):
    assert quota(tmp_path, tmp_path / "none") == math.inf
