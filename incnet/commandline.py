"""A command line, and its help, from a dataclass of options; see :mod:`incnet.options`."""

from __future__ import annotations

import argparse
import inspect
import re
import shutil
import sys
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, replace
from itertools import groupby
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from incnet.names import did_you_mean
from incnet.options import Option, default_in_words, described, flag, one_of
from incnet.options_file import OptionsFileError, read_options
from incnet.terminal import BAD_INPUT, Terminal

__all__ = ["FILE", "Entry", "choices", "entries", "help_text", "make_parser", "origins", "parse", "shown_flags"]

T = TypeVar("T")
WIDEST = 100  # columns of help: longer lines are hard to read
INDENT = 24  # columns of the options' names
NARROW, LITTLE = 60, 6  # columns: of a terminal that leaves no room beside them, and of the indent there
# The option that names a file of others: not one of those that a dataclass describes, and recorded by what it brings.
FILE = "config file"
IN_FILE = (
    "Options from a file, which those of the command line go before: TOML, with lines as 'batch-size = 64', or the "
    "config.json of a run, whose options are taken, but not its folder."
)


class UsageError(Exception):
    """A command line that cannot be understood."""


def parse(kind: type[T], arguments: Sequence[str] | None, prog: str, default: T | None = None) -> T:
    """Return the options that a command line says.

    Parameters
    ----------
    kind : type
        Dataclass of described options, whose docstring is the head of the help.
    arguments : sequence of str, optional
        Those of this process, if there are none.
    prog : str
        The command, for messages.
    default : optional
        Values of options that are not given. Else they have their own, or follow from those that are given as
        ``kind.completed`` says, if it has that.

    Raises
    ------
    SystemExit
        For ``--help``, with 0; for options that are wrong or missing, with 2. All is said then.
    """
    try:
        given = _given(kind, arguments, prog).all
        if default is None and hasattr(kind, "completed"):
            given = _completed(kind, given)
    except UsageError as error:
        Terminal(stderr=True).say(f"error: {error}\nAll options: {prog} --help")
        raise SystemExit(BAD_INPUT) from None
    return kind(**given) if default is None else replace(default, **given)  # type: ignore[type-var]


def origins(kind: Any, arguments: Sequence[str] | None, prog: str) -> dict[str, tuple[Any, str]]:
    """Return what a command line that :func:`parse` has taken has from a file: values by name, and from which."""
    try:
        given = _given(kind, arguments, prog)
    except UsageError:  # the file has changed since
        return {}
    return {name: (value, str(given.file)) for name, value in given.written.items() if name not in given.typed}


class _Given(NamedTuple):
    """Values by the names of their fields: those of the command line, and those of the file that it names."""

    typed: dict[str, Any]
    written: dict[str, Any]
    file: str | None

    @property
    def all(self) -> dict[str, Any]:
        """Both; the command line goes before."""
        return self.written | self.typed


def _given(kind: type, arguments: Sequence[str] | None, prog: str) -> _Given:
    """Return the values that a command line gives."""
    options, hints = described(kind), get_type_hints(kind)
    parser = make_parser(kind, prog)
    namespace, unknown = parser.parse_known_intermixed_args(sys.argv[1:] if arguments is None else arguments)
    found = vars(namespace)
    if found.pop("help", False):
        Terminal().say(help_text(kind, prog))
        raise SystemExit(0)
    _refuse(unknown, [name for action in parser._actions for name in action.option_strings])
    file = found.pop(FILE, None)
    texts = {name: text for name, text in found.items() if text not in (None, [])}
    written = _from_file(kind, file, texts.keys())
    for each in fields(kind):
        if each.default is MISSING and each.name not in texts.keys() | written.keys():
            named = _choices(hints[each.name])
            what = f"{_call(each.name, options[each.name])} is missing"
            raise UsageError(f"{what}: choose {one_of(named)}" if named else what)
    typed = {
        name: text if isinstance(text, bool) else _converted(hints[name], text, _call(name, options[name]))
        for name, text in texts.items()
    }
    return _Given(typed, written, file)


def _completed(kind: Any, given: dict[str, Any]) -> dict[str, Any]:
    try:
        return kind.completed(given)
    except ValueError as error:
        raise UsageError(error) from error


def _refuse(unknown: Sequence[str], known: Sequence[str]) -> None:
    """Raise UsageError if there are arguments that the parser has left over; an option before its value."""
    for argument in sorted(unknown, key=lambda each: not each.startswith("-")):
        name = argument.partition("=")[0]
        if name.startswith("-"):
            raise UsageError(f"unknown option {name}{did_you_mean(name, known)}")
        raise UsageError(f"{argument} is one argument too many")


def _from_file(kind: type, file: str | None, given: Collection[str]) -> dict[str, Any]:
    """Return what the file of ``--config`` says, if there is one, beside the options that are given."""
    try:
        return read_options(kind, Path(file), given) if file is not None else {}
    except OptionsFileError as error:
        raise UsageError(f"--config: {error}") from error


def _call(name: str, option: Option) -> str:
    """Return what messages call an option."""
    return option.metavar or name.upper() if option.positional else flag(name)


# From text to values.


def _converted(kind: Any, text: Any, call: str) -> Any:
    """Return what ``text``, or a list of texts, means for an option of a type."""
    if get_origin(kind) is tuple:
        return tuple(_converted(get_args(kind)[0], each, call) for each in text)
    for alternative in _alternatives(kind):
        if alternative is NoneType:
            if text.lower() == "none":
                return None
        elif get_origin(alternative) is Literal:
            if text in get_args(alternative):
                return text
        else:
            try:
                return alternative(text)
            except ValueError:
                continue
    named, numbers = _choices(kind), {int: "a whole number", float: "a number"}
    wanted = [*named, *(words for number, words in numbers.items() if number in _alternatives(kind))]
    raise UsageError(f"{call} {text}: choose {one_of(wanted)}{did_you_mean(text, named)}")


def _alternatives(kind: Any) -> list[Any]:
    """Return the types of a union, those first that take fewer texts; of any other type itself."""
    kinds = list(get_args(kind)) if get_origin(kind) in (Union, UnionType) else [kind]
    return sorted(kinds, key=lambda each: (each in (str, Path), each is float))


def _choices(kind: Any) -> list[str]:
    return [name for each in _alternatives(kind) if get_origin(each) is Literal for name in get_args(each)]


def choices(kind: type, name: str) -> list[str]:
    """Return the values of an option that have a name, as far as they can be listed."""
    return [*dict.fromkeys([*_choices(get_type_hints(kind)[name]), *described(kind)[name].names])]


# The parser: it finds out what is given, and leaves it as text.


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(re.sub(r"^argument ([^:/]*)[^:]*: ", r"\1: ", message))


def make_parser(kind: type, prog: str) -> argparse.ArgumentParser:
    """Return a parser of the options' names, whose result holds those that are given."""
    parser = _Parser(prog=prog, add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    parser.add_argument("-h", "--help", action="store_true")
    if takes_file(kind):
        parser.add_argument("--config", dest=FILE, metavar="FILE")
    hints = get_type_hints(kind)
    for name, option in described(kind).items():
        many = get_origin(hints[name]) is tuple
        if option.positional:
            parser.add_argument(name, nargs="*" if many else "?", default=None)
        elif hints[name] is bool:
            parser.add_argument(*_flags(name, option), dest=name, action=argparse.BooleanOptionalAction)
        elif option.shown:
            parser.add_argument(*_flags(name, option), dest=name, nargs="+" if many else None)
    return parser


def takes_file(kind: type) -> bool:
    """Whether options of this kind may be given in a file, too."""
    return getattr(kind, "takes_file", False)


def _flags(name: str, option: Option) -> list[str]:
    return [flag(each) for each in (name, *option.old_names)]


def shown_flags(kind: type, name: str) -> list[str]:
    """Return how the help says that an option is given: not by its old names, nor turned off where it is off."""
    default = next(each.default for each in fields(kind) if each.name == name)
    return [flag(name), flag(f"no_{name}")] if default is True else [flag(name)]


# Help.


class Entry(NamedTuple):
    """What the help says of an option.

    Attributes
    ----------
    group : str
        The heading that it stands under.
    name : str
        Of its field.
    call : str
        How it is given, as ``--batch-size {auto,N}``.
    text : str
        What it does, with what it belongs, and what it is if it is not given.
    """

    group: str
    name: str
    call: str
    text: str


def help_text(kind: type, prog: str) -> str:
    """Return what ``--help`` says: the docstring, and options in their groups, as wide as the terminal."""
    width = min(shutil.get_terminal_size().columns, WIDEST)
    told = list(entries(kind))
    places = [entry.call for entry in told if described(kind)[entry.name].positional]
    parts = [f"usage: {' '.join([prog, *places, '[options]'])}", _paragraphs(kind, width)]
    for group, inner in groupby(told, key=lambda entry: entry.group):
        parts.append("\n".join([f"{group}:", *(_entry(entry.call, entry.text, width) for entry in inner)]))
    if takes_file(kind):
        parts.append(_entry("--config FILE", IN_FILE, width))
    parts.append(_entry("-h, --help", "Show this help.", width))
    shown = {name: option for name, option in described(kind).items() if option.shown}
    return "\n\n".join([*parts, *_on_resuming(shown, width)])


def entries(kind: type) -> Iterator[Entry]:
    """Yield what there is to say of each option that can be given, group by group."""
    options = {name: option for name, option in described(kind).items() if option.shown}
    hints, defaults = get_type_hints(kind), {each.name: each.default for each in fields(kind)}
    for group in dict.fromkeys(option.group for option in options.values()):
        names = [name for name, option in options.items() if option.group == group]
        for name in sorted(names, key=lambda name: not options[name].positional):
            call = _invocation(name, options[name], hints[name], defaults[name])
            yield Entry(group, name, call, " ".join(_told(options[name], defaults[name], options)))


def _on_resuming(options: Mapping[str, Option], width: int) -> Iterator[str]:
    if "resume" in options:
        may = {name: option.on_resume for name, option in options.items() if name != "resume"}
        grow, free = ([flag(name) for name in may if may[name] == change] for change in ("may grow", "may change"))
        text = f"With --resume, {', '.join(grow)} may grow, and {', '.join(free)} may change; all else stays as it was."
        yield textwrap.fill(text, width, break_on_hyphens=False)


def _paragraphs(kind: type, width: int) -> str:
    """Return the docstring, its paragraphs broken anew, its examples as they are."""
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(kind.__doc__ or ""))
    return "\n\n".join(
        each if each.startswith(" ") else textwrap.fill(each.replace("::", ":"), width, break_on_hyphens=False)
        for each in paragraphs
    )


def _entry(call: str, text: str, width: int) -> str:
    """Return the lines of an option: its name, and beside it, or below if it is long, what there is to say."""
    indent = INDENT if width >= NARROW else LITTLE
    lines = textwrap.wrap(text, width - indent, break_on_hyphens=False)
    head = f"  {call}"
    if len(head) > indent - 2:
        return "\n".join([head, *(" " * indent + line for line in lines)])
    return "\n".join([head.ljust(indent) + lines[0], *(" " * indent + line for line in lines[1:])])


def _invocation(name: str, option: Option, kind: Any, default: Any) -> str:
    """Return how an option is given: ``--epochs N``, ``--[no-]augment``, ``[DATASET]``."""
    many = " ..." if get_origin(kind) is tuple else ""
    if option.positional:
        place = f"{_call(name, option)}{many}"
        return place if default in (MISSING, ()) else f"[{place}]"
    if kind is bool:
        return f"--[no-]{flag(name)[2:]}" if default else flag(name)
    return f"{flag(name)} {option.metavar or _metavar(kind)}{many}"


def _metavar(kind: Any) -> str:
    words = {int: "N", float: "X", str: "TEXT", Path: "PATH"}
    if get_origin(kind) is tuple:
        return _metavar(get_args(kind)[0])
    shown = [*_choices(kind), *(words[each] for each in _alternatives(kind) if each in words)]
    return shown[0] if len(shown) == 1 else "{" + ",".join(shown) + "}"


def _told(option: Option, default: Any, options: Mapping[str, Option]) -> Iterator[str]:
    """Yield what an option does, with which of the other ``options``, and what it is if it is not given."""
    yield option.help
    other, values = option.goes_with or ("", ())
    if other in options:
        yield f"With {_call(other, options[other])} {one_of(values)}."
    if words := default_in_words(option, default):
        yield f"Default: {words}."
