"""Student's interval, against what is known of it."""

import math
import statistics

import pytest

from incnet.report.interval import Interval, accuracy_interval, student, t_quantile


@pytest.mark.parametrize(
    ("freedom", "expected"),
    # Printed in every textbook; beyond all of them, the normal distribution's.
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (5, 2.5706), (9, 2.2622), (30, 2.0423), (10_001, 1.9602)],
)
def test_the_quantile(freedom, expected):
    assert t_quantile(freedom) == pytest.approx(expected, abs=6e-5)


def test_the_interval():
    assert student([0.3]) is None
    values = [0.1, 0.2, 0.6]
    half = 4.3027 * statistics.stdev(values) / math.sqrt(3)
    assert student(values) == Interval(pytest.approx(0.3 - half, rel=1e-4), pytest.approx(0.3 + half, rel=1e-4))
    same = student([0.4, 0.4, 0.4])
    assert (same.low, same.high) == (pytest.approx(0.4), pytest.approx(0.4))


def test_no_accuracy_is_above_one():
    assert student([0.9, 1.0]).high > 1
    assert accuracy_interval([0.9, 1.0]) == Interval(student([0.9, 1.0]).low, 1.0)
    assert accuracy_interval([0.0, 0.1]).low == 0
    assert accuracy_interval([0.5]) is None
