"""What commands say: text that suits whoever reads it, on streams that never end a command.

Standard output may go away (``| head``), be full (``> /dev/full``), or lack a letter (``PYTHONIOENCODING=ascii``).
:func:`command` makes ``main`` of every command proof against that, in one place.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, Literal, ParamSpec, TextIO

from rich.cells import cell_len
from rich.console import Console, ConsoleDimensions, RenderableType
from rich.progress import Progress, Task
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

__all__ = ["BAD_INPUT", "INTERRUPTED", "UNWRITABLE", "Bars", "Terminal", "command"]

P = ParamSpec("P")
Errors = tuple[type[Exception], ...]
BAD_INPUT, UNWRITABLE, INTERRUPTED = 2, 4, 130  # exit codes of all commands
# Columns to the right of the bars that stay free: there the terminal puts the ^C of somebody who types it.
MARGIN = 3
SHORTEST, LONGEST = 16, 40  # a bar, in columns
NAME = 8  # columns that a table leaves to a text, at least
# Seconds over which the pace is taken that remaining times are estimated by.
PACE = 600.0


def command(
    *, answers: bool = False, refused: Errors = (), unwritable: Errors = ()
) -> Callable[[Callable[P, int]], Callable[P, int]]:
    r"""Decorate the ``main`` of a command, so that it does not depend on what becomes of its output.

    Letters that the output cannot spell are written as ``\xe9`` or ``\u30c7``. When standard output cannot be written,
    standard error is told once, and the command goes on. It is told, too, what ends the command early: an error of the
    kinds that are named, Ctrl-C, which ends any command with 130, or a place that the system does not let it look at.

    Parameters
    ----------
    answers : bool
        What the command is there for goes to standard output. When that cannot be written the command ends: with 0 if
        its reader has left, with 4 and an error if it is full.
    refused, unwritable : tuple of type
        Errors of bad input, which the command then ends with 2 for; and of a file that it cannot write, with 4.
    """

    def decorate(main: Callable[P, int]) -> Callable[P, int]:
        @wraps(main)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> int:
            before = sys.stdout, sys.stderr
            # Either is None where the process was begun without it.
            err = _Stream(sys.stderr, lambda error: None) if sys.stderr else None
            out = _Stream(sys.stdout, _end if answers else _go_on) if sys.stdout else None
            sys.stdout, sys.stderr = out, err
            try:
                try:
                    return _code(lambda: main(*args, **kwargs), refused, unwritable)
                finally:
                    for stream in (out, err):
                        if stream:
                            stream.flush()
            except _OutputLost as lost:
                if lost.error.errno == errno.EPIPE:
                    return 0
                print(f"error: standard output cannot be written: {lost.error.strerror}", file=sys.stderr)
                return UNWRITABLE
            finally:
                sys.stdout, sys.stderr = before

        return guarded

    return decorate


def _code(work: Callable[[], int], refused: Errors, unwritable: Errors) -> int:
    """Return the exit code of a command's work."""
    try:
        return work()
    except refused as error:
        said, code = f"error: {error}", BAD_INPUT
    except unwritable as error:
        said, code = f"error: {error}; choose a place that can be written", UNWRITABLE
    except KeyboardInterrupt:
        said, code = "interrupted", INTERRUPTED
    except OSError as error:  # looking for it is refused already, wherever that is done
        if error.errno not in (errno.EACCES, errno.ENAMETOOLONG) or error.filename is None:
            raise
        said, code = f"error: {error.filename!s:.200}: {error.strerror}", BAD_INPUT
    Terminal(stderr=True).say(said)
    return code


class _OutputLost(Exception):
    """Standard output cannot be written, and nothing else is wanted of the command."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


def _end(error: OSError) -> None:
    raise _OutputLost(error)


def _go_on(error: OSError) -> None:
    print(f"warning: standard output cannot be written ({error.strerror}); going on without it", file=sys.stderr)


class _Stream:
    """A text stream that drops what cannot be written, once it has said so, and spells what the encoding lacks."""

    def __init__(self, file: TextIO, tell: Callable[[OSError], None]) -> None:
        self._file, self._tell = file, tell
        self._lost: OSError | None = None
        self._told = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, text: str) -> int:
        if self._lost:
            self._say_so(self._lost)
        else:
            self._try(lambda: self._spell(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if not self._lost:
            self._try(self._file.flush)

    def _spell(self, text: str) -> None:
        try:
            self._file.write(text)
        except UnicodeEncodeError as error:
            self._file.write(text.encode(error.encoding, "backslashreplace").decode(error.encoding))

    def _try(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            self._lost = error
            with contextlib.suppress(OSError):  # a stream without a descriptor holds nothing back
                self._drain()
            if error.errno != errno.EPIPE:  # a reader who has left is missed when there is more to say
                self._say_so(error)

    def _say_so(self, lost: OSError) -> None:
        if not self._told:
            self._told = True
            self._tell(lost)

    def _drain(self) -> None:
        """Let go what the buffer still holds, which Python would try to write, and complain of, when it ends."""
        descriptor = self._file.fileno()
        kept, nowhere = os.dup(descriptor), os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, descriptor)
            self._file.flush()
        finally:
            os.dup2(kept, descriptor)
            os.close(kept)
            os.close(nowhere)


class Terminal(Console):
    """Standard output, or standard error, as a terminal or as what it is instead: a file, a pipe, a notebook.

    Parameters
    ----------
    stderr : bool
        Standard error.
    quiet : bool
        Print nothing.
    """

    def __init__(self, *, stderr: bool = False, quiet: bool = False) -> None:
        # In a notebook text goes where print() puts it, too, rather than into a box of HTML a line.
        file = sys.stderr if stderr else sys.stdout
        colours: Literal["auto", "standard"] = "standard" if os.environ.get("FORCE_COLOR") else "auto"
        super().__init__(file=file, quiet=quiet, color_system=colours, highlight=False, force_jupyter=False)
        if self.is_dumb_terminal:  # such as a shell in Emacs; rich would take 80 columns without looking
            given = os.environ.get("COLUMNS", "")
            columns = int(given) if given.isdecimal() else os.get_terminal_size(self.file.fileno()).columns
            self.size = ConsoleDimensions(columns or self.width, self.height)

    @property
    def is_terminal(self) -> bool:
        """Whether it is one, whatever ``FORCE_COLOR`` and its like say, which is about colours."""
        return self.file.isatty()

    @property
    def is_live(self) -> bool:
        """Whether lines that were printed can be drawn anew: not on a dumb terminal, nor in a cell with ``!``."""
        return self.is_interactive and "JPY_PARENT_PID" not in os.environ

    def say(self, text: str) -> None:
        """Print lines: broken between words on a terminal, and indented as they begin; whole elsewhere.

        A word that is longer than the terminal is wide, such as a path, stays whole, so that it can be copied.
        """
        lines = text.splitlines()
        if self.is_terminal:
            lines = [part for line in lines for part in _broken(line, self.width)]
        self.print(Text("\n".join(lines)), soft_wrap=True)

    def show(self, table: Table) -> None:
        """Print a table; as a block of lines for each row, where the terminal is too narrow for its numbers."""
        if not self.is_terminal or _narrowest(table) <= self.width:
            self.print(table)
            return
        headings = [" ".join(str(column.header).split()) for column in table.columns]
        lines = [str(table.title)]
        for cells in zip(*(column.cells for column in table.columns), strict=True):
            name, *values = (str(cell) if isinstance(cell, str | Text) else "" for cell in cells)
            facts = [f"  {heading} {value}" for heading, value in zip(headings[1:], values, strict=True) if value]
            lines += ["", name, *facts]
        self.say("\n".join(lines))
        self.print()


def _narrowest(table: Table) -> int:
    """Columns that a table takes whose numbers are not broken; they stand to the right, and texts give way."""
    _, right, _, left = table.padding
    total = 0
    for column in table.columns:
        texts = [text for cell in (column.header, *column.cells) for text in str(cell).splitlines()]
        widest = max(map(cell_len, texts), default=0)
        total += (widest if column.justify == "right" else min(widest, NAME)) + left + right + 1
    return total


def _broken(line: str, width: int) -> list[str]:
    """Break a line between words, where it is too wide; unlike rich's wrapping, never within one."""
    if cell_len(line) <= width:
        return [line]
    first, *words = line.lstrip().split(" ")
    indent = line[: len(line) - len(line.lstrip())]
    parts = [indent + first]
    for word in words:
        if cell_len(parts[-1]) + 1 + cell_len(word) <= width:
            parts[-1] += f" {word}"
        else:
            parts.append(indent + word)
    return parts


class Bars(Progress):
    """A bar for each task, made for 80 columns: ``name  done/total  bar  facts``.

    A task has a field ``facts``: a function of the task that returns texts, the most important first. As many are shown
    as there is room for; none is cut.
    """

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self.notice = ""  # a line below the bars
        super().__init__(console=terminal, disable=not terminal.is_live, transient=True, speed_estimate_period=PACE)

    def get_renderables(self) -> Iterable[RenderableType]:
        """Return the bars, and the notice if there is one."""
        yield self.make_tasks_table(self.tasks)
        if self.notice:
            yield Text(self.notice)

    def make_tasks_table(self, tasks: Iterable[Task]) -> Table:
        """Lay the bars out in the width that the terminal has now."""
        shown = [task for task in tasks if task.visible]
        names = max((cell_len(task.description) for task in shown), default=0)
        counts = [_count(task) for task in shown]
        room = self._terminal.width - MARGIN - names - max(map(len, counts), default=0) - 3
        facts = ["  ".join(_fitting(task.fields["facts"](task), room - SHORTEST)) for task in shown]
        bar = min(LONGEST, room - max(map(cell_len, facts), default=0))
        table = Table.grid(padding=(0, 1))
        for justify in ("left", "right", "left", "left"):
            table.add_column(justify=justify, no_wrap=True)
        for task, count, text in zip(shown, counts, facts, strict=True):
            drawn = _bar(task, bar) if bar >= SHORTEST else ""
            table.add_row(Text(task.description), count, drawn, Text(text))
        return table


def _count(task: Task) -> str:
    total = "?" if task.total is None else str(int(task.total))
    return f"{int(task.completed):{len(total)}}/{total}"


def _bar(task: Task, width: int) -> ProgressBar:
    unknown = task.total is None
    return ProgressBar(task.total, task.completed, width=width, pulse=unknown, animation_time=task.get_time())


def _fitting(facts: Iterable[str], room: int) -> list[str]:
    """Return the first facts that fit, with two spaces between them."""
    taken: list[str] = []
    for fact in facts:
        room -= cell_len(fact) + 2 * bool(taken)
        if room < 0:
            break
        taken.append(fact)
    return taken
