"""The growth rules, by themselves."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from incnet.growth.criterion import Periodic, Plateau, SlopeAngle, slope


def feed(rule, accuracies, first=1):
    """All that a rule decides on a sequence of accuracies, from epoch ``first`` of a stage on."""
    verdicts = (rule.observe(accuracy, epoch) for epoch, accuracy in enumerate(accuracies, first))
    return [verdict for verdict in verdicts if verdict]


def line(start, slope, count):
    """Accuracies that rise by ``slope`` percent points an epoch."""
    return [start + slope / 100 * i for i in range(count)]


@given(st.lists(st.floats(0, 100), min_size=2, max_size=20))
def test_slope_is_the_least_squares_line(values):
    expected = np.polynomial.Polynomial.fit(np.arange(len(values)), values, 1).convert().coef
    assert slope(values) == pytest.approx(expected[1] if len(expected) > 1 else 0, abs=1e-9)


def test_angle_is_that_of_percent_against_epochs():
    (window,) = feed(SlopeAngle(window=5), line(0.5, 1.0, 5))
    assert window.slope == pytest.approx(1)
    assert window.angle == pytest.approx(45)


def test_angle_depends_on_the_unit():
    (window,) = feed(SlopeAngle(window=5, unit="fraction"), line(0.5, 1.0, 5))
    assert window.angle == pytest.approx(math.degrees(math.atan(0.01)))


def test_first_window_never_fires_while_there_is_improvement():
    (window,) = feed(SlopeAngle(window=3, gamma=1), line(0.1, 0.01, 3))
    assert not window.grow
    assert window.ratio is None
    assert "first window" in window.reason


@pytest.mark.parametrize(("second", "grow"), [(0.9, False), (0.42, False), (0.40, True), (0.05, True)])
def test_fires_at_gamma_times_the_previous_angle(second, grow):
    # atan(1) = 45 degrees; half of it is atan(0.4142).
    windows = feed(SlopeAngle(window=4, gamma=0.5), line(0.3, 1.0, 4) + line(0.4, second, 4))
    assert [w.grow for w in windows] == [False, grow]
    assert windows[1].ratio == pytest.approx(math.degrees(math.atan(second)) / 45)
    assert "gamma" in windows[1].reason


@pytest.mark.parametrize("second", [0.0, -0.5])
def test_no_improvement_always_fires(second):
    windows = feed(SlopeAngle(window=4, gamma=0.01), line(0.3, 1.0, 4) + line(0.4, second, 4))
    assert windows[1].grow
    assert "no improvement" in windows[1].reason


def test_a_window_after_one_that_was_overruled_says_what_came_before():
    windows = feed(SlopeAngle(window=2), [0.6, 0.5, 0.5, 0.6])
    assert [w.grow for w in windows] == [True, False]
    assert windows[1].reason == "angle 84.3 deg after -84.3 deg"


def test_a_flat_first_window_fires():
    (window,) = feed(SlopeAngle(window=2), [0.5, 0.5])
    assert window.grow


def test_a_stage_starts_afresh():
    rule = SlopeAngle(window=2, gamma=0.5)
    feed(rule, [0.1, 0.5, 0.6])
    rule.restart()
    (window,) = feed(rule, [0.60, 0.601])
    assert window.ratio is None
    assert not window.grow


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 1}, "window 1"),
        ({"gamma": 0}, "gamma 0"),
        ({"gamma": 1.5}, "gamma 1.5"),
        ({"unit": "permille"}, "permille"),
    ],
)
def test_impossible_options_of_the_slope_angle(options, message):
    with pytest.raises(ValueError, match=message):
        SlopeAngle(**options)


# Periodic growth.


def test_periodic_growth_counts_the_epochs_of_the_stage():
    assert [rule.observe(0.5, epoch).grow for rule in [Periodic(3)] for epoch in (3, 4)] == [True, True]
    assert feed(Periodic(3), [0.1, 0.9]) == []
    (verdict,) = feed(Periodic(3), [0.1, 0.9, 0.2])
    assert verdict.reason == "epoch 3 of the stage, period 3"


def test_periodic_growth_counts_what_it_was_not_shown():
    assert len(feed(Periodic(5), [0.1, 0.2], first=4)) == 1


# The plateau.


def test_a_plateau_is_some_epochs_without_a_new_best():
    curve = [0.1, 0.5, 0.4, 0.5, 0.6, 0.55, 0.6, 0.3]
    assert [len(feed(Plateau(patience=3, min_delta=0), curve[:n])) for n in range(len(curve) + 1)] == [0] * 8 + [1]
    (verdict,) = feed(Plateau(patience=3, min_delta=0), curve)
    assert verdict.grow
    assert verdict.reason == "3 epochs without a better accuracy than 60.00%"


def test_what_is_hardly_better_is_no_new_best():
    creeping = [0.5 + 0.001 * i for i in range(8)]
    assert feed(Plateau(patience=3, min_delta=0.0005), creeping) == []
    # Better by 0.002 than the last best only every other epoch, and by more than 0.0035 every fourth.
    assert feed(Plateau(patience=3, min_delta=0.0015), creeping) == []
    assert feed(Plateau(patience=3, min_delta=0.0035), creeping)


def test_a_plateau_that_was_overruled_goes_on():
    assert len(feed(Plateau(patience=2), [0.5, 0.5, 0.5, 0.5])) == 2


def test_a_new_stage_may_be_worse_than_the_old_one():
    rule = Plateau(patience=2)
    feed(rule, [0.9, 0.9])
    rule.restart()
    assert feed(rule, [0.2, 0.3, 0.4, 0.4]) == []


@pytest.mark.parametrize(
    ("rule", "options", "message"),
    [
        (Periodic, {"period": 0}, "period 0"),
        (Plateau, {"patience": 0}, "patience 0"),
        (Plateau, {"min_delta": -0.1}, "min_delta -0.1"),
        (Plateau, {"min_delta": 1}, "min_delta 1"),
    ],
)
def test_impossible_options(rule, options, message):
    with pytest.raises(ValueError, match=message):
        rule(**options)


# State.

CURVE = [0.1, 0.3, 0.5, 0.55, 0.56, 0.56, 0.57, 0.56, 0.57, 0.57, 0.571, 0.57]
RULES = {
    "slope angle": lambda: SlopeAngle(window=3),
    "periodic": lambda: Periodic(7),
    "plateau": lambda: Plateau(patience=3),
}


@pytest.mark.parametrize("make", RULES.values(), ids=RULES)
def test_restored_at_any_epoch_a_rule_decides_the_same(make):
    decided = feed(make(), CURVE)
    assert any(verdict.grow for verdict in decided)
    for epoch in range(len(CURVE)):
        before, after = make(), make()
        first = feed(before, CURVE[:epoch])
        after.restore(json.loads(json.dumps(before.state())))
        assert first + feed(after, CURVE[epoch:], first=epoch + 1) == decided


@pytest.mark.parametrize(
    ("name", "state", "message"),
    [
        ("slope angle", None, "expected an object"),
        ("slope angle", {"accuracies": [0.5, 0.5, 0.5], "previous": None}, "3 accuracies in an unfinished window of 3"),
        ("slope angle", {"accuracies": ["0.5"], "previous": None}, "expected float"),
        ("slope angle", {"best": None, "waited": 0}, "'best', which is unknown"),
        ("periodic", {"accuracies": [], "previous": None}, "expected null: Periodic remembers nothing"),
        ("plateau", {"best": None, "waited": 1}, "1 epochs since the best accuracy, None"),
        ("plateau", {"best": 0.5, "waited": -1}, "-1 epochs"),
        ("plateau", {"best": 0.5, "waited": 1.5}, "expected int"),
    ],
)
def test_an_impossible_state_is_refused(name, state, message):
    with pytest.raises(ValueError, match=message):
        RULES[name]().restore(state)
