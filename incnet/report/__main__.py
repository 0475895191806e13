"""The command ``python -m incnet.report RUN_OR_STUDY...``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from incnet.commandline import parse
from incnet.options import option
from incnet.parallel.launch import is_first
from incnet.report import ReportError, write_figures, write_report
from incnet.storage.files import WriteError
from incnet.terminal import BAD_INPUT, Terminal, command

__all__ = ["main"]


@dataclass(frozen=True)
class Options:
    """Write a report on runs, finished or not: one HTML file with tables, figures and decisions.

    Needs matplotlib and Jinja: pip install "incnet[report]". Exits with 0; 2 if a run could not be read, and was left
    out; 4 if the disk is full.

    Examples::

      incnet report runs/*
      incnet report runs/one runs/other --out compared.html --figures figures
    """

    runs: tuple[Path, ...] = option(
        "Run folders, studies, or folders that hold runs.", (), positional=True, metavar="RUN"
    )
    out: Path = option("File to write.", Path("report.html"), metavar="FILE")
    figures: Path | None = option(
        "Folder for the figures as files of their own, each as SVG and as PNG.", None, metavar="FOLDER"
    )


@command(refused=(ReportError,), unwritable=(WriteError,))
def main(arguments: list[str] | None = None) -> int:
    """Report as the command line says; return the exit code."""
    if not is_first():
        return 0
    options = parse(Options, arguments, prog="incnet report")
    terminal, errors = Terminal(), Terminal(stderr=True)
    if not options.runs:
        raise ReportError("no runs: name at least one run folder or study, as in incnet report runs/*")
    problems = write_report(options.runs, options.out)
    written = write_figures(options.runs, options.figures) if options.figures else []
    for problem in problems:
        errors.say(f"error: left out: {problem}")
    terminal.say(str(options.out))
    if written:
        terminal.say(f"{len(written)} figures in {options.figures}")
    return BAD_INPUT if problems else 0


if __name__ == "__main__":
    sys.exit(main())
