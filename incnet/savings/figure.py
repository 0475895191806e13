"""What freezing saves, as a figure: time and memory at every boundary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from incnet.names import up_to
from incnet.report.style import LIGHT, style
from incnet.savings.boundaries import Measured
from incnet.timing.turns import Quartiles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw"]

# Boundaries that each have a label of their own; of more, every second, third, ... one has.
MOST_LABELS = 9


def draw(title: str, subnetworks: Sequence[str], rows: Sequence[Measured]) -> Figure:
    """Draw time, predicted and measured, and memory of a step at every boundary, as shares of those of the whole step.

    Error bars reach from the lower to the upper quartile of the measured ratio. Memory that is not known is left out.
    """
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(7.6, 3.6), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left")
        known = rows[0].expected.memory is not None
        widths = (1.4, 1) if known else (1,)
        time, *memory = figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0]
        for cached, colour, label in (
            (False, "blue", "measured"),
            (True, "vermillion", "with cached features"),
        ):
            some = [row for row in rows if row.setting.cached == cached]
            frozen = [row.setting.frozen for row in some]
            time.plot(frozen, [row.expected.ratio for row in some], ":", color=LIGHT[colour])
            _draw_measured(time, frozen, [row.ratio for row in some], LIGHT[colour], label)
            for axes in memory:
                axes.plot(frozen, [(row.expected.memory or 0) / 1e6 for row in some], "o-", color=LIGHT[colour])
                axes.set_ylabel("memory, MB")
        last = rows[-1].setting.frozen
        for axes in (time, *memory):
            axes.set_xlabel("frozen sub-networks")
            shown = range(0, last + 1, -(-(last + 1) // MOST_LABELS))
            axes.set_xticks(shown, ["none", *(up_to(subnetworks[:frozen]) for frozen in shown[1:])])
            axes.set_ylim(0, 1.06 * axes.dataLim.y1)
        time.set_ylabel("time of a step, nothing frozen = 1")
        time.plot([], [], ":", color=LIGHT["muted"], label="predicted by multiply-adds")
        time.legend(loc="lower left")
    return figure


def _draw_measured(axes: Axes, frozen: Sequence[int], ratios: Sequence[Quartiles], colour: str, label: str) -> None:
    medians = np.array([ratio.median for ratio in ratios])
    spread = np.abs([[ratio.lower for ratio in ratios], [ratio.upper for ratio in ratios]] - medians)
    axes.errorbar(frozen, medians, spread, color=colour, marker="o", capsize=2, label=label)
