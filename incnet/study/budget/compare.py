"""Two arms compared: the difference in accuracy at equal cost, and the ratio of costs at equal accuracy.

Seeds are paired: what two runs of one seed have in common (weights at the start, split, order) is in both. Between two
budgets accuracy is taken to be linear in the logarithm of the cost. Beyond the shortest and the longest budget nothing
is known, and nothing is said.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from incnet.report.interval import CONFIDENCE, Interval, student
from incnet.study.budget.curves import Cost, Curve

__all__ = ["Comparison", "accuracy_at", "compare", "cost_at"]

RESAMPLES = 2000
# Seeds from which a bootstrap says something: resamples of two are the two and their mean.
FEWEST = 3
# Rounding, of a cost that is that of a budget.
NEAR = 1e-9

Line = Sequence[tuple[float, float]]  # cost and accuracy, budget by budget, costs rising


@dataclass(frozen=True)
class Comparison:
    """An arm at one budget, against another arm's curve.

    Attributes
    ----------
    seeds : tuple of int
        That both arms have; the means are over them.
    difference : float or None
        Accuracy, a fraction, less that of the other arm at the same cost; None where its curve does not reach there.
    difference_interval : Interval or None
        Student's, of the seeds' differences; None for one seed.
    ratio : float or None
        Cost over that for which the other arm has the same accuracy.
    ratio_below : float or None
        Where the other arm has that accuracy for none of its budgets: cost over that of its longest.
    ratio_interval : Interval or None
        From resampled seeds. None for fewer than three, and where more than one resample in forty has no such cost.
    """

    seeds: tuple[int, ...]
    difference: float | None = None
    difference_interval: Interval | None = None
    ratio: float | None = None
    ratio_below: float | None = None
    ratio_interval: Interval | None = None


def compare(curve: Curve, other: Curve, epochs: int, cost: Cost) -> Comparison:
    """Compare an arm's runs of so many epochs with the curve of another arm, by one of the costs."""
    seeds = tuple(seed for seed in curve.seeds if epochs in curve.points[seed] and seed in other.points)
    if not seeds:
        return Comparison(seeds)
    difference, difference_interval = _difference(curve, other, epochs, cost, seeds)
    ratio, ratio_interval = _ratio(curve, other, epochs, cost, seeds)
    spent, accuracy = _mean_point(curve, epochs, cost, seeds)
    line = _mean_line(other, cost, seeds)
    above = bool(line) and accuracy > max(theirs for _, theirs in line) + NEAR
    return Comparison(
        seeds, difference, difference_interval, ratio, spent / line[-1][0] if above else None, ratio_interval
    )


def _difference(
    curve: Curve, other: Curve, epochs: int, cost: Cost, seeds: Sequence[int]
) -> tuple[float | None, Interval | None]:
    differences = []
    for seed in seeds:
        spent, accuracy = _mean_point(curve, epochs, cost, [seed])
        theirs = accuracy_at(_mean_line(other, cost, [seed]), spent)
        if theirs is None:
            return None, None
        differences.append(accuracy - theirs)
    return statistics.fmean(differences), student(differences)


def _ratio(
    curve: Curve, other: Curve, epochs: int, cost: Cost, seeds: Sequence[int]
) -> tuple[float | None, Interval | None]:
    def ratio(chosen: Sequence[int]) -> float | None:
        spent, accuracy = _mean_point(curve, epochs, cost, chosen)
        theirs = cost_at(_mean_line(other, cost, chosen), accuracy)
        return None if theirs is None else spent / theirs

    found = ratio(seeds)
    if found is None or len(seeds) < FEWEST:
        return found, None
    drawn = np.random.default_rng(0).choice(seeds, (RESAMPLES, len(seeds)))
    known = {chosen: ratio(chosen) for chosen in {tuple(sorted(sample)) for sample in drawn.tolist()}}
    resampled = [known[tuple(sorted(sample))] for sample in drawn.tolist()]
    values = [value for value in resampled if value is not None]
    outside = (1 - CONFIDENCE) / 2
    if len(values) < (1 - outside) * RESAMPLES:
        return found, None
    low, high = np.quantile(values, (outside, 1 - outside))
    return found, Interval(float(low), float(high))


def _mean_point(curve: Curve, epochs: int, cost: Cost, seeds: Sequence[int]) -> tuple[float, float]:
    points = [curve.points[seed][epochs] for seed in seeds]
    return statistics.fmean(getattr(point, cost) for point in points), statistics.fmean(p.accuracy for p in points)


def _mean_line(curve: Curve, cost: Cost, seeds: Sequence[int]) -> Line:
    """Return the mean over some seeds of what all of them have."""
    budgets = set.intersection(*(set(curve.points[seed]) for seed in seeds))
    return sorted(_mean_point(curve, epochs, cost, seeds) for epochs in budgets)


def accuracy_at(line: Line, cost: float) -> float | None:
    """Return the accuracy for a cost, between those of a line; None outside of it."""
    costs = [each for each, _ in line]
    if not line or not costs[0] * (1 - NEAR) <= cost <= costs[-1] * (1 + NEAR):
        return None
    return float(np.interp(math.log(cost), np.log(costs), [accuracy for _, accuracy in line]))


def cost_at(line: Line, accuracy: float) -> float | None:
    """Return the least cost for which a line reaches an accuracy; None if it begins above it, or ends below."""
    if line and abs(line[0][1] - accuracy) <= NEAR:
        return line[0][0]
    for (before, low), (after, high) in pairwise(line):
        if low < accuracy <= high + NEAR:
            share = min(1.0, (accuracy - low) / (high - low))
            return math.exp(math.log(before) + share * (math.log(after) - math.log(before)))
    return None
