"""The command ``incnet completion SHELL``: a script by which a shell completes commands, options and their values."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args, get_type_hints

import shtab

from incnet.commandline import FILE, choices, make_parser, parse, shown_flags
from incnet.options import described, option
from incnet.terminal import command

__all__ = ["Completion", "main"]


@dataclass(frozen=True)
class Completion:
    """Print a script by which a shell completes the commands of incnet, their options and values.

    Examples::

      incnet completion bash > ~/.local/share/bash-completion/completions/incnet
      incnet completion zsh > ~/.zfunc/_incnet    where fpath has ~/.zfunc
    """

    shell: Literal["bash", "zsh", "tcsh"] = option("bash, zsh or tcsh.", positional=True)


@command(answers=True)
def main(arguments: Sequence[str] | None = None) -> int:
    """Print the script that the command line asks for. Returns the exit code."""
    options = parse(Completion, arguments, prog="incnet completion")
    print(shtab.complete(whole_parser(), options.shell))
    return 0


def whole_parser() -> argparse.ArgumentParser:
    """Return a parser of all commands, which knows what values there are."""
    from incnet.__main__ import COMMANDS

    parser = argparse.ArgumentParser("incnet")
    parser.add_argument("--version", action="store_true", help="show the version")
    commands = parser.add_subparsers()
    for name, each in COMMANDS.items():
        kind = getattr(importlib.import_module(each.module), each.options)
        options, hints = make_parser(kind, f"incnet {name}"), get_type_hints(kind)
        for action in options._actions:
            if action.dest == FILE:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            if action.dest in hints:
                shown = shown_flags(kind, action.dest)
                action.option_strings = [each for each in action.option_strings if each in shown]
                action.choices = choices(kind, action.dest) or None
                said = described(kind)[action.dest].help.partition(". ")[0].rstrip(".")
                action.help = said.replace("%", "%%")  # argparse would format it
                if Path in (hints[action.dest], *get_args(hints[action.dest])):
                    action.complete = shtab.FILE  # type: ignore[attr-defined]
        commands.add_parser(name, parents=[options], add_help=False, help=each.summary)
    return parser


if __name__ == "__main__":
    sys.exit(main())
