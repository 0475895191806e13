"""Ranks that share a batch take the step of one process that has all of it."""

import json

import pytest

from .mpiexec import needs_mpi, run

pytestmark = needs_mpi


@pytest.mark.parametrize(
    ("ranks", "network", "fused", "statistics", "frozen", "frozen_bn"),
    [
        (2, "residual", "fused", "global", 0, "eval"),
        (2, "residual", "plain", "global", 0, "eval"),
        (2, "residual", "fused", "local", 0, "eval"),
        (2, "residual", "im2col", "local", 0, "eval"),
        (2, "dropout", "fused", "global", 0, "eval"),
        (2, "dropout", "fused", "local", 0, "eval"),
        (2, "residual", "fused", "global", 2, "batch"),
        (2, "residual", "fused", "local", 2, "eval"),
        (3, "residual", "fused", "global", 1, "eval"),
        (3, "dropout", "plain", "global", 0, "eval"),
    ],
)
def test_twenty_steps(ranks, network, fused, statistics, frozen, frozen_bn):
    code, out, err = run(ranks, "tests.parallel.programs.same_steps", network, fused, statistics, frozen, frozen_bn)
    assert code == 0, err
    found = json.loads(out)
    assert found["losses"] < 1e-10
    assert found["weights"] < 1e-10
    assert found["moved"] > 1e-2
    assert found["given"] == found["claimed"] > 0
    assert found["recorded"] == (statistics == "local")


@pytest.mark.parametrize(
    ("ranks", "cache", "memory", "dtype"),
    [
        (2, "fixed", 2**30, "float32"),
        (3, "fixed", 0, "float16"),
        (2, "views:2", 0, "float32"),
        (3, "views:2", 2**30, "float16"),
    ],
)
def test_features_that_all_ranks_have_computed(ranks, cache, memory, dtype, tmp_path):
    code, out, err = run(ranks, "tests.parallel.programs.shared_features", cache, memory, tmp_path, dtype)
    assert code == 0, err
    assert json.loads(out) == 5 * (22 + 9) * 4 * 4 * 32  # epochs, training and validation images, features of each
    assert list(tmp_path.iterdir()) == []
