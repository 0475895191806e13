"""What training changes, in one place."""

import numpy as np
import pytest

from incnet.config import Config
from incnet.run.run import Run
from incnet.training.loop import Metrics


@pytest.fixture
def state():
    run = Run(Config(arch="resnet8", limit=100, threads=1, device="cpu").resolve())
    run.state.graph.insert("S1", run.state.subnetworks["S1"])
    run.state.begin_stage(32)
    return run.state


def test_the_best_epoch_is_that_of_the_highest_accuracy_and_then_of_the_lowest_loss(state):
    seen = [(0.5, 1.0), (0.7, 0.9), (0.7, 0.8), (0.7, 0.85), (0.6, 0.1), (0.7, 0.8)]
    kept = []
    weight = state.graph.subnetworks["S1"].parameters()[0].data
    for number, (accuracy, loss) in enumerate(seen):
        weight[...] = number
        state.keep_if_best(Metrics(loss, accuracy, 10))
        kept.append((state.best.accuracy, state.best.loss))
    assert kept == [(0.5, 1.0), (0.7, 0.9), (0.7, 0.8), (0.7, 0.8), (0.7, 0.8), (0.7, 0.8)]
    name = next(name for name, array in state.graph.state().items() if array is weight)
    assert np.all(state.best_weights[name] == 2)
    assert state.stage.val_accuracy == 0.7


def test_the_best_weights_are_copies(state):
    state.keep_if_best(Metrics(1.0, 0.5, 10))
    before = {name: array.copy() for name, array in state.best_weights.items()}
    for array in state.graph.state().values():
        array[...] += 1
    for name, array in state.best_weights.items():
        np.testing.assert_array_equal(array, before[name])


def test_a_new_stage_has_no_best_epoch_yet(state):
    state.keep_if_best(Metrics(1.0, 0.5, 10))
    state.graph.insert("S2", state.subnetworks["S2"])
    state.begin_stage(16)
    assert (state.best, state.best_weights, state.stage.name, state.stage.batch_size) == (None, {}, "S2", 16)
