"""Options from a file: TOML, or what another run was begun with, its ``config.json``."""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from incnet.checked_json import from_json, parse_json, type_hints
from incnet.names import did_you_mean
from incnet.options import as_of_now, described, flag
from incnet.user_code import is_place

__all__ = ["OptionsFileError", "read_options"]

MOST_BYTES = 2**20


class OptionsFileError(Exception):
    """A file of options cannot be read, or holds something else."""


def read_options(kind: type, path: Path, given: Collection[str] = ()) -> dict[str, Any]:
    """Return the options of a dataclass that a file gives, by the names of their fields.

    Parameters
    ----------
    kind : type
        Dataclass of described options; see :mod:`incnet.options`.
    path : Path
        With ``name = value`` a line, in TOML, hyphens or underscores in the names; or a JSON object of options, which
        may be the ``config`` of a run's ``config.json``. Of that, what is that run's own is left out, and code is not
        run because of it.
    given : collection of str
        Options that go before those of the file.

    Raises
    ------
    OptionsFileError
        Naming the first option that is unknown or has a value of another type.
    """
    content = _content(path)
    if isinstance(content.get("config"), dict):
        known = described(kind)
        options = as_of_now(kind, content["config"])
        content = {name: value for name, value in options.items() if name not in known or not known[name].own}
        content = {name: value for name, value in content.items() if name not in known or known[name].shown}
        for name, value in content.items():
            if name in known and known[name].code and name not in given and is_place(str(value)):
                raise OptionsFileError(
                    f"{path}: the network of that run is made by code, {value!r:.200}; if you trust it, name it here "
                    f"too, by {flag(name)}"
                )
    return dict(_option(kind, path, name, value) for name, value in content.items())


def _content(path: Path) -> dict[str, Any]:
    readers = {".toml": lambda text: tomllib.loads(text.decode("utf-8")), ".json": parse_json}
    if path.suffix not in readers:
        raise OptionsFileError(f"{path}: choose a file of options, .toml, or a run's config.json")
    try:
        with open(path, "rb") as file:
            text = file.read(MOST_BYTES + 1)
        content = readers[path.suffix](text) if len(text) <= MOST_BYTES else None
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise OptionsFileError(f"{path} cannot be read: {reason}") from error
    if not isinstance(content, dict):
        raise OptionsFileError(f"{path} holds no options: expected names with values, in at most {MOST_BYTES:,} bytes")
    return content


def _option(kind: type, path: Path, given: str, value: Any) -> tuple[str, Any]:
    """Return the field's name and value of an option that a file gives."""
    known = {name: facts for name, facts in described(kind).items() if facts.shown}
    names = {old: name for name, facts in known.items() for old in (name, *facts.old_names)}
    name = names.get(given.replace("-", "_"))
    if name is None:
        raise OptionsFileError(f"{path}: unknown option {given!r:.80}{did_you_mean(given, map(_spelling, known))}")
    try:
        return name, from_json(type_hints(kind)[name], value, flag(name))
    except ValueError as error:
        raise OptionsFileError(f"{path}: {error}") from error


def _spelling(name: str) -> str:
    return flag(name)[2:]
