"""The page: one HTML file that holds all it needs, made from run folders.

What comes from the folders is untrusted text: Jinja escapes all of it, the only exception being the
figures, whose text matplotlib has escaped; and the page's own policy forbids scripts and everything from outside.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from incnet import __version__
from incnet.report import tables
from incnet.report.arms import Network, networks
from incnet.report.course import Course, course
from incnet.report.explain import explanations
from incnet.report.figures import WINDOWS, Drawing, draw
from incnet.report.following import Suggestion, suggestions
from incnet.report.growth import GrowthDrawing, draw_growth
from incnet.report.headline import headline
from incnet.report.history import History
from incnet.report.mistakes import Confusions, confusions
from incnet.report.numbers import listing
from incnet.report.other_rules import other_rules
from incnet.report.setup import commands, setups
from incnet.report.style import COLOURS, inline_svg

__all__ = ["render"]

MOST_NAMES = 3  # of networks or data sets in a title


def render(runs: Sequence[History], problems: Sequence[str] = (), *, reload: int | None = None) -> str:
    """Return the page on ``runs``.

    Parameters
    ----------
    problems : sequence of str
        What was left out, and why.
    reload : int, optional
        Seconds after which a browser loads the page again: for one that is rewritten while its run goes on.
    """
    shown = [_section(i, network, live=reload is not None) for i, network in enumerate(networks(runs))]
    environment = Environment(autoescape=True)
    template = environment.from_string((files(__package__) / "page.html").read_text(encoding="utf-8"))
    return template.render(
        title=_title(networks(runs), runs),
        networks=shown,
        problems=problems,
        reload=reload,
        colours=COLOURS,
        css=Markup((files(__package__) / "page.css").read_text(encoding="utf-8")),
        footer=f"Made by incnet {__version__} on {time.strftime('%Y-%m-%d at %H:%M:%S %Z')}. {tables.DEFINITIONS}",
    )


@dataclass(frozen=True)
class _Section:
    """What the page says about a network; the template's names."""

    title: str
    headline: str
    unfinished: list[dict[str, Any]]
    results: tables.Table
    figures: list[dict[str, Any]]
    windows: list[dict[str, Any]]
    growth: GrowthDrawing | None
    growth_of: str
    explanations: list[tuple[str, str]]
    stages: list[tables.Table]
    confusions: list[Confusions]
    confusions_left_out: int
    suggestions: list[Suggestion]
    other_rules: list[tables.Table]
    courses: list[Course]
    setups: list[list[tuple[str, str]]]
    commands: list[str]


def _section(number: int, network: Network, *, live: bool) -> _Section:
    grown = next((arm for arm in network.arms if arm.grows), network.arms[0])
    shown, left_out = confusions(network)
    drawings = [(drawing, _figure(number, drawing)) for drawing in draw(network)]
    return _Section(
        title=network.title,
        headline=headline(network),
        unfinished=[_progress(run, live=live) for run in network.runs if not run.finished],
        results=tables.results(network),
        figures=[figure for drawing, figure in drawings if not drawing.name.startswith(WINDOWS)],
        windows=[figure for drawing, figure in drawings if drawing.name.startswith(WINDOWS)],
        growth=draw_growth(grown.counted[0]),
        growth_of=f"{grown.label}, seed {grown.counted[0].setup.seed}",
        explanations=list(explanations(network)),
        confusions=shown,
        confusions_left_out=left_out,
        suggestions=list(suggestions(network, live=live)),
        stages=[tables.stages(arm) for arm in network.arms if arm.grows],
        other_rules=[table for arm in network.arms if (table := other_rules(arm))],
        courses=[course(arm, run) for arm in network.arms for run in arm.runs],
        setups=setups(network.runs),
        commands=commands(network.runs),
    )


def _figure(number: int, drawing: Drawing) -> dict[str, Any]:
    name = f"n{number}-{drawing.name}"
    svg = Markup(inline_svg(drawing.figure, name, drawing.title))
    return {"id": name, "title": drawing.title, "caption": drawing.caption, "svg": svg}


def _progress(run: History, *, live: bool) -> dict[str, Any]:
    done, of = len(run.epochs), run.setup.epochs
    where = f"after epoch {done} of at most {of}"
    text = f"Going on, {where}: this page renews itself." if live else f"Not finished: {run.path.name} is {where}."
    return {"text": text, "done": min(done, of), "of": of}


def _title(found: list[Network], runs: Sequence[History]) -> str:
    """Name what was trained and on what, or count them where that is shorter."""
    count = "" if len(runs) == 1 else f", {len(runs)} runs"
    archs = list(dict.fromkeys(network.arch_name for network in found))
    datasets = list(dict.fromkeys(network.dataset_name for network in found))
    what = listing(archs) if len(archs) <= MOST_NAMES else f"{len(archs)} networks"
    where = listing(datasets) if len(datasets) <= MOST_NAMES else f"{len(datasets)} data sets"
    return f"{what} on {where}{count}"
