"""What there is to say of an option, said once, where it is declared.

Options are the fields of a dataclass, and :func:`option` describes them::

    lr: float | None = option("Learning rate.", group=RATE, defaults={"": 1e-4, "digits": 3e-4, "sgd": 0.1})

Help, completion and near misses take what they need from there (:mod:`incnet.commandline`), and so do resuming,
studies, reports and the documents' tables.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal

__all__ = [
    "ABSENT",
    "Option",
    "as_arguments",
    "as_of_now",
    "choose",
    "decided",
    "default_in_words",
    "described",
    "flag",
    "making_no_other",
    "one_of",
    "option",
    "spelt",
    "with_origins",
]

ABSENT: Any = object()


@dataclass(frozen=True, kw_only=True)
class Option:
    """Description of an option.

    Attributes
    ----------
    help : str
        What it does.
    group : str
        Heading in the help.
    names : tuple of str
        What it chooses among, if its type does not say that: for completion and near misses, not a limit.
    metavar : str
        What the help calls its value.
    positional : bool
        It is given by its place, without a name.
    defaults : mapping of str to value
        What None stands for, by data set, exact architecture or optimizer, or by several of them, "vgg16 rmsprop"; ""
        for any. Of several that fit the last one counts: what is general comes first, then architectures, then data
        sets.
    otherwise : str
        What it stands for if it is not given, in words, if ``defaults`` do not say.
    before : value
        What runs did before there was this option.
    on_resume : {"fixed", "may change", "may grow"}
        Whether a run may go on with another value. What may change makes no other run.
    by_name : bool
        It is about networks that incnet knows by name: one of the user's own has the general default.
    goes_with : (str, tuple of str)
        Another option, and the values of it without which this one has no effect.
    by_machine : bool
        Whether the value that it has if it is not given leaves the choice to the machine: another one may do otherwise.
    place : bool
        It says where things are, on the machine of whoever began the run.
    own : bool
        It is this run's alone: one with the same options has another value.
    code : bool
        It may name code to be run, which no file of another run may decide.
    origin : bool
        It says where values of others came from, and by itself makes no other run.
    shown : bool
        Whether it can be given. A study decides some options of its runs itself.
    old_names : tuple of str
        That it had in other versions, which config.json may hold.
    """

    help: str = ""
    group: str = "options"
    names: tuple[str, ...] = ()
    metavar: str = ""
    positional: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)
    otherwise: str = ""
    before: Any = ABSENT
    on_resume: Literal["fixed", "may change", "may grow"] = "fixed"
    by_name: bool = False
    goes_with: tuple[str, tuple[str, ...]] | None = None
    by_machine: bool = False
    place: bool = False
    own: bool = False
    origin: bool = False
    code: bool = False
    shown: bool = True
    old_names: tuple[str, ...] = ()

    def default_for(self, dataset: str, arch: str, optimizer: str) -> Any:
        """Return what None stands for, by ``defaults``; None if they do not say."""
        value = choose(self.defaults, dataset, arch, optimizer)
        return None if value is ABSENT else value


def choose(values: Mapping[str, Any], *names: str) -> Any:
    """Return the last value whose key fits: all of its words are among ``names``; ABSENT if none does."""
    fitting = [value for key, value in values.items() if set(key.split()) <= set(names)]
    return fitting[-1] if fitting else ABSENT


def option(help: str, default: Any = MISSING, *, compare: bool = True, **facts: Any) -> Any:
    """Field of a dataclass, with the description of the option that it is; see :class:`Option`."""
    return field(default=default, compare=compare, metadata={"option": Option(help=help, **facts)})


def decided(default: Any, *, compare: bool = True) -> Any:
    """Field for what cannot be given."""
    return option("", default, compare=compare, shown=False)


@functools.cache
def described(kind: type) -> Mapping[str, Option]:
    """Return the options of a dataclass by the name of their field."""
    return {each.name: each.metadata["option"] for each in fields(kind)}


def making_no_other(kind: type) -> set[str]:
    """Return the options of a run by which it is no other run: those that may change, and where things came from."""
    return {
        name
        for name, facts in described(kind).items()
        if facts.place or facts.origin or facts.on_resume == "may change"
    }


def going_with(kind: type) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return options that mean something only with certain values of another: by name, that one and its values."""
    return {
        name: facts.goes_with
        for name, facts in described(kind).items()
        if facts.goes_with is not None and getattr(kind, name) is None
    }


def as_of_now(kind: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options that a version of before wrote, as this one has them: by their names, with what was done then."""
    known = described(kind)
    before = {name: facts.before for name, facts in known.items() if facts.before is not ABSENT}
    renamed = {old: name for name, facts in known.items() for old in facts.old_names}
    return before | {renamed.get(name, name): value for name, value in options.items()}


def flag(name: str) -> str:
    """Return the option of a field as it is given: ``--batch-size``."""
    return f"--{name.replace('_', '-')}"


def default_in_words(facts: Option, default: Any) -> str:
    """Return what an option is if it is not given; "" for nothing, and for what is off."""
    if facts.otherwise:
        return facts.otherwise
    if facts.defaults:
        return "; ".join(_by_name(facts.defaults))
    if isinstance(default, bool):
        return "on" if default else ""
    if default in (MISSING, None, ()):
        return ""
    return " ".join(map(spelt, default)) if isinstance(default, tuple) else spelt(default)


def _by_name(defaults: Mapping[str, Any]) -> Iterator[str]:
    for value in dict.fromkeys(defaults.values()):
        names = [" with ".join(name.split()) for name in defaults if defaults[name] == value]
        yield spelt(value) if "" in names else f"{spelt(value)} for {one_of(names, 'and')}"


def one_of(words: Sequence[str], last: str = "or") -> str:
    """Return words as a list in a sentence: ``a, b or c``."""
    return f" {last} ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def with_origins(message: str, kind: type, origins: Mapping[str, tuple[Any, str]]) -> str:
    """Return a message that says where values of options come from that nobody has given by themselves.

    Parameters
    ----------
    origins : mapping of str to (value, str)
        Of such options by name, their values and what they are from: ``--warmup 2 (from --preset fast): choose ...``.
    """
    for name, (value, origin) in origins.items():
        named, words = re.escape(flag(name)), re.escape(str(value))
        if described(kind)[name].positional:
            named, words = words, ""
        told = rf"(?: {words})? \([^()]*from "  # already, or as an origin
        found = re.search(rf"(?<!from )(?<![\w-]){named}(?![\w-])(?!{told})(?P<value> {words}(?![\w-]))?", message)
        if found:
            said = f"{'' if found['value'] or not words else f'{value}, '}from {origin}"
            message = f"{message[: found.end()]} ({said}){message[found.end() :]}"
    return message


# A command line from values.


def as_arguments(kind: type, values: Mapping[str, Any], defaults: Mapping[str, Any]) -> Iterator[str]:
    """Yield the arguments of a command line that gives ``values``, leaving out those that are in ``defaults``."""
    for name in sorted(values, key=lambda name: not described(kind)[name].positional):
        value = values[name]
        if not described(kind)[name].shown:
            continue
        if described(kind)[name].positional:
            yield spelt(value)
        elif name in defaults and value == defaults[name]:
            continue
        elif isinstance(value, bool):
            yield flag(name if value else f"no_{name}")
        else:
            yield from (flag(name), spelt(value))


def spelt(value: Any) -> str:
    """Return a value as a command line has it."""
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
