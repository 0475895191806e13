"""The page: one HTML file that holds all it needs, made from run folders.

What comes from the folders is text that nobody vouches for: Jinja escapes all of it, the only exception being the
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
from incnet.report.figures import draw
from incnet.report.headline import headline
from incnet.report.history import History
from incnet.report.setup import commands, setups
from incnet.report.style import COLOURS, inline_svg

__all__ = ["render"]


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
        title=_title([section.title for section in shown], runs),
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
    stages: list[tables.Table]
    courses: list[Course]
    setups: list[list[tuple[str, str]]]
    commands: list[str]


def _section(number: int, network: Network, *, live: bool) -> _Section:
    return _Section(
        title=network.title,
        headline=headline(network),
        unfinished=[_progress(run, live=live) for run in network.runs if not run.finished],
        results=tables.results(network),
        figures=[
            {
                "id": f"n{number}-{drawing.name}",
                "title": drawing.title,
                "caption": drawing.caption,
                "svg": Markup(inline_svg(drawing.figure, f"n{number}-{drawing.name}", drawing.title)),
            }
            for drawing in draw(network)
        ],
        stages=[tables.stages(arm) for arm in network.arms if arm.grows],
        courses=[course(arm, run) for arm in network.arms for run in arm.runs],
        setups=setups(network.runs),
        commands=commands(network.runs),
    )


def _progress(run: History, *, live: bool) -> dict[str, Any]:
    done, of = len(run.epochs), run.setup.epochs
    where = f"after epoch {done} of at most {of}"
    text = f"Going on, {where}: this page renews itself." if live else f"Not finished: {run.path.name} is {where}."
    return {"text": text, "done": min(done, of), "of": of}


def _title(titles: list[str], runs: Sequence[History]) -> str:
    count = "" if len(runs) == 1 else f", {len(runs)} runs"
    return f"{titles[0]}{count}" if len(titles) == 1 else f"{len(titles)} networks{count}"
