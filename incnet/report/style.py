"""How figures look: one style for all, readable in grey, by the colour-blind, and on light and dark pages."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from incnet.report.arms import MeanCurve

__all__ = ["COLOURS", "Look", "draw_curve", "inline_svg", "look", "new_figure", "save", "style"]

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
    body = svg[svg.index(">") + 1 :]
    used = set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", body))
    body = re.sub(r' id="([^"]*)"', lambda match: f' id="{name}-{match[1]}"' if match[1] in used else "", body)
    body = re.sub(r"(url\(|xlink:href=\")#", rf"\1#{name}-", body)
    for colour, (light, _) in COLOURS.items():
        body = body.replace(light, f"var(--{colour})")
    return head + body
