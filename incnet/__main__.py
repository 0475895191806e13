"""The command ``incnet``, or ``python -m incnet``: all commands under one name.

Little is imported before :func:`main`, so that Ctrl-C during all the rest ends in a line.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

from incnet import __version__
from incnet.names import did_you_mean

__all__ = ["COMMANDS", "main"]

INTERRUPTED = 130  # as in incnet.terminal, which is not there yet


class Command(NamedTuple):
    """Where a command is, imported when it is called: its module, the class of its options, and what it does."""

    module: str
    options: str
    summary: str


COMMANDS = {
    "train": Command("incnet.train", "Config", "train a network, incrementally or as a baseline; go on with a run"),
    "study": Command("incnet.study.__main__", "Study", "train what a table or figure of the paper needs, and compare"),
    "report": Command("incnet.report.__main__", "Options", "one page on runs: results, figures, decisions"),
    "predict": Command("incnet.predict", "Predict", "name what images show, by the model of a stage"),
    "export": Command("incnet.export", "Export", "write the model of a stage as ONNX"),
    "savings": Command("incnet.savings.__main__", "Savings", "measure what freezing saves on this machine"),
    "doctor": Command("incnet.doctor.__main__", "Doctor", "look whether all works here: kernels, packages, training"),
    "completion": Command("incnet.completion", "Completion", "print what a shell needs to complete these commands"),
}

OVERVIEW = """\
usage: incnet COMMAND [options]

Train convolutional networks incrementally: start small, grow when the learning
curve flattens.

commands:
{commands}

  incnet train digits        to begin with: a minute, nothing to download
  incnet COMMAND --help      its options
  incnet --version
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do as the command line says. Returns the exit code: the command's; 2 if there is none; 130 for Ctrl-C."""
    name, *rest = [*(sys.argv[1:] if arguments is None else arguments)] or ["--help"]
    try:
        if name not in COMMANDS:
            from incnet.terminal import command

            return command()(_about)(name)
        module = importlib.import_module(COMMANDS[name].module)
    except KeyboardInterrupt:  # later on the command itself says what is left of its work
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    code: int = module.main(rest)
    return code


def _about(name: str) -> int:
    """Answer what is no command."""
    import platform

    from incnet.terminal import BAD_INPUT, Terminal

    if name in ("-h", "--help", "help"):
        commands = "\n".join(f"  {name:12}{command.summary}" for name, command in COMMANDS.items())
        Terminal().say(OVERVIEW.format(commands=commands))
    elif name in ("-V", "--version"):
        Terminal().say(f"incnet {__version__}, Python {platform.python_version()}")
    else:
        what = "option" if name.startswith("-") else "command"
        meant = did_you_mean(name, ["--help", "--version"] if what == "option" else COMMANDS)
        Terminal(stderr=True).say(f"error: unknown {what} {name}{meant}\nAll commands: incnet --help")
        return BAD_INPUT
    return 0


if __name__ == "__main__":
    sys.exit(main())
