"""Accuracy against parameters: the paper's Figure 4."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

from incnet.report.arms import Network
from incnet.report.stages import mean_stages
from incnet.report.style import add_legend, label_accuracies, look, new_figure

__all__ = ["accuracy_by_parameters", "stages_tested"]


def stages_tested(network: Network) -> bool:
    """Whether every stage of every arm was tested, on a known number of images."""
    stages = [stage for arm in network.arms for stage in mean_stages(arm)]
    return bool(stages) and all(stage.test and stage.interval for stage in stages)


def accuracy_by_parameters(network: Network) -> Figure:
    """Draw the accuracy of each stage against the parameters of the network up to there.

    It is the test accuracy with its interval, or, where not all stages were tested, the best validation accuracy with
    the deviation over seeds.
    """
    figure = new_figure()
    axes = figure.subplots()
    tested, growing = stages_tested(network), [arm for arm in network.arms if arm.grows]
    for i, arm in enumerate(network.arms):
        found = [(stage, stage.test if tested else stage.accuracy, stage.interval) for stage in mean_stages(arm)]
        stages = [(stage, accuracy, interval) for stage, accuracy, interval in found if accuracy]
        if not stages:
            continue
        ours = look(i, len(network.arms))
        x = [stage.params for stage, _, _ in stages]
        y = [100 * accuracy.mean for _, accuracy, _ in stages]
        if tested:
            reach = [[(a.mean - j.low) * 100, (j.high - a.mean) * 100] for _, a, j in stages if j]
        else:
            reach = [[100 * (accuracy.deviation or 0)] * 2 for _, accuracy, _ in stages]
        axes.errorbar(x, y, list(zip(*reach, strict=True)), fmt="none", color=ours.colour, elinewidth=1, capsize=2)
        axes.plot(x, y, color=ours.colour, linestyle=ours.line, marker=ours.marker or "o", label=arm.label)
        if len(growing) == 1 and arm.grows:
            for (stage, _, _), at, mean, (down, _) in zip(stages, x, y, reach, strict=True):
                foot = (at, mean - down)
                axes.annotate(
                    stage.subnetworks[-1], foot, (0, -6), textcoords="offset points", ha="center", va="top", fontsize=8
                )
    axes.set(xlabel="parameters", xscale="log")
    label_accuracies(axes, "test accuracy, %" if tested else "best validation accuracy, %")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(EngFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(0.12, 0.2)
    add_legend(figure, axes)
    return figure
