"""The page of all options, from the descriptions that the commands' help is made of."""

import importlib
import inspect
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from sphinx.application import Sphinx

from incnet.__main__ import COMMANDS
from incnet.commandline import Entry, entries
from incnet.config import Config
from incnet.options import described, flag

INTRODUCTION = """\
Options
=======

Each command says the same with ``--help``. ``none`` takes an option's value away. Those of ``train`` and ``study`` may
be in a file, too, which ``--config`` names and those of the command line go before.
"""
ON_RESUMING = {"fixed": "", "may change": "May change when a run is resumed.", "may grow": "May grow on resuming."}


def write_page(app: Sphinx) -> None:
    """Write ``options.rst``, unless it is as it should be."""
    text = "\n".join([INTRODUCTION, *(line for name in COMMANDS for line in section(name))])
    path = Path(app.srcdir, "options.rst")
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def section(command: str) -> Iterator[str]:
    """Yield the section of a command."""
    module, name, _ = COMMANDS[command]
    kind = getattr(importlib.import_module(module), name)
    title = f"incnet {command}"
    yield from (title, "-" * len(title), "", inspect.cleandoc(kind.__doc__), "", f".. program:: incnet {command}", "")
    inherited = described(Config) if issubclass(kind, Config) and kind is not Config else {}
    told = [entry for entry in entries(kind) if described(kind)[entry.name] is not inherited.get(entry.name)]
    for group, inner in groupby(told, key=lambda entry: entry.group):
        heading = f"{group[0].upper()}{group[1:]}"
        yield from (heading, "~" * len(heading), "")
        for entry in inner:
            yield from described_option(kind, entry)
    if inherited:
        yield from ("All other options are those of ``incnet train``, and hold for every run.", "")


def described_option(kind: type, entry: Entry) -> Iterator[str]:
    """Yield the description of one option."""
    flags = [entry.call.replace("[no-]", ""), *re.findall(r"--\[no-\](.*)", entry.call)]
    call = flags[0] if len(flags) == 1 else f"{flags[0]}, --no-{flags[1]}"
    facts = described(kind)[entry.name]
    text, mark, default = entry.text.rpartition(" Default: ")
    yield from (f".. option:: {call}", "", f"   {linked(kind, text if mark else entry.text)}", "")
    resuming = ON_RESUMING[facts.on_resume] if "resume" in described(kind) else ""
    if mark or resuming:
        yield from ("   " + f"{f'*Default:* {linked(kind, default)}' if mark else ''} {resuming}".strip(), "")


def linked(kind: type, text: str) -> str:
    """Return text in which the options of a command are links to them, and all else stands for itself."""
    known = {entry.call.split()[0].replace("[no-]", "") for entry in entries(kind)}
    ours = {flag(name) for name, facts in described(kind).items() if facts is not described(Config).get(name)}
    pieces = re.split(r"(--[a-z][a-z-]*[a-z])", text)
    for i, piece in enumerate(pieces):
        if i % 2 == 0:
            pieces[i] = re.sub(r"([\\*`|_<>])", r"\\\1", piece)
        else:
            option = piece.replace("--no-", "--")
            place = "" if kind is Config or option in ours else "incnet train "
            pieces[i] = f":option:`{piece} <{place}{piece}>`" if option in known else f"``{piece}``"
    return "".join(pieces)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("builder-inited", write_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
