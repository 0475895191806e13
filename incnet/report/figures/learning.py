"""Accuracy against epochs, with insertions and look-ahead below: the first row of the paper's Figure 3."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from incnet.report.arms import Arm, MeanCurve, Network
from incnet.report.history import History
from incnet.report.style import LIGHT, Look, add_legend, draw_curve, label_accuracies, label_epochs, look, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["learning_curves", "loss_curves", "shown_stages"]

ROW = 0.13  # inches; of one run in the strip of stages, which shows so many at most
MOST_ROWS = 24
NARROWEST = 0.05  # part of the epochs that a stage has to train for, so that its name has room
MOST_PAIRS = 4  # arms, up to which the loss of training is drawn beside that of validation


def shown_stages(network: Network) -> tuple[list[tuple[History, Look]], int]:
    """Return the runs whose stages are drawn, and of how many: all of them, or the first of each arm."""
    growing = [
        [(run, look(i, len(network.arms))) for run in arm.counted if run.stages]
        for i, arm in enumerate(network.arms)
        if arm.grows
    ]
    everything = [row for rows in growing for row in rows]
    shown = everything if len(everything) <= MOST_ROWS else [rows[0] for rows in growing if rows][:MOST_ROWS]
    return shown, len(everything)


def learning_curves(network: Network) -> Figure:
    """Draw the validation accuracy of each arm; below, for each run that grows, its stages one after the other."""
    rows, _ = shown_stages(network)
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
    if len(rows) == 1:
        mark_insertions(axes, rows[0][0])
    label_accuracies(axes, "validation accuracy, %")
    label_epochs(strip)
    add_legend(figure, axes)
    return figure


def loss_curves(network: Network) -> Figure:
    """Draw the loss on the validation images of each arm, and that on the training images thinner."""
    figure = new_figure()
    axes = figure.subplots()
    alone, pairs = len(network.arms) == 1, len(network.arms) <= MOST_PAIRS
    for i, arm in enumerate(network.arms):
        ours, of = look(i, len(network.arms)), "" if alone else f"{arm.label}, "
        if validation := _losses(arm, "val_loss"):
            draw_curve(axes, validation, ours, f"{of}validation" if pairs else arm.label)
        if training := _losses(arm, "train_loss") if pairs else None:
            colour, label = LIGHT["vermillion"] if alone else ours.colour, f"{of}training"
            draw_curve(
                axes, training, replace(ours, colour=colour, line=(0, (3, 1.5)), marker=""), label, linewidth=1.2
            )
    growing = [run for arm in network.arms if arm.grows for run in arm.counted]
    if len(growing) == 1:
        mark_insertions(axes, growing[0])
    label_epochs(axes)
    axes.set(ylabel="loss", yscale="log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
    add_legend(figure, axes)
    return figure


def _losses(arm: Arm, name: str) -> MeanCurve | None:
    """Return the mean of the runs that logged the loss, all of it positive, so that it has a logarithm."""
    if not all((getattr(epoch, name) or 0) > 0 for run in arm.counted for epoch in run.epochs):
        return None
    return arm.curve(
        lambda run: [epoch.epoch for epoch in run.epochs], lambda run: [getattr(e, name) for e in run.epochs]
    )


def mark_insertions(axes: Axes, run: History) -> None:
    """Draw a line where each sub-network was inserted."""
    for stage in run.stages[1:]:
        axes.axvline(stage.insert.epoch, color=LIGHT["muted"], linewidth=0.8, linestyle=":")


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
            if len(rows) == 1 and whole - lookahead > NARROWEST * len(run.epochs):
                middle = start + lookahead + (whole - lookahead) / 2
                strip.text(middle, row, stage.insert.subnetwork, ha="center", va="center", fontsize=8)
    strip.set_ylim(len(rows) - 0.4, -0.6)
    strip.set_yticks([])
    strip.grid(False)
    strip.spines["left"].set_visible(False)
    strip.set_ylabel("stages", rotation=0, ha="right", va="center")
