"""How far what was measured on some images, or in some runs, may be from what it is on all such images or runs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

__all__ = ["CONFIDENCE", "Interval", "accuracy_interval", "student", "t_quantile", "wilson"]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """From ``low`` to ``high``."""

    low: float
    high: float

    def overlaps(self, other: Interval) -> bool:
        """Whether some value is in both."""
        return self.low <= other.high and other.low <= self.high


def wilson(accuracy: float, images: int) -> Interval:
    """Return Wilson's score interval of 95 % for a share ``accuracy`` of ``images`` images, at least one.

    With z the normal quantile, p the share and n the number::

        (p + z^2 / 2n  +-  z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)

    Source: E. B. Wilson (1927), Probable inference, the law of succession, and statistical inference.
    """
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    middle = accuracy + z * z / (2 * images)
    half = z * math.sqrt(accuracy * (1 - accuracy) / images + z * z / (4 * images * images))
    scale = 1 + z * z / images
    low, high = (middle - half) / scale, (middle + half) / scale
    return Interval(low if accuracy > 0 else 0.0, high if accuracy < 1 else 1.0)  # which rounding would miss


def student(values: Sequence[float]) -> Interval | None:
    """Return Student's interval of 95 % for the mean of what some runs have measured; None for fewer than two.

    With m the mean, s the sample's standard deviation of n values and t the quantile for n - 1 degrees of freedom::

        m  +-  t s / sqrt(n)

    Source: "Student" (1908), The probable error of a mean.
    """
    if len(values) < 2:
        return None
    mean, deviation = statistics.fmean(values), statistics.stdev(values)
    half = t_quantile(len(values) - 1) * deviation / math.sqrt(len(values))
    return Interval(mean - half, mean + half)


def accuracy_interval(accuracies: Sequence[float]) -> Interval | None:
    """Return :func:`student` for fractions, of which none is below 0 or above 1: nor are the interval's ends."""
    found = student(accuracies)
    return found and Interval(max(0.0, found.low), min(1.0, found.high))


def t_quantile(freedom: int) -> float:
    """Return t such that a value of Student's distribution lies between -t and t in 95 % of all cases.

    The angle with tan(angle) = t / sqrt(freedom) is found by bisection, to the last digits.
    """
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < CONFIDENCE else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


def _within(angle: float, freedom: int) -> float:
    """Return the probability of values between -t and t for whole degrees of freedom.

    Source: Abramowitz and Stegun (1964), 26.7.3 and 26.7.4.
    """
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    series = term if freedom > 1 else 0.0
    for k in range(2 + odd, freedom - 1, 2):
        term *= (k - 1) / k * cosine**2
        series += term
    return 2 / math.pi * (angle + sine * series) if odd else sine * series
