"""Steps that are timed are those that training takes: on these layers, this batch, this boundary."""

from itertools import repeat

import numpy as np
import pytest

from incnet.config import Config
from incnet.cost import Ledger
from incnet.data.catalogue import load_dataset
from incnet.optim import RMSProp
from incnet.threads import threads_in_use, use_threads
from incnet.timing.steps import WARM_UP, Phase, SteppingNetwork, TimedRun, measure_steps, phases
from incnet.training.replay import Replay
from incnet.training.step import Step
from tests.metering import metering
from tests.small_networks import assert_same_state, grow, snapshot

IMAGE = (8, 8, 3)


@pytest.fixture
def network(rng):
    graph = grow("resnet8", IMAGE, fused=True)
    batch = rng.standard_normal((4, *IMAGE), np.float32), rng.integers(0, 10, 4)
    return SteppingNetwork(Step(graph, RMSProp()), repeat(batch))


@pytest.mark.parametrize(("frozen", "cached"), [(0, False), (1, False), (1, True), (2, True), (2, False)])
def test_a_turn_computes_what_its_setting_says(network, frozen, cached):
    graph = network.training_step.graph
    network.turn(1, frozen=frozen, cached=cached)  # computes the features
    with metering() as meter:
        assert len(network.turn(3, frozen=frozen, cached=cached)) == 3
    graph.freeze_prefix(frozen)
    expected, ran = Ledger.of(graph, 4 * (3 + WARM_UP), from_features=cached), meter.cost()
    assert (ran.forward, ran.weight_grad, ran.input_grad) == (
        expected.forward, expected.weight_grad, expected.input_grad,
    )  # fmt: skip


def test_a_turn_trains_what_is_not_frozen(network):
    graph = network.training_step.graph
    prefix, suffix = snapshot(graph.subnetworks["S1"]), snapshot(graph.subnetworks["S2"])
    network.turn(1, frozen=1)
    assert_same_state(graph.subnetworks["S1"], prefix)
    with pytest.raises(AssertionError, match="has changed"):
        assert_same_state(graph.subnetworks["S2"], suffix)


def test_settings_may_take_turns_in_any_order(rng):
    """Recorded steps, too: what another boundary has left never shows."""
    batch = rng.standard_normal((4, *IMAGE), np.float32), rng.integers(0, 10, 4)
    states = []
    for record in (True, False):
        graph = grow("resnet8", IMAGE, fused=True)
        network = SteppingNetwork(Replay(Step(graph, RMSProp())) if record else Step(graph, RMSProp()), repeat(batch))
        for frozen, cached in ((0, False), (2, True), (1, False), (0, False), (1, True), (2, False)):
            network.turn(2, frozen=frozen, cached=cached)
        states.append(snapshot(graph))
    assert_same_state(graph, states[0])


CONFIG = {"arch": "resnet8", "limit": 100, "batch_size": 16}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"method": "baseline"}, [Phase(3)]),
        (
            {"method": "baseline", "image_sizes": "4,6,8", "epochs": 3},
            [Phase(3, image_size=4), Phase(3, image_size=6), Phase(3)],
        ),
        ({"init": "random"}, [Phase(1), Phase(2), Phase(3)]),
        ({}, [Phase(1), Phase(2, True), Phase(2), Phase(3, True), Phase(3)]),
        (
            {"lookahead_cache": "views:1", "partition": "2"},
            [Phase(1), Phase(2, True), Phase(2, True, True), Phase(2)],
        ),
        ({"lookahead_cache": "views:3", "partition": "2"}, [Phase(1), Phase(2, True), Phase(2)]),
        (
            {"method": "baseline", "freeze": "0.4,0.8", "epochs": 5, "lookahead_cache": "views:1"},
            [Phase(3), Phase(3, for_good=1), Phase(3, cached=True, for_good=1), Phase(3, for_good=2)],
        ),
    ],
    ids=["baseline", "growing-images", "random", "lookahead", "cache", "cache-never-read", "frozen-for-good"],
)
def test_every_phase_of_a_run_is_measured(options, expected):
    config = Config("digits", **CONFIG, **options).resolve()
    turns = []
    found = measure_steps(config, load_dataset("digits"), rounds=2, steps=1, after_turn=lambda: turns.append(1))
    assert [steps.phase for steps in found] == expected == phases(config, expected[-1].subnetworks)
    assert len(turns) == 3 * len(expected)
    for steps in found:
        assert steps.batch_size == 16
        assert [len(turn) for turn in steps.timing.turns] == [1, 1]
        assert steps.timing.seconds.median > 0
        assert (steps.ledger.skipped > 0) == (steps.phase.frozen > 0)
        assert (steps.ledger.cached > 0) == steps.phase.cached
    if config.image_sizes:
        quarter, half, whole = (steps.ledger.forward for steps in found)
        assert quarter == pytest.approx(whole / 4, rel=0.01)
        assert quarter < half < whole


def test_each_stage_has_its_own_batch():
    config = Config("digits", arch="resnet8", limit=300, batch_size="auto", memory_limit="8MB").resolve()
    sizes = [steps.batch_size for steps in measure_steps(config, load_dataset("digits"), rounds=1, steps=1)]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) > 1


def test_steps_are_timed_on_the_threads_in_use():
    """Not on those that the run had where it was trained."""
    threads = use_threads(2)
    config = Config(dataset="digits", arch="resnet8", limit=40, threads=1).resolve()
    TimedRun(config, load_dataset("digits"))
    assert threads_in_use() == threads


def test_no_rate_keeps_a_run_from_being_timed():
    """One that would make it diverge at once, without the warm-up and the schedule that it has."""
    config = Config("digits", "resnet8", method="baseline", optimizer="sgd", lr=1e30, limit=200).resolve()
    timed = TimedRun(config, load_dataset("digits"))
    (phase,) = timed.phases
    assert len(timed.turn(phase, 3)) == 3
    assert timed.evaluate(phase.subnetworks)
