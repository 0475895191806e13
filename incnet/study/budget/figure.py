"""Accuracy against cost, as a figure: the budget curve of every arm."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullFormatter, NullLocator

from incnet.report.interval import accuracy_interval
from incnet.report.style import add_legend, label_accuracies, look, new_figure, save, style
from incnet.study.budget.curves import Cost, Curve
from incnet.units import FLOPS_PER_MAC

__all__ = ["draw", "write"]

LABELS: dict[Cost, str] = {"macs": "training, FLOP", "seconds": "training, s"}


def write(curves: Sequence[Curve], accuracy: str, stem: Path) -> list[Path]:
    """Write the figures as ``stem-flops`` and, where all arms have them, ``stem-seconds``; return their paths."""
    written = save(draw(curves, accuracy, "macs"), stem.with_name(f"{stem.name}-flops"))
    if all(curve.timed for curve in curves):
        written += save(draw(curves, accuracy, "seconds"), stem.with_name(f"{stem.name}-seconds"))
    return written


def draw(curves: Sequence[Curve], accuracy: str, cost: Cost) -> Figure:
    """Draw the mean accuracy of each arm's budgets against their mean cost, with Student's intervals."""
    unit = FLOPS_PER_MAC if cost == "macs" else 1
    with style():
        figure = new_figure()
        axes = figure.subplots()
        for number, curve in enumerate(curves):
            looks = look(number, len(curves))
            spent, means, below, above = [], [], [], []
            for points in (curve.at(epochs) for epochs in curve.budgets):
                accuracies = [point.accuracy for point in points]
                interval, mean = accuracy_interval(accuracies), statistics.fmean(accuracies)
                spent.append(unit * statistics.fmean(getattr(point, cost) for point in points))
                means.append(100 * mean)
                below.append(100 * (mean - interval.low) if interval else 0.0)
                above.append(100 * (interval.high - mean) if interval else 0.0)
            axes.errorbar(
                spent,
                means,
                (below, above),
                color=looks.colour,
                linestyle=looks.line,
                marker=looks.marker or "o",
                capsize=2,
                label=curve.name,
            )
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        ticks = [tick for power in range(-3, 22) for tick in (10.0**power, 2 * 10.0**power, 5 * 10.0**power)]
        axes.set_xticks([tick for tick in ticks if low <= tick <= high])
        axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(LABELS[cost])
        label_accuracies(axes, f"{accuracy} accuracy, %")
        add_legend(figure, axes)
    return figure
