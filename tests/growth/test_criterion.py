"""The slope-angle rule."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from incnet.growth.criterion import SlopeAngle, slope


def feed(rule, accuracies):
    """All windows that a sequence of accuracies completes."""
    return [window for accuracy in accuracies if (window := rule.observe(accuracy))]


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


def test_least_epochs_hold_the_rule_back():
    windows = feed(SlopeAngle(window=2, gamma=0.5, least=5), [0.1, 0.5, 0.5, 0.5, 0.5, 0.5])
    assert [w.grow for w in windows] == [False, False, True]
    assert "at least 5 epochs" in windows[1].reason


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 1}, "window 1"),
        ({"gamma": 0}, "gamma 0"),
        ({"gamma": 1.5}, "gamma 1.5"),
        ({"unit": "permille"}, "permille"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(ValueError, match=message):
        SlopeAngle(**options)
