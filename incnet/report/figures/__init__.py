"""Figures, one function each; all return a matplotlib figure in the style of :mod:`incnet.report.style`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from matplotlib.figure import Figure

from incnet.report.arms import Network
from incnet.report.figures.cost import accuracy_by_flops, accuracy_by_seconds, inference_cost
from incnet.report.figures.learning import MOST_PAIRS, learning_curves, loss_curves, shown_stages
from incnet.report.figures.sizes import accuracy_by_parameters, stages_tested
from incnet.report.figures.windows import window_fits
from incnet.report.history import History, Window
from incnet.report.style import style

__all__ = ["WINDOWS", "Drawing", "draw"]

WINDOWS = "windows-"  # what the names of the figures of growth rules begin with, one for each arm


@dataclass(frozen=True)
class Drawing:
    """A figure with what a reader needs beside it.

    Attributes
    ----------
    name : str
        For file names and ids: lower-case letters and hyphens.
    title, caption : str
        In words.
    """

    name: str
    title: str
    caption: str
    figure: Figure


def draw(network: Network) -> Iterator[Drawing]:
    """Draw all figures of a network for which its runs have data."""
    if not any(run.epochs for run in network.runs):
        return
    several = any(len(arm.counted) > 1 for arm in network.arms)
    band = " Lines are means over seeds, bands one standard deviation." if several else ""
    grows = any(arm.grows for arm in network.arms)
    with style():
        yield Drawing(
            "learning-curves",
            "Accuracy over epochs",
            "Validation accuracy." + band + _stages_below(network),
            learning_curves(network),
        )
        if any(epoch.val_loss for run in network.runs for epoch in run.epochs):
            yield Drawing("loss", "Loss over epochs", _loss_caption(network) + band, loss_curves(network))
        yield Drawing(
            "inference-cost",
            "Inference cost over epochs",
            "Multiply-adds for one image of the network in use." + band,
            inference_cost(network),
        )
        yield Drawing(
            "training-flops",
            "Accuracy against training cost",
            "Operations of all training steps: forward, weight and input gradient, as far as each was computed.",
            accuracy_by_flops(network),
        )
        yield Drawing(
            "training-seconds",
            "Accuracy against measured time",
            "Measured, not inferred from operations.",
            accuracy_by_seconds(network),
        )
        if grows:
            yield Drawing(
                "accuracy-parameters",
                "Accuracy against size",
                SIZES_TESTED if stages_tested(network) else "Best validation accuracy of each stage." + band,
                accuracy_by_parameters(network),
            )
        for arm in network.arms:
            watched = next((run for run in arm.counted if _has_windows(run)), None)
            if arm.grows and watched:
                yield Drawing(
                    WINDOWS + "".join(c if c.isascii() and c.isalnum() else "-" for c in arm.label),
                    f"When to grow: {arm.label}, seed {watched.setup.seed}",
                    WINDOWS_CAPTION,
                    window_fits(watched),
                )


WINDOWS_CAPTION = (
    "The line fitted to each window, and its angle where one epoch is drawn as long as one unit of accuracy. Solid "
    "where the rule fired. Hollow points are look-ahead, which the rule does not see."
)


SIZES_TESTED = "Test accuracy of each stage, with its 95 % Wilson interval for the number of test images."


def _stages_below(network: Network) -> str:
    shown, growing = shown_stages(network)
    order = "its stages" if growing == 1 else "the stages of each run, in the order of the legend"
    left_out = f", of {len(shown)} of the {growing} runs that grow" if len(shown) < growing else ""
    return f" Below, {order}{left_out}: look-ahead is hatched." if growing else ""


def _loss_caption(network: Network) -> str:
    text = "Mean cross-entropy, in training (with augmentation, while weights change) and on the validation images."
    if len(network.arms) > MOST_PAIRS:
        text = (
            f"Mean cross-entropy on the validation images; training is left out where there are over {MOST_PAIRS} arms."
        )
    return text


def _has_windows(run: History) -> bool:
    return any(isinstance(timed.event, Window) for timed in run.events)
