"""Runs put into arms, and their means."""

import numpy as np
import pytest

from incnet.report.arms import Spread, mean_curve, networks
from incnet.report.reading import find_runs, read_history
from incnet.report.stages import backward_skipped, mean_stages, smallest_sufficient

from .folders import write_run


def read(folder):
    return networks(read_history(*found) for found in find_runs([folder]))


def test_arms(runs):
    (network,) = read(runs)
    assert network.title == "ResNet-20 on CIFAR-10"
    assert [(arm.label, len(arm.runs), arm.grows) for arm in network.arms] == [
        ("baseline", 1, False),
        ("look-ahead", 2, True),
        ("random", 1, True),
    ]


def test_arms_are_told_apart_by_what_differs(tmp_path):
    write_run(tmp_path / "a", gamma=0.5)
    write_run(tmp_path / "b", gamma=0.25, seed=1)
    write_run(tmp_path / "c", gamma=0.25, seed=2, checkpoint_minutes=1)
    write_run(tmp_path / "d", method="baseline", gamma=0.1)
    write_run(tmp_path / "e", gamma=0.5, limit=500)
    (network,) = read(tmp_path)
    assert [(arm.label, len(arm.runs)) for arm in network.arms] == [
        ("baseline", 1),
        ("look-ahead, gamma 0.25, no limit", 2),
        ("look-ahead, gamma 0.5, limit 500", 1),
        ("look-ahead, gamma 0.5, no limit", 1),
    ]


def test_networks_are_kept_apart(tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", arch="vgg16")
    assert [network.title for network in read(tmp_path)] == ["ResNet-20 on CIFAR-10", "VGG-16 on CIFAR-10"]


def test_unfinished_seeds_count_only_among_themselves(tmp_path):
    write_run(tmp_path / "a", epochs=3, finished=False)
    (arm,) = read(tmp_path)[0].arms
    assert len(arm.counted) == 1
    write_run(tmp_path / "b", seed=1)
    (arm,) = read(tmp_path)[0].arms
    assert [run.path.name for run in arm.counted] == ["b"]


def test_mean_and_deviation():
    assert Spread.of([1.0, None, 4.0]) == Spread(2.5, pytest.approx(np.std([1, 4], ddof=1)), 2)
    assert Spread.of([3.0]) == Spread(3.0, None, 1)
    assert Spread.of([None]) is None


def test_a_mean_curve_covers_what_all_curves_cover():
    one = np.array([1.0, 2.0, 4.0]), np.array([10.0, 20.0, 40.0])
    other = np.array([2.0, 3.0]), np.array([0.0, 6.0])
    curve = mean_curve([one, other])
    assert curve.x.tolist() == [2, 3]
    assert curve.mean.tolist() == [10, 18]
    assert curve.deviation == pytest.approx([np.std([20, 0], ddof=1), np.std([30, 6], ddof=1)])
    assert mean_curve([one]).mean.tolist() == [10, 20, 40]
    assert not mean_curve([one]).deviation.any()


def test_stages(runs):
    arm = read(runs)[0].arms[1]
    stages = mean_stages(arm)
    assert [(stage.name, stage.params, stage.macs_inference) for stage in stages] == [
        ("S1", 1_000, 100),
        ("S2", 5_000, 200),
        ("S3", 20_000, 300),
    ]
    assert [stage.seconds.mean for stage in stages] == [40, 40, 40]
    # One epoch of four is look-ahead. S2: half of 40 G is skipped in it; S3: 40 of 60 G.
    assert [stage.skipped.mean for stage in stages] == pytest.approx([0, 20 / 160, 40 / 240])


def test_what_was_skipped_is_unknown_without_a_ledger(tmp_path):
    history = read_history(write_run(tmp_path / "run", ledger=False))
    assert [backward_skipped(history, stage) for stage in history.stages] == [None, None, None]


@pytest.mark.parametrize(("gain", "name"), [(0.05, "S3"), (0.001, "S2"), (0.0005, "S1"), (-0.02, "S1")])
def test_the_smallest_network_that_is_good_enough(tmp_path, gain, name):
    """Best of the stages: 0.3 + gain times 4, 8 and 12; those of the last two cases fall or rise by 0.4 points."""
    write_run(tmp_path / "run", gain=gain)
    (arm,) = read(tmp_path)[0].arms
    assert smallest_sufficient(mean_stages(arm)).name == name
