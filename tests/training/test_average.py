"""The average of the weights over the steps."""

import numpy as np
import pytest

from incnet.config import Config, ConfigError
from incnet.training.average import WeightAverage
from tests.small_networks import assert_same_state, grow, snapshot

IMAGE = (8, 8, 3)


def walk(graph, average, rng, steps):
    """Move the trainable weights at random; return those of one parameter after each update of the average."""
    seen = []
    for step in range(1, steps + 1):
        for _, parameter in graph.trainable_parameters():
            parameter.data += rng.standard_normal(parameter.data.shape).astype(np.float32)
        average.observe(graph)
        if step % average.EVERY == 0:
            seen.append(graph.classifier.parameters()[0].data.copy())
    return seen


def test_weights_count_by_a_power_of_their_step():
    rng, graph, average = np.random.default_rng(0), grow("resnet8", IMAGE), WeightAverage()
    seen = walk(graph, average, rng, 83)
    weights = np.ones(1)
    for n in range(2, len(seen) + 1):
        part = (average.ETA + 1) / (n + average.ETA)
        weights = np.append(weights * (1 - part), part)
    assert weights.sum() == pytest.approx(1)
    assert np.all(np.diff(weights) > 0)
    expected = np.tensordot(weights, np.array(seen, np.float64), 1)
    np.testing.assert_allclose(average.arrays["classifier.linear.weight"], expected, rtol=1e-4, atol=1e-4)


def test_it_lags_a_sixteenth_behind():
    n = 10_000
    lag = 0.0
    for step in range(1, n + 1):
        part = (WeightAverage.ETA + 1) / (step + WeightAverage.ETA)
        lag = (1 - part) * (lag + 1)
    assert lag / n == pytest.approx(1 / 16, rel=0.01)


def test_applied_and_back():
    rng, graph, average = np.random.default_rng(1), grow("resnet8", IMAGE), WeightAverage()
    with average.applied(graph):
        pass  # nothing was averaged yet
    walk(graph, average, rng, 20)
    before, arrays = snapshot(graph), [parameter.data for parameter in graph.parameters()]
    with average.applied(graph):
        for name, parameter in graph.named_parameters():
            assert parameter.data is average.arrays[name]
    assert all(parameter.data is array for parameter, array in zip(graph.parameters(), arrays, strict=True))
    assert_same_state(graph, before)


def test_only_what_is_trained_is_averaged_and_handed_on():
    rng, graph, average = np.random.default_rng(2), grow("resnet8", IMAGE), WeightAverage()
    graph.freeze_prefix(2)
    before = snapshot(graph)
    walk(graph, average, rng, 24)
    assert average.arrays.keys() == {name for name, _ in graph.trainable_parameters()}
    expected = {name: array.copy() for name, array in average.arrays.items()}
    average.hand_on(graph)
    assert (average.arrays, average.steps) == ({}, 0)
    for name, parameter in graph.named_parameters():
        np.testing.assert_array_equal(parameter.data, expected.get(name, before[name]))


def test_loading():
    rng, graph, average = np.random.default_rng(3), grow("resnet8", IMAGE), WeightAverage()
    walk(graph, average, rng, 21)
    arrays, again = {name: array.copy() for name, array in average.arrays.items()}, WeightAverage()
    again.load(arrays, 21, graph)
    state, there = snapshot(graph), np.random.default_rng(4)
    walk(graph, average, there, 30)
    graph.load_state(state)
    walk(graph, again, np.random.default_rng(4), 30)
    for name, array in average.arrays.items():
        np.testing.assert_array_equal(array, again.arrays[name])
    first = next(iter(arrays))
    for wrong, steps in (
        (arrays, 7),
        ({}, 8),
        (arrays, -1),
        ({name: array for name, array in arrays.items() if name != first}, 21),
        (arrays | {first: arrays[first].astype(np.float64)}, 21),
        (arrays | {first: arrays[first][..., :1]}, 21),
    ):
        with pytest.raises(ValueError, match="average of"):
            again.load(wrong, steps, graph)


def test_an_average_needs_statistics_of_its_own():
    with pytest.raises(ConfigError, match="--recalibrate 0: choose at least 1 batch, or --no-average"):
        Config(recalibrate=0).resolve()
    assert not Config(recalibrate=0, average=False).resolve().average
