"""How figures look: one style for all, readable in grey, by the colour-blind, and on light and dark pages."""

from __future__ import annotations

import io
import re
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import AutoLocator, EngFormatter, MaxNLocator

from incnet.report.numbers import engineering

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

    from incnet.report.arms import MeanCurve

__all__ = [
    "COLOURS",
    "Look",
    "add_legend",
    "draw_curve",
    "inline_svg",
    "label_accuracies",
    "label_epochs",
    "look",
    "new_figure",
    "save",
    "style",
]

# Light and dark. Figures are drawn in the light ones; on a page, each becomes a CSS variable of this name.
COLOURS = {
    "paper": ("#ffffff", "#14181d"),
    "ink": ("#1d2329", "#e8ebee"),
    "muted": ("#636d77", "#9aa5b1"),
    "rule": ("#dfe3e7", "#2d343c"),
    # Okabe and Ito's, which colour-blind readers tell apart; lighter on dark pages.
    "blue": ("#0072b2", "#58b0ea"),
    "vermillion": ("#d55e00", "#ff8f4a"),
    "green": ("#009e73", "#35c79b"),
    "purple": ("#cc79a7", "#e6a0c8"),
    "orange": ("#e69f00", "#f4c04d"),
    "sky": ("#56b4e9", "#a5d8f7"),
}
LIGHT = {name: light for name, (light, dark) in COLOURS.items()}
PALETTE = ("blue", "vermillion", "green", "purple", "orange", "sky")
# As many as have no divisor in common: the combinations repeat after 60 arms.
LINES = ("-", "--", "-.", (0, (1, 1.2)))
MARKERS = ("o", "s", "^", "D", "v")

LONGEST = 64  # letters in a line of a legend
MOST_HINTS = 400  # points of a figure that tell their values, evenly spread
POINTS_PER_INCH = 72

FONT = ("DejaVu Sans", "sans-serif")
RC: Any = {  # matplotlib names each setting in its types
    "axes.edgecolor": LIGHT["muted"],
    "axes.labelcolor": LIGHT["ink"],
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "figure.facecolor": LIGHT["paper"],
    "font.family": FONT,
    "font.size": 9.5,
    "grid.color": LIGHT["rule"],
    "grid.linewidth": 0.8,
    "hatch.linewidth": 0.8,
    "legend.frameon": False,
    "legend.labelcolor": LIGHT["ink"],
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "text.color": LIGHT["ink"],
    "text.parse_math": False,  # labels come from files: a dollar is a dollar
    "xtick.color": LIGHT["muted"],
    "xtick.labelcolor": LIGHT["ink"],
    "ytick.color": LIGHT["muted"],
    "ytick.labelcolor": LIGHT["ink"],
    "savefig.dpi": 200,
    "svg.hashsalt": "incnet",  # the same figure gives the same file
}


@dataclass(frozen=True)
class Look:
    """What an arm is drawn with: three things of which each tells it from the next."""

    colour: str
    line: Any
    marker: str


def look(index: int, count: int) -> Look:
    """Return that of one of so many arms; a single one needs no markers."""
    if count == 1:
        return Look(LIGHT[PALETTE[0]], "-", "")
    return Look(LIGHT[PALETTE[index % len(PALETTE)]], LINES[index % len(LINES)], MARKERS[index % len(MARKERS)])


@contextmanager
def style() -> Iterator[None]:
    """Draw and write figures in the style of the house, whatever the user's settings are."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(RC)
        # Names of folders may be written in letters that the font lacks; browsers find another one.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def new_figure(height: float = 3.3) -> Figure:
    """Make a figure of the common width; ``height`` in inches. To be called within :func:`style`."""
    return Figure(figsize=(5.2, height), layout="constrained")


def draw_curve(axes: Axes, curve: MeanCurve, look: Look, label: str, **options: Any) -> None:
    """Draw a mean as a line, and one deviation to both sides as a band."""
    every = max(1, len(curve.x) // 8)
    marks = {"marker": look.marker, "markevery": (every // 2, every)}
    axes.plot(curve.x, curve.mean, color=look.colour, linestyle=look.line, label=label, **marks | options)
    if curve.deviation.any():
        low, high = curve.mean - curve.deviation, curve.mean + curve.deviation
        axes.fill_between(curve.x, low, high, color=look.colour, alpha=0.15, linewidth=0)


class _Shares(AutoLocator):
    """Ticks where a share in percent can be: the room that a figure leaves above 100 gets none."""

    def tick_values(self, vmin: float, vmax: float) -> Any:
        ticks = np.asarray(super().tick_values(vmin, vmax))
        return ticks[(ticks >= 0) & (ticks <= 100)]


def label_accuracies(axes: Axes, label: str) -> None:
    """Let the y-axis be one of accuracies in percent."""
    axes.set_ylabel(label)
    axes.yaxis.set_major_locator(_Shares())


def label_epochs(axes: Axes) -> None:
    """Let the x-axis count epochs, which are whole however few there are."""
    axes.set(xlabel="epochs", xlim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))


def add_legend(figure: Figure, axes: Axes) -> None:
    """Name the curves of ``axes``, if there are several, below everything: on no curve, and taking no room from any."""
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) < 2:
        return
    labels = [textwrap.fill(label, LONGEST) for label in labels]
    longest = max(len(line) for label in labels for line in label.splitlines())
    columns = max(1, min(len(labels), int(figure.get_figwidth() / (0.6 + 0.078 * longest))))
    lines = max(label.count("\n") + 1 for label in labels)
    rows = -(-len(labels) // columns) * lines
    figure.set_figheight(figure.get_figheight() + 0.1 + 0.19 * rows)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=8.5, borderaxespad=0.2)


# Files.


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write ``stem``.svg and ``stem``.png, and return their paths."""
    written = [stem.with_name(f"{stem.name}.{kind}") for kind in ("svg", "png")]
    with style():
        for path in written:
            figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    return written


def inline_svg(figure: Figure, name: str, title: str) -> str:
    """Return ``figure`` as an SVG element for an HTML page.

    Its text is text, in the page's font; its colours are the page's variables; its ids begin with ``name``, so that
    no two figures share one.
    """
    buffer = io.StringIO()
    with style():
        matplotlib.rcParams["svg.fonttype"] = "none"
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue()
    svg = re.sub(r"<(style|metadata)\b.*?</\1>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    view = re.search(r'viewBox="[^"]*"', svg)
    assert view is not None
    head = f'<svg {view[0]} role="img" aria-label="{escape(title)}" xmlns:xlink="http://www.w3.org/1999/xlink">'
    body = svg[svg.index(">") + 1 : svg.rindex("</svg>")]
    used = set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", body))
    body = re.sub(r' id="([^"]*)"', lambda match: f' id="{name}-{match[1]}"' if match[1] in used else "", body)
    body = re.sub(r"(url\(|xlink:href=\")#", rf"\1#{name}-", body)
    for colour, (light, _) in COLOURS.items():
        body = body.replace(light, f"var(--{colour})")
    return f"{head}{body}{''.join(_hints(figure))}</svg>\n"


def _hints(figure: Figure) -> Iterator[str]:
    """Yield for the points of all named curves what the page shows when the pointer is there: name and values."""
    width, height = figure.get_size_inches() * POINTS_PER_INCH
    for axes in figure.axes:
        curves = [line for line in axes.lines if not str(line.get_label()).startswith("_")]
        for line in curves:
            points = np.column_stack([np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)])
            most = max(8, MOST_HINTS // len(curves))
            chosen = np.unique(np.linspace(0, len(points) - 1, min(most, len(points))).astype(int))
            at = axes.transData.transform(points) * POINTS_PER_INCH / figure.dpi
            for (x, y), (left, up) in zip(points[chosen], at[chosen], strict=True):
                if np.isfinite([left, up]).all():
                    lines = [str(line.get_label()), _told(axes.yaxis, y), _told(axes.xaxis, x)]
                    yield _hint(lines, left, height - up, left / width, up / height)


def _hint(lines: list[str], x: float, y: float, across: float, up: float) -> str:
    """Return an invisible spot, and beside it the text that shows while the pointer is on it."""
    anchor = "start" if across < 0.35 else "end" if across > 0.65 else "middle"
    shift = {"start": 8, "end": -8, "middle": 0}[anchor]
    first = y + 18 if up > 0.55 else y - 10 - 12 * (len(lines) - 1)
    text = "".join(
        f'<tspan x="{x + shift:.1f}" y="{first + 12 * k:.1f}">{escape(line)}</tspan>' for k, line in enumerate(lines)
    )
    spot = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6"/>'
    return f'<g class="hint">{spot}<text text-anchor="{anchor}">{text}</text></g>'


def _told(axis: Axis, value: float) -> str:
    label = axis.get_label_text()
    if label in {"epochs", ""}:  # it stands below the strip of stages, which has the same axis
        return f"epoch {value:g}"
    text = engineering(value) if isinstance(axis.get_major_formatter(), EngFormatter) else f"{value:,.4g}"
    if label.endswith(", %"):
        return f"{label.removesuffix(', %')} {text} %"
    name, _, unit = label.partition(", ")
    return f"{name} {text}{'' if unit == 'FLOP' else ' '}{unit}".rstrip()
