"""Dataclasses from untrusted JSON: every key and every type is checked, and nothing else is built."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import unicodedata
from dataclasses import field, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

import numpy as np

__all__ = ["can_be_path", "check_depth", "from_json", "later", "parse_json", "to_json", "type_hints"]

LATER = "later"


def later(default: Any) -> Any:
    """Field of a dataclass that JSON from before it was added lacks, and then has this value."""
    return field(default=default, metadata={LATER: True})


def parse_json(text: bytes) -> Any:
    """Return the value that ``text`` spells in UTF-8.

    Raises
    ------
    ValueError
        It spells none, or NaN, or an infinity, or is nested too deeply.
    """
    try:
        return json.loads(text.decode("utf-8"), parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeDecodeError as error:
        raise ValueError("it is no text in UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(_why_none(error) if text.strip() else "it is empty") from error


def _why_none(error: json.JSONDecodeError) -> str:
    place = f"line {error.lineno}, column {error.colno}" if "\n" in error.doc.strip() else f"column {error.colno}"
    return f"it is no JSON: {error.msg[0].lower()}{error.msg[1:]} at {place}"


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def can_be_path(text: str) -> bool:
    """Whether the system can take ``text`` for a path, and a terminal can show it: it holds no control characters.

    Everything else that a person can name a folder may be in it: spaces of any width, joiners, and bytes that spell no
    character, which Python gives as lone surrogates.
    """
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return not any(unicodedata.category(character) == "Cc" for character in text)


def from_json(kind: Any, value: Any, name: str) -> Any:
    """Return ``value``, as JSON gives it, as a ``kind``.

    Parameters
    ----------
    kind : type
        A dataclass, list, tuple of any length, dict with texts for keys, Literal, Path, str, bool, int or float, or one
        of several of these, or None; Any takes every value, for somebody else to check.
    value
        Made of dict, list, str, int, float, bool and None.
    name : str
        What messages call the value.

    Raises
    ------
    ValueError
        Naming the first value of another type, or key that is unknown or missing.
    """
    if kind is Any:
        return value
    if is_dataclass(kind):
        return _dataclass(kind, value, name)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        if value is None and NoneType in arguments:
            return None
        *others, last = (argument for argument in arguments if argument is not NoneType)
        for other in others:
            with contextlib.suppress(ValueError):
                return from_json(other, value, name)
        return from_json(last, value, name)
    if origin is Literal:
        if not any(value == choice and type(value) is type(choice) for choice in arguments):
            raise ValueError(f"{name} is {value!r:.80}, expected one of {', '.join(map(repr, arguments))}")
        return value
    if origin in (list, tuple):
        if type(value) is not list:
            raise ValueError(f"{name} is {value!r:.80}, expected a list")
        return origin(from_json(arguments[0], item, f"{name}[{i}]") for i, item in enumerate(value))
    if origin is dict:
        if type(value) is not dict:
            raise ValueError(f"{name} is {value!r:.80}, expected an object")
        return {key: from_json(arguments[1], item, f"{name}.{key:.80}") for key, item in value.items()}
    return _plain(kind, value, name)


def check_depth(value: Any, most: int) -> None:
    """Raise ValueError if a value, as JSON gives it, has objects and lists in each other more than ``most`` deep."""
    inner = value.values() if type(value) is dict else value if type(value) is list else ()
    if inner and not most:
        raise ValueError("nested too deeply")
    for each in inner:
        check_depth(each, most - 1)


def to_json(value: Any, name: str) -> Any:
    """Return ``value`` as JSON has it: NumPy's numbers as Python's own, arrays and tuples as lists.

    Parameters
    ----------
    name : str
        What messages call the value.

    Raises
    ------
    TypeError
        Naming the first value that JSON has not: NaN, infinity, a key that is no text, any other object.
    """
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {str(key): to_json(item, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item, f"{name}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise TypeError(f"{name} is {value}, expected a finite number")
    if not isinstance(value, str | bool | int | float | NoneType):
        raise TypeError(f"{name} is {value!r:.80}, which JSON has not")
    return value


def _dataclass(kind: Any, value: Any, name: str) -> Any:
    if type(value) is not dict:
        raise ValueError(f"{name} is {value!r:.80}, expected an object")
    names = [each.name for each in fields(kind) if each.init]
    if unknown := sorted(value.keys() - set(names)):
        raise ValueError(f"{name} has {unknown[0]!r:.80}, which is unknown")
    value = {each.name: each.default for each in fields(kind) if each.metadata.get(LATER)} | value
    if missing := [key for key in names if key not in value]:
        raise ValueError(f"{name} lacks {', '.join(missing)}")
    hints = type_hints(kind)
    return kind(**{key: from_json(hints[key], value[key], f"{name}.{key}") for key in names})


@functools.cache
def type_hints(kind: Any) -> dict[str, Any]:
    """Return the types of a class's fields by name: evaluated once, and not while a file is read."""
    return get_type_hints(kind)


def _plain(kind: Any, value: Any, name: str) -> Any:
    wanted = str if kind is Path else kind
    if wanted is float and type(value) is int:
        value = float(value) if abs(value) < 2**1000 else math.inf
    if type(value) is not wanted:
        raise ValueError(f"{name} is {value!r:.80}, expected {wanted.__name__}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} is {value}, expected a finite number")
    if kind is Path and not can_be_path(value):
        raise ValueError(f"{name} is {value!r:.80}, which can be no path; choose one without control characters")
    return kind(value)
