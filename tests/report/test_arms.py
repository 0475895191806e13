"""Runs put into arms, and their means."""

import shutil

import numpy as np
import pytest

from incnet.report import read_runs
from incnet.report.arms import Spread, mean_curve, networks
from incnet.report.headline import headline
from incnet.report.interval import wilson
from incnet.report.paper import paper_accuracy
from incnet.report.reading import find_runs, read_history
from incnet.report.stages import as_good_as_the_best, backward_skipped, mean_stages

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
    assert [(stage.subnetworks, stage.params, stage.macs_inference) for stage in stages] == [
        (("S1",), 1_000, 100),
        (("S1", "S2"), 5_000, 200),
        (("S1", "S2", "S3"), 20_000, 300),
    ]
    assert [stage.seconds.mean for stage in stages] == [40, 40, 40]
    # One epoch of four is look-ahead. S2: half of 40 G is skipped in it; S3: 40 of 60 G.
    assert [stage.skipped.mean for stage in stages] == pytest.approx([0, 20 / 160, 40 / 240])


def test_what_was_skipped_is_unknown_without_a_ledger(tmp_path):
    history = read_history(write_run(tmp_path / "run", ledger=False))
    assert [backward_skipped(history, stage) for stage in history.stages] == [None, None, None]


@pytest.mark.parametrize(
    ("accuracies", "name"),
    [
        ([0.947, 0.983, 0.978], "S1"),  # of 359 images: 91.9 to 96.6 overlaps with 96.4 to 99.2
        ([0.90, 0.983, 0.978], "S2"),
        ([0.80, 0.90, 0.99], "S3"),
        ([0.90, 0.90, 0.90], "S1"),
    ],
)
def test_the_smallest_network_that_the_test_images_do_not_tell_from_the_best(tmp_path, accuracies, name):
    write_run(tmp_path / "run", tested=accuracies, test_images=359)
    (arm,) = read(tmp_path)[0].arms
    assert as_good_as_the_best(mean_stages(arm)).subnetworks[-1] == name


def test_nothing_is_said_of_stages_that_were_not_tested(tmp_path):
    write_run(tmp_path / "run")
    (arm,) = read(tmp_path)[0].arms
    assert as_good_as_the_best(mean_stages(arm)) is None
    assert [stage.test is None for stage in mean_stages(arm)] == [True, True, False]
    assert mean_stages(arm)[-1].interval is None


# One run, one seed.


def test_seeds_on_different_machines_are_one_arm(tmp_path):
    """As in a study, whose tables know nothing of machines."""
    write_run(tmp_path / "a", threads=2)
    write_run(tmp_path / "b", seed=1, threads=1, device="gpu")
    (arm,) = read(tmp_path)[0].arms
    assert (arm.label, len(arm.runs)) == ("look-ahead", 2)


def test_one_seed_on_different_machines_is_compared(tmp_path):
    write_run(tmp_path / "a", threads=2)
    write_run(tmp_path / "b", threads=1)
    assert [(arm.label, len(arm.runs)) for arm in read(tmp_path)[0].arms] == [
        ("look-ahead, threads 1", 1),
        ("look-ahead, threads 2", 1),
    ]


def test_a_run_through_a_link_or_as_a_copy_counts_once(tmp_path):
    write_run(tmp_path / "one")
    write_run(tmp_path / "two", seed=1, gain=0.04)
    (tmp_path / "latest").symlink_to("two")
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    lines = (tmp_path / "copy" / "metrics.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "copy" / "metrics.jsonl").write_text("".join(lines[:6]))  # made while the run went on
    runs, problems = read_runs([tmp_path, tmp_path / "latest", tmp_path / "two"])
    assert problems == []
    assert sorted(run.path.name for run in runs) == ["one", "two"]
    (arm,) = networks(runs)[0].arms
    assert arm.spread(lambda run: run.test_accuracy).runs == 2


def test_a_seed_that_was_run_twice_counts_once(tmp_path):
    write_run(tmp_path / "one", epochs=8)
    again = write_run(tmp_path / "two")
    text = (again / "metrics.jsonl").read_text().replace('"seconds": 10.0', '"seconds": 10.5')
    (again / "metrics.jsonl").write_text(text)
    (arm,) = networks(read_runs([tmp_path])[0])[0].arms
    assert ([run.path.name for run in arm.counted], [run.path.name for run in arm.repeated]) == (["two"], ["one"])
    assert arm.spread(lambda run: run.test_accuracy).deviation is None


# Times.


@pytest.mark.parametrize(
    ("options", "compiling", "why"),
    [
        ({}, 3.0, None),
        ({}, None, "compilation"),
        ({"threads": 1}, 3.0, "numbers of threads"),
        ({"device": "gpu"}, 3.0, "devices"),
    ],
)
def test_times_that_can_be_compared(tmp_path, options, compiling, why):
    write_run(tmp_path / "a", method="baseline", threads=2, compiling=3.0)
    write_run(tmp_path / "b", compiling=compiling, **{"threads": 2, **options})
    (network,) = read(tmp_path)
    found = network.times_incomparable
    assert (found is None) if why is None else (why in found)
    assert ("of its time" in headline(network)) == (why is None)


# The paper.


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 87.52),
        ({"limit": 1000}, None),
        ({"resize": 64}, None),
        ({"image_sizes": "16,32"}, None),
        ({"freeze": "0.7"}, None),
        ({"partition": "blocks"}, None),
        ({"epochs": 8}, None),  # S3 never came in
        ({"finished": False}, None),
        ({"init": "identity"}, None),
    ],
)
def test_the_papers_figures_stand_beside_comparable_runs_only(tmp_path, options, expected):
    write_run(tmp_path / "run", **options)
    (arm,) = read(tmp_path)[0].arms
    assert paper_accuracy(arm.counted, arm.kind) == expected


def test_wilson():
    """Against values of the published formula: 81 of 263 (Newcombe 1998, table I), and both ends."""
    assert [round(bound, 4) for bound in (wilson(81 / 263, 263).low, wilson(81 / 263, 263).high)] == [0.2553, 0.3662]
    assert (wilson(0.0, 10).low, wilson(1.0, 10).high) == (0.0, 1.0)
    assert wilson(0.5, 10**6).overlaps(wilson(0.501, 10**6))
    assert not wilson(0.5, 10**6).overlaps(wilson(0.502, 10**6))
