"""How runs were made: options, versions, device, and the commands that make them again."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from incnet.config import Config, ConfigError
from incnet.options import as_arguments, as_of_now, described
from incnet.report.history import History
from incnet.report.numbers import NOTHING
from incnet.user_code import short

__all__ = ["command", "commands", "setups"]

# Where files lay, and what a resumed run was told, is nobody else's business.
PRIVATE = {name for name, facts in described(Config).items() if facts.place or not facts.shown}
CODE = {name for name, facts in described(Config).items() if facts.code}
# What other options came from: a command has them by value.
ORIGIN = {name for name, facts in described(Config).items() if facts.origin}


def setups(runs: Sequence[History]) -> list[list[tuple[str, str]]]:
    """Return two lists of name and value: options, and versions; where runs differ, all values."""
    options = [_public(run.options) for run in runs]
    return [list(_merged(options)), list(_merged([run.environment for run in runs]))]


def _public(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options without what says where things lay, code included."""
    return {
        name: short(value) if name in CODE and isinstance(value, str) else value
        for name, value in options.items()
        if name not in PRIVATE
    }


def _merged(records: Sequence[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for name in dict.fromkeys(name for record in records for name in record):
        values = dict.fromkeys(_text(record.get(name)) for record in records)
        yield name.replace("_", " "), " / ".join(values)


def _text(value: Any) -> str:
    match value:
        case None:
            return NOTHING
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case str():
            return value
        case _:
            return json.dumps(value)


def commands(runs: Sequence[History]) -> list[str]:
    """Return for each run the command that makes it again: each option that is not the default."""
    return [command(run) for run in runs]


def command(run: History, **changed: Any) -> str:
    """Return the command that makes a run with the options of ``run``, less those that are ``changed``."""
    arguments = _arguments({**_public(run.options), **changed})
    return shlex.join(["python", "-m", "incnet.train", *arguments])


def _arguments(options: dict[str, Any]) -> Iterator[str]:
    options = as_of_now(Config, options)
    decisive = {name: options[name] for name in ("dataset", "arch", "optimizer")}
    defaults = Config(**decisive)
    with contextlib.suppress(ConfigError):  # an architecture of another version of incnet: all its options are named
        defaults = defaults.for_objects(dataset=defaults.dataset)
    known = {
        name: value
        for name, value in options.items()
        if name in described(Config) and name not in ORIGIN and value is not None
    }
    yield from as_arguments(Config, known, vars(defaults) | {name: getattr(Config, name) for name in decisive})
