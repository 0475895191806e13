"""What a terminal emulator shows of a command: of a process of its own, or of a call of its ``main`` in this one."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import sys
import termios
import threading
import time
from collections.abc import Callable, Sequence
from itertools import dropwhile, pairwise
from pathlib import Path

import pexpect
import pyte

ESCAPE = re.compile(rb"\x1b\[[\d;?]*[A-Za-z]")
REDRAWN = re.compile(rb"(?=\r\x1b\[2K)")  # as rich begins

__all__ = ["Inside", "Screen", "Session"]

# What the surroundings of the tests might say about terminals, and notebooks.
STRANGE = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "JPY_PARENT_PID")
PATIENCE = 180  # seconds, on a busy machine with nothing compiled


class Screen:
    """The screen of a terminal emulator.

    Attributes
    ----------
    raw : bytes
        All that the command has written.
    frames : list of str
        What the screen has shown, whenever bars were drawn anew.
    """

    def __init__(self, columns: int, rows: int) -> None:
        self.screen = pyte.HistoryScreen(columns, rows, history=10_000, ratio=1.0)
        self._stream = pyte.ByteStream(self.screen)
        self.raw, self.frames = b"", list[str]()

    def feed(self, piece: bytes) -> None:
        """Show what the command has written."""
        self.raw += piece
        for part in re.split(REDRAWN, piece):  # several may have come at once
            self._stream.feed(part)
            self.frames.append("\n".join(row.rstrip() for row in self.screen.display))

    @property
    def rows(self) -> list[str]:
        """All rows, those that have left the screen at its upper end included."""
        columns = range(self.screen.columns)
        above = ["".join(row[column].data for column in columns).rstrip() for row in self.screen.history.top]
        return "\n".join([*above, *(row.rstrip() for row in self.screen.display)]).rstrip("\n").split("\n")

    @property
    def text(self) -> str:
        """All rows as one string."""
        return "\n".join(self.rows)

    @property
    def lines(self) -> list[str]:
        """All lines as the command has written them: the terminal breaks one that is longer than it is wide."""
        written = ESCAPE.sub(b"", self.raw).decode()
        lines = self.rows[:1]
        for above, below in pairwise(self.rows):
            broken = len(above) == self.screen.columns and below and above + below[:8] in written
            lines[-1:] = [lines[-1] + below] if broken else [lines[-1], below]
        return lines

    def check(self, begin: str = "") -> None:
        """Assert that nothing is amiss from the line on that begins so.

        There is no traceback, no value cut, no word broken by the terminal, and the cursor is back. A word that does
        not fit at all, such as a path, may be broken.
        """
        lines = list(dropwhile(lambda line: not line.startswith(begin), self.lines))
        text = "\n".join(lines)
        assert text
        assert "Traceback" not in text
        assert "…" not in text
        assert "..." not in text
        assert not self.screen.cursor.hidden
        for line in lines:
            assert len(line) <= self.screen.columns or " " not in line.strip(), f"{line}\nin\n{text}"


class Session(Screen):
    """A command in a process and a pseudo-terminal of its own.

    Parameters
    ----------
    command : sequence of str, or str
        Program and arguments; a str is a line for the shell. ``python`` is the one that runs the tests.
    columns, rows : int
        Size of the window.
    cwd : Path, optional
        Where it runs.
    environment : dict, optional
        Variables that it gets besides.
    """

    def __init__(
        self,
        command: Sequence[str] | str,
        columns: int = 80,
        rows: int = 24,
        cwd: Path | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        super().__init__(columns, rows)
        here = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        kept = {name: value for name, value in os.environ.items() if name not in STRANGE}
        variables = {**kept, "TERM": "xterm-256color", "PATH": here, **(environment or {})}
        program, *arguments = ["/bin/sh", "-c", command] if isinstance(command, str) else command
        self.process = pexpect.spawn(program, arguments, dimensions=(rows, columns), cwd=cwd, env=variables)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.close(force=True)

    def wait_until(self, holds: Callable[[], object]) -> None:
        """Read until ``holds`` does."""
        end = time.monotonic() + PATIENCE
        while not holds():
            assert self._read(), f"the command has ended:\n{self.text}"
            assert time.monotonic() < end, f"in vain:\n{self.text}"

    def wait(self) -> int:
        """Read until the command ends. Returns its exit code."""
        end = time.monotonic() + PATIENCE
        while self._read():
            assert time.monotonic() < end, f"the command does not end:\n{self.text}"
        self.process.close()
        return self.process.exitstatus if self.process.exitstatus is not None else -self.process.signalstatus

    def press(self, keys: str) -> None:
        """Type keys; ``\\x03`` is Ctrl-C."""
        self.process.send(keys)

    def resize(self, columns: int, rows: int) -> None:
        """Change the size of the window, of which the command is told by SIGWINCH."""
        self.screen.resize(rows, columns)
        self.process.setwinsize(rows, columns)

    def _read(self) -> bool:
        try:
            self.feed(self.process.read_nonblocking(65536, timeout=0.2))
        except pexpect.TIMEOUT:
            return True
        except pexpect.EOF:
            return False
        return True


class Inside(Screen):
    """Standard output and standard error of this process as a pseudo-terminal, in a ``with`` block.

    For many settings in little time: a new process takes seconds until its kernels are loaded.
    """

    def __init__(self, monkeypatch, columns: int = 80, environment: dict[str, str] | None = None) -> None:
        super().__init__(columns, rows=24)
        self._patch = monkeypatch
        self._variables = {"TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": "24", **(environment or {})}

    def __enter__(self) -> Inside:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, self.screen.columns, 0, 0))
        for name in STRANGE:
            self._patch.delenv(name, raising=False)
        for name, value in self._variables.items():
            self._patch.setenv(name, value)
        self._slave = os.fdopen(slave, "w", encoding="utf-8")
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        for name in ("stdout", "stderr"):
            self._patch.setattr(sys, name, self._slave)
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.undo()
        self._slave.close()
        self._reader.join()
        os.close(self._master)

    def _read(self) -> None:
        while True:
            try:
                self.feed(os.read(self._master, 65536))
            except OSError:  # the other end is closed
                return
