"""Accuracy against epochs, with insertions and look-ahead below: the first row of the paper's Figure 3."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from incnet.report.arms import Network
from incnet.report.history import History
from incnet.report.style import LIGHT, Look, draw_curve, look, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["learning_curves"]

ROW = 0.13  # inches; of one run in the strip of stages, which shows so many at most, the first ones of each arm
MOST_ROWS = 12


def learning_curves(network: Network) -> Figure:
    """Draw the validation accuracy of each arm; below, for each run that grows, its stages one after the other."""
    growing = [
        (run, look(i, len(network.arms)))
        for i, arm in enumerate(network.arms)
        if arm.grows
        for run in arm.runs
        if run.stages
    ]
    rows = growing[:MOST_ROWS]
    height = ROW * max(2, len(rows)) if rows else 0.0
    figure = new_figure(3.3 + height)
    if rows:
        axes, strip = figure.subplots(2, sharex=True, gridspec_kw={"height_ratios": [3, height]})
        _draw_stages(strip, rows)
    else:
        axes = strip = figure.subplots()
    for i, arm in enumerate(network.arms):
        curve = arm.curve(lambda run: [epoch.epoch for epoch in run.epochs], lambda run: run.accuracy)
        if curve:
            draw_curve(axes, curve, look(i, len(network.arms)), arm.label)
    if len(growing) == 1:
        for stage in growing[0][0].stages[1:]:
            axes.axvline(stage.insert.epoch, color=LIGHT["muted"], linewidth=0.8, linestyle=":")
    axes.set_ylabel("validation accuracy, %")
    strip.set_xlabel("epochs")
    strip.set_xlim(left=0)
    if len(network.arms) > 1:
        axes.legend(loc="lower right")
    return figure


def _draw_stages(strip: Axes, rows: list[tuple[History, Look]]) -> None:
    """Draw a bar for each run: stages grow darker, look-ahead is hatched."""
    for row, (run, ours) in enumerate(rows):
        for k, stage in enumerate(run.stages):
            start, lookahead, whole = stage.insert.epoch, stage.lookahead, len(stage.epochs)
            shade = 0.2 + 0.55 * k / max(1, len(run.stages) - 1)
            strip.barh(row, whole, left=start, height=0.8, color=ours.colour, alpha=shade, linewidth=0)
            if lookahead:
                paper = LIGHT["paper"]
                strip.barh(row, lookahead, left=start, height=0.8, color=paper, alpha=0.55, linewidth=0)
                strip.barh(
                    row,
                    lookahead,
                    left=start,
                    height=0.8,
                    color="none",
                    edgecolor=ours.colour,
                    hatch="//////",
                    linewidth=0,
                )
            if len(rows) == 1 and whole:
                middle = start + lookahead + (whole - lookahead) / 2
                strip.text(middle, row, stage.insert.subnetwork, ha="center", va="center", fontsize=8)
    strip.set_ylim(len(rows) - 0.4, -0.6)
    strip.set_yticks([])
    strip.grid(False)
    strip.spines["left"].set_visible(False)
    strip.set_ylabel("stages", rotation=0, ha="right", va="center")
