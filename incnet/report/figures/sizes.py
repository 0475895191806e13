"""Accuracy against parameters: the paper's Figure 4."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

from incnet.report.arms import Network
from incnet.report.stages import mean_stages, smallest_sufficient
from incnet.report.style import LIGHT, look, new_figure

__all__ = ["accuracy_by_parameters"]


def accuracy_by_parameters(network: Network) -> Figure:
    """Draw the best validation accuracy of each stage against the parameters of the network up to there.

    A ring points out the smallest sub-network within half a point of the arm's best.
    """
    figure = new_figure()
    axes = figure.subplots()
    growing = [arm for arm in network.arms if arm.grows]
    for i, arm in enumerate(network.arms):
        stages = [stage for stage in mean_stages(arm) if stage.accuracy]
        if not stages:
            continue
        ours, means = look(i, len(network.arms)), [stage.accuracy for stage in stages if stage.accuracy]
        x, y = [stage.params for stage in stages], [100 * accuracy.mean for accuracy in means]
        axes.errorbar(
            x,
            y,
            [100 * (accuracy.deviation or 0) for accuracy in means],
            color=ours.colour,
            linestyle=ours.line,
            marker=ours.marker or "o",
            capsize=2,
            label=arm.label,
        )
        if arm.grows:
            sufficient = smallest_sufficient(stages)
            at = (sufficient.params, 100 * sufficient.accuracy.mean) if sufficient.accuracy else (0, 0)
            axes.plot(*at, "o", markersize=13, markerfacecolor="none", markeredgecolor=LIGHT["ink"], markeredgewidth=1)
            if len(growing) == 1:
                text = f"{sufficient.name}, {sufficient.params:,} parameters"
                axes.annotate(text, at, (7, 11), textcoords="offset points", ha="right")
    axes.set(xlabel="parameters of the network up to the stage", ylabel="best validation accuracy, %", xscale="log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(EngFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(0.12, 0.2)
    if len(network.arms) > 1:
        axes.legend(loc="lower right")
    return figure
