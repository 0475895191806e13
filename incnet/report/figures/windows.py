"""The growth rule at work: the paper's Figure 2, from a real run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from incnet.growth.criterion import UNITS
from incnet.report.history import History, Window
from incnet.report.style import LIGHT, label_accuracies, label_epochs, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["window_fits"]

CLOSEST = 0.06  # part of the epochs between two windows of which both are labelled; those that end a stage always are


def window_fits(run: History) -> Figure:
    """Draw the learning curve of a run with the line that was fitted to each window, and its angle.

    Lines are dashed where the rule goes on, and solid where it ends the stage.
    """
    figure = new_figure()
    axes = figure.subplots()
    epochs = np.array([epoch.epoch for epoch in run.epochs])
    lookahead = np.array([epoch.phase == "lookahead" for epoch in run.epochs])
    axes.plot(epochs, run.accuracy, color=LIGHT["muted"], linewidth=0.8, zorder=1, label="an epoch")
    for kind, face in ((~lookahead, LIGHT["muted"]), (lookahead, LIGHT["paper"])):
        axes.scatter(epochs[kind], run.accuracy[kind], s=12, color=face, edgecolors=LIGHT["muted"], zorder=2)
    for stage in run.stages[1:]:
        axes.axvline(stage.insert.epoch, color=LIGHT["muted"], linewidth=0.8, linestyle=":")
    windows = [timed.event for timed in run.events if isinstance(timed.event, Window)]
    labelled = -run.epochs[-1].epoch
    for window in windows:
        apart = window.epoch - labelled >= CLOSEST * len(run.epochs)
        _draw_fit(axes, run, window, label=window.grow or apart)
        labelled = window.epoch if window.grow or apart else labelled
    label_epochs(axes)
    label_accuracies(axes, "validation accuracy, %")
    axes.margins(y=0.15)
    return figure


def _draw_fit(axes: Axes, run: History, window: Window, *, label: bool) -> None:
    """Draw the line of a window: through the middle of its points, with the slope that was found."""
    points = run.accuracy[max(0, window.epoch - run.setup.window) : window.epoch]
    if len(points) < run.setup.window:  # of a file that somebody has changed
        return
    half = (len(points) - 1) / 2
    middle, mean = window.epoch - half, points.mean()
    rise = window.slope / UNITS.get(run.setup.angle_unit, 1.0) * 100 * half
    colour = LIGHT["vermillion"] if window.grow else LIGHT["blue"]
    x, y = [middle - half, middle + half], [mean - rise, mean + rise]
    axes.plot(x, y, color=colour, linewidth=2.2, linestyle="-" if window.grow else (0, (3, 1)), zorder=3)
    axes.plot(x, [y[0], y[0]], color=colour, linewidth=0.8, linestyle=":", zorder=2)  # the angle's other leg
    if label:
        weight = "bold" if window.grow else "normal"
        axes.annotate(
            f"{round(window.angle)}°",
            (middle, max(y)),
            (0, 6),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            weight=weight,
            color=colour,
            bbox={"facecolor": LIGHT["paper"], "alpha": 0.7, "linewidth": 0, "pad": 0.5},
            zorder=4,
        )
