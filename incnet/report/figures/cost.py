"""What training and inference cost: the second and third row of the paper's Figure 3."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from incnet.report.arms import Network
from incnet.report.history import History
from incnet.report.style import add_legend, draw_curve, label_accuracies, label_epochs, look, new_figure
from incnet.units import FLOPS_PER_MAC

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["accuracy_by_flops", "accuracy_by_seconds", "inference_cost"]


def inference_cost(network: Network) -> Figure:
    """Draw the multiply-adds for one image of the network that is in use, over the epochs."""
    figure = new_figure()
    axes = figure.subplots()
    _draw(
        figure,
        axes,
        network,
        _epochs,
        lambda run: [epoch.macs_inference for epoch in run.epochs],
        drawstyle="steps-pre",
    )
    label_epochs(axes)
    axes.set(ylabel="inference, MACs per image", ylim=(0, None))
    axes.yaxis.set_major_formatter(EngFormatter())
    return figure


def accuracy_by_flops(network: Network) -> Figure:
    """Draw validation accuracy against the operations of all training steps so far."""
    figure = new_figure()
    axes = figure.subplots()
    _draw(figure, axes, network, _training_flops, _accuracy)
    axes.set(xlabel="training so far, FLOP", xlim=(0, None))
    label_accuracies(axes, "validation accuracy, %")
    axes.xaxis.set_major_formatter(EngFormatter())
    return figure


def accuracy_by_seconds(network: Network) -> Figure:
    """Draw validation accuracy against measured time: in training steps, or of all where a run did not log those."""
    figure = new_figure()
    axes = figure.subplots()
    _draw(figure, axes, network, network.seconds, _accuracy)
    label = "time in training steps so far, s" if network.steps_timed else "time so far, s"
    axes.set(xlabel=label, xlim=(0, None))
    label_accuracies(axes, "validation accuracy, %")
    return figure


def _epochs(run: History) -> list[int]:
    return [epoch.epoch for epoch in run.epochs]


def _accuracy(run: History) -> Any:
    return run.accuracy


def _training_flops(run: History) -> list[int]:
    return [FLOPS_PER_MAC * epoch.macs_training for epoch in run.epochs]


def _draw(
    figure: Figure,
    axes: Axes,
    network: Network,
    x: Callable[[History], Any],
    y: Callable[[History], Any],
    **options: Any,
) -> None:
    for i, arm in enumerate(network.arms):
        if curve := arm.curve(x, y):
            draw_curve(axes, curve, look(i, len(network.arms)), arm.label, **options)
    add_legend(figure, axes)
