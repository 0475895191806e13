"""What is expected of a step at every boundary, and that it is what the step is."""

import numpy as np
import pytest

from incnet.cost import Ledger
from incnet.memory import network_bytes
from incnet.optim import RMSProp
from incnet.savings.boundaries import Setting, expect, measure, settings
from tests.small_networks import grow

IMAGE = (8, 8, 3)


def test_settings():
    assert settings(3) == [Setting(0), *(Setting(k, cached) for k in (1, 2) for cached in (False, True))]
    assert settings(9, frozen=[8]) == [Setting(0), Setting(8), Setting(8, True)]


def test_more_frozen_is_less_work_and_less_memory():
    graph, optimizer = grow("resnet8", IMAGE, fused=True), RMSProp()
    found = {setting: expect(graph, optimizer, 16, setting) for setting in settings(3)}
    computed = [found[Setting(k)] for k in range(3)]
    assert computed[0].ratio == 1
    assert computed[0].skipped == 0
    for fewer, more in ((computed[0], computed[1]), (computed[1], computed[2])):
        assert more.skipped > fewer.skipped
        assert more.ratio < fewer.ratio
        assert more.memory < fewer.memory
    for k in (1, 2):
        cached = found[Setting(k, True)]
        assert cached.skipped == computed[k].skipped
        assert cached.ratio < computed[k].ratio
        assert cached.memory <= computed[k].memory
        graph.freeze_prefix(k)
        features = graph.features(np.zeros((1, *IMAGE), np.float32))
        assert (computed[k].feature_bytes, cached.feature_bytes) == (0, features.nbytes)


def test_the_expected_ratio_is_that_of_the_ledger():
    graph = grow("vgg16", IMAGE)
    whole = Ledger.of(graph, 1).total
    graph.freeze_prefix(4)
    frozen, cached = Ledger.of(graph, 1).total, Ledger.of(graph, 1, from_features=True).total
    assert expect(graph, RMSProp(), 2, Setting(4)).ratio == pytest.approx(frozen / whole)
    assert expect(graph, RMSProp(), 2, Setting(4, True)).ratio == pytest.approx(cached / whole)


def test_measured_settings():
    turns = []
    graph = grow("resnet8", IMAGE, fused=True)
    rows = measure(graph, 4, rounds=2, steps=3, after_turn=lambda: turns.append(1))
    assert [row.setting for row in rows] == settings(3)
    assert len(turns) == 3 * len(rows)
    for row in rows:
        assert [len(turn) for turn in row.timing.turns] == [3, 3]
        assert row.ratio == row.timing.ratio_to(rows[0].timing)
        assert row.expected.memory > network_bytes(graph, RMSProp())
    assert rows[0].ratio.median == 1
