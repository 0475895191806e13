"""Learning curves of runs, from their ``metrics.jsonl``: against epochs, and against what training has cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["learning_curves", "read_events"]

# Okabe and Ito's colours, told apart by colour-blind readers; line styles tell them apart in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
STYLES = ("-", "--", "-.", ":")


def read_events(run: Path) -> list[dict[str, Any]]:
    """All events of a run folder, in order.

    Raises
    ------
    FileNotFoundError
        If the folder has no ``metrics.jsonl``.
    """
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def learning_curves(runs: Sequence[Path]) -> Figure:
    """Draw the validation accuracy of each run, named after its folder.

    Left against epochs, with insertions marked and look-ahead shaded; right against the training's multiply-adds.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    figure = Figure(figsize=(11, 4), layout="constrained")
    by_epoch, by_cost = figure.subplots(1, 2, sharey=True)
    for i, run in enumerate(runs):
        look = {"color": COLOURS[i % len(COLOURS)], "linestyle": STYLES[i % len(STYLES)], "label": run.name}
        _draw(by_epoch, by_cost, read_events(run), look)
    by_epoch.set(xlabel="epoch", ylabel="validation accuracy, %")
    by_cost.set(xlabel="cost of training")
    by_cost.xaxis.set_major_formatter(EngFormatter(unit="MAC"))
    by_epoch.legend()
    for axes in (by_epoch, by_cost):
        axes.grid(alpha=0.3)
    return figure


def _draw(by_epoch: Axes, by_cost: Axes, events: list[dict[str, Any]], look: dict[str, Any]) -> None:
    epochs = [event for event in events if event["event"] == "epoch"]
    accuracy = [100 * event["val_accuracy"] for event in epochs]
    by_epoch.plot([event["epoch"] for event in epochs], accuracy, **look)
    by_cost.plot([event["macs_training"] for event in epochs], accuracy, **look)
    for event in epochs:
        if event["phase"] == "lookahead":
            by_epoch.axvspan(event["epoch"] - 1, event["epoch"], color=look["color"], alpha=0.12, linewidth=0)
    for event in events:
        if event["event"] == "insert" and event["epoch"] > 0:
            by_epoch.axvline(event["epoch"], color=look["color"], linewidth=0.8, alpha=0.6)
            by_epoch.annotate(
                event["subnetwork"], (event["epoch"], 0.02), xycoords=("data", "axes fraction"), fontsize=8
            )
