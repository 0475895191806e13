"""Figures, tables and a page from run folders: what the paper shows, from one's own runs.

Drawing needs matplotlib and Jinja, ``pip install "incnet[report]"``; they are imported when something is to be drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from incnet.extras import why_not
from incnet.report.history import History
from incnet.report.reading import ReportError, find_runs, read_history, without_copies
from incnet.storage.files import replace_file, writing

__all__ = ["MISSING", "ReportError", "read_runs", "write_figures", "write_report"]

MISSING = 'needs matplotlib and Jinja: pip install "incnet[report]"'


def write_report(folders: Sequence[Path], out: Path) -> list[str]:
    """Write the report on runs and studies as one HTML file.

    Parameters
    ----------
    folders : sequence of Path
        Run folders, studies, or folders that hold runs. The runs may be unfinished.
    out : Path
        The file; replaced as a whole, or left as it was.

    Returns
    -------
    list of str
        A line for each run that was left out, since its files are damaged. The page has them too.

    Raises
    ------
    ReportError
        If no run can be read, or a library is missing.
    WriteError
        If the file cannot be written.
    """
    try:
        from incnet.report.page import render
    except Exception as error:
        raise ReportError(why_not("what draws a report", error, f"a report {MISSING} ({error})")) from error
    runs, problems = read_runs(folders)
    replace_file(out, [render(runs, problems).encode(errors="backslashreplace")])
    return problems


def write_figures(folders: Sequence[Path], out: Path) -> list[Path]:
    """Write all figures on runs and studies to the folder ``out``, each as SVG and as PNG; return their paths.

    They are named after the network and what they show. Parameters and errors are those of :func:`write_report`.
    """
    try:
        from incnet.report.arms import networks
        from incnet.report.figures import draw
        from incnet.report.style import save
    except Exception as error:
        raise ReportError(why_not("what draws figures", error, f"drawing {MISSING} ({error})")) from error
    runs, _ = read_runs(folders)
    written = []
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        for network in networks(runs):
            for drawing in draw(network):
                written += save(drawing.figure, out / f"{network.name}-{drawing.name}")
    return written


def read_runs(folders: Sequence[Path]) -> tuple[list[History], list[str]]:
    """Return the runs that can be read, and for each of the others why not.

    Raises
    ------
    ReportError
        If no run can be read.
    """
    runs, problems = [], []
    for path, arm in find_runs(list(folders)):
        try:
            runs.append(read_history(path, arm))
        except ReportError as error:
            problems.append(str(error))
    if not runs:
        raise ReportError("; ".join(problems))
    return without_copies(runs), problems
