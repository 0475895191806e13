"""The course of a run, without any training."""

from copy import deepcopy
from dataclasses import replace

import pytest

from incnet.growth.criterion import Periodic, Plateau, SlopeAngle, Window
from incnet.growth.schedule import Finish, Grow, Schedule, Unfreeze


def course(schedule, accuracies):
    """(phase, sub-networks in, names of the decisions) of every epoch until the schedule stops."""
    rows = []
    for accuracy in accuracies:
        phase, inserted = schedule.phase, schedule.inserted
        rows.append((phase, inserted, [type(d).__name__ for d in schedule.observe(accuracy)]))
        if schedule.finished:
            break
    return rows


def rising():
    """An accuracy that improves at a constant rate: the rule never fires."""
    accuracy = 0.0
    while True:
        accuracy += 0.005
        yield accuracy


def flat():
    """An accuracy without improvement: every complete window fires."""
    while True:
        yield 0.5


def test_rule_drives_growth_and_the_end():
    schedule = Schedule(subnetworks=3, budget=100, rule=SlopeAngle(window=2), lookahead=1)
    assert course(schedule, flat()) == [
        ("train", 1, []),
        ("train", 1, ["Window", "Grow"]),
        ("lookahead", 2, ["Unfreeze"]),
        ("train", 2, []),
        ("train", 2, ["Window", "Grow"]),
        ("lookahead", 3, ["Unfreeze"]),
        ("train", 3, []),
        ("train", 3, ["Window", "Finish"]),
    ]


def test_lookahead_epochs_do_not_enter_the_windows():
    schedule = Schedule(subnetworks=2, budget=100, rule=SlopeAngle(window=2), lookahead=2)
    curve = iter([0.5, 0.5, 0.1, 0.2, 0.3, 0.4])
    for _ in range(4):
        schedule.observe(next(curve))
    assert schedule.observe(next(curve)) == []
    (window,) = schedule.observe(next(curve))
    assert isinstance(window, Window)
    assert abs(window.slope - 10) < 1e-9


def test_random_initialisation_has_no_lookahead():
    schedule = Schedule(subnetworks=2, budget=100, rule=SlopeAngle(window=2), lookahead=0)
    assert {phase for phase, *_ in course(schedule, flat())} == {"train"}


def test_every_subnetwork_gets_its_share_of_a_budget_that_the_rule_would_use_up():
    schedule = Schedule(subnetworks=3, budget=12, rule=SlopeAngle(window=5), lookahead=1)
    rows = course(schedule, rising())
    assert [inserted for _, inserted, _ in rows] == [1] * 4 + [2] * 4 + [3] * 4
    assert rows[-1][2][-1] == "Finish"


def test_epochs_that_an_early_stage_did_not_need_are_shared_by_the_later_ones():
    schedule = Schedule(subnetworks=3, budget=12, rule=SlopeAngle(window=2), lookahead=1)
    schedule.observe(0.5)
    assert isinstance(schedule.observe(0.5)[-1], Grow)
    rows = course(schedule, rising())
    assert [inserted for _, inserted, _ in rows] == [2] * 5 + [3] * 5


def test_most_epochs_of_a_stage():
    schedule = Schedule(subnetworks=2, budget=10, rule=SlopeAngle(window=5), lookahead=1, max_stage_epochs=3)
    assert [inserted for _, inserted, _ in course(schedule, rising())] == [1] * 3 + [2] * 7


def test_the_last_stage_can_use_the_whole_budget():
    schedule = Schedule(subnetworks=2, budget=20, rule=SlopeAngle(window=2), lookahead=1, end="budget")
    rows = course(schedule, flat())
    assert len(rows) == 20
    assert [decisions for _, inserted, decisions in rows if inserted == 2] == [["Unfreeze"], *[[]] * 16, ["Finish"]]


def test_baseline_uses_its_budget():
    schedule = Schedule(subnetworks=3, budget=7, rule=SlopeAngle(window=2), lookahead=3, inserted=3, end="budget")
    rows = course(schedule, flat())
    assert [(phase, inserted) for phase, inserted, _ in rows] == [("train", 3)] * 7


def test_a_rule_that_fires_early_is_overruled():
    schedule = Schedule(subnetworks=2, budget=30, rule=SlopeAngle(window=2), lookahead=1, min_stage_epochs=5)
    rows = course(schedule, flat())
    assert [inserted for _, inserted, _ in rows] == [1] * 6 + [2] * 5
    assert [index for index, row in enumerate(rows) if "Window" in row[2]] == [1, 3, 5, 8, 10]


def test_being_overruled_is_logged():
    schedule = Schedule(subnetworks=2, budget=30, rule=Plateau(patience=1), min_stage_epochs=3)
    schedule.observe(0.5)
    (verdict,) = schedule.observe(0.5)
    assert not verdict.grow
    assert verdict.reason.endswith("than 50.00%, but the stage lasts at least 3 epochs")
    assert [type(decision).__name__ for decision in schedule.observe(0.5)] == ["Verdict", "Grow"]


def test_periodic_growth_counts_the_lookahead():
    schedule = Schedule(subnetworks=3, budget=14, rule=Periodic(4), lookahead=2, max_stage_epochs=14, end="budget")
    rows = course(schedule, flat())
    assert [inserted for _, inserted, _ in rows] == [1] * 4 + [2] * 4 + [3] * 6
    assert [decisions for *_, decisions in rows if decisions] == [
        ["Verdict", "Grow"],
        ["Unfreeze"],
        ["Verdict", "Grow"],
        ["Unfreeze"],
        ["Finish"],
    ]


def test_after_a_lookahead_longer_than_the_period_comes_an_epoch_of_training():
    schedule = Schedule(subnetworks=3, budget=14, rule=Periodic(2), lookahead=3, max_stage_epochs=14, end="budget")
    assert [inserted for _, inserted, _ in course(schedule, flat())] == [1] * 2 + [2] * 4 + [3] * 8


@pytest.mark.parametrize("most", [None, 2])
def test_a_share_that_is_no_longer_than_the_lookahead_gets_an_epoch_of_training(most):
    schedule = Schedule(subnetworks=3, budget=9, rule=SlopeAngle(window=5), lookahead=3, max_stage_epochs=most)
    phases = [(phase, inserted) for phase, inserted, _ in course(schedule, rising())]
    first = [("train", 1)] * (most or 3)
    second = [*[("lookahead", 2)] * 3, ("train", 2)]
    assert phases == (first + second + [*[("lookahead", 3)] * 3, ("train", 3)])[:9]


def test_least_epochs_go_before_an_equal_share():
    schedule = Schedule(subnetworks=3, budget=9, rule=SlopeAngle(window=5), lookahead=1, min_stage_epochs=5)
    assert [inserted for _, inserted, _ in course(schedule, rising())] == [1] * 5 + [2] * 4


def test_budget_ends_a_lookahead():
    schedule = Schedule(subnetworks=2, budget=4, rule=SlopeAngle(window=2), lookahead=2)
    rows = course(schedule, flat())
    assert len(rows) == 4
    assert rows[-1] == ("lookahead", 2, ["Unfreeze", "Finish"])


def test_reasons_say_what_happened():
    schedule = Schedule(subnetworks=2, budget=4, rule=SlopeAngle(window=5), lookahead=0)
    decisions = [decision for _ in range(4) for decision in schedule.observe(0.5)]
    assert decisions == [Grow("the stage has had its 2 epochs"), Finish("the budget of 4 epochs is used")]
    assert Unfreeze() == Unfreeze()


# State.


def schedule(**options):
    return Schedule(**{"subnetworks": 3, "budget": 30, "rule": SlopeAngle(window=3), "lookahead": 2, **options})


def test_restored_at_any_epoch_it_decides_the_same():
    curve = [0.1, 0.3, 0.5, 0.55, 0.56, 0.56, 0.2, 0.3, 0.5, 0.7, 0.75, 0.76, 0.76, 0.76, 0.3, 0.3, 0.8, 0.8, 0.8, 0.8]
    whole = schedule()
    for i, accuracy in enumerate(curve):
        restored = schedule()
        restored.restore(whole.state())
        assert course(restored, curve[i:]) == course(deepcopy(whole), curve[i:])
        whole.observe(accuracy)
        if whole.finished:
            break
    assert whole.inserted == 3


def test_a_larger_budget_is_for_the_stages_to_come():
    begun = schedule(budget=12)
    begun.observe(0.001)
    resumed = schedule(budget=24)
    resumed.restore(begun.state())
    assert resumed.stage_limit == 4
    rows = course(resumed, rising())
    assert [inserted for _, inserted, _ in rows] == [1] * 3 + [2] * 10 + [3] * 10


@pytest.mark.parametrize(
    "change",
    [
        {"inserted": 4},
        {"inserted": 0},
        {"epoch": 30},
        {"epoch": -1, "stage_epochs": -1},
        {"stage_epochs": 9},
        {"stage_limit": 0},
        {"phase": "lookahead"},
        {"rule": {"accuracies": [0.5, 0.5, 0.5], "previous": None}},
        {"rule": None},
    ],
)
def test_an_impossible_state_is_refused(change):
    begun = schedule()
    begun.observe(0.5)
    with pytest.raises(ValueError, match=r"\d|None"):
        schedule().restore(replace(begun.state(), **change))
