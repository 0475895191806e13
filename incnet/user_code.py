"""Python code of the user's own: a function that makes a network, a class of layers.

It is run because the user names it, as ``FILE.py`` or as a module, and never because some file does. Where several
things are in it, ``FILE.py:NAME`` and ``MODULE:NAME`` name one.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from types import ModuleType
from typing import Any

from incnet.names import did_you_mean

__all__ = [
    "Trust",
    "UserCodeError",
    "absolute",
    "class_finder",
    "file_name",
    "find_function",
    "is_place",
    "place_of",
    "short",
    "source_of",
    "told",
]

# What the user trusts to be run: classes, and files and modules that they are in.
Trust = str | Path | type | Sequence[str | Path | type]


class UserCodeError(Exception):
    """Code of the user's own is missing, or fails; the message is one line that says where."""


# Names of places.


def is_place(text: str) -> bool:
    """Whether a text has the form of ``FILE.py:NAME`` or ``MODULE:NAME``."""
    source, _, name = text.rpartition(":")
    return name.isidentifier() and (_is_file(source) or all(part.isidentifier() for part in source.split(".")))


def absolute(place: str) -> str:
    """Return a place with the whole path of its file: it may be looked for from another folder."""
    source, _, name = place.rpartition(":")
    return f"{Path(source).absolute()}:{name}" if _is_file(source) else place


def place_of(function: Callable[..., Any]) -> str:
    """Return a place for a function that was given as an object: it says what it is, and need not be found there."""
    name = getattr(function, "__name__", type(function).__name__)
    module = getattr(function, "__module__", None) or "__main__"
    return f"{module if is_place(f'{module}:x') else '__main__'}:{name if name.isidentifier() else 'network'}"


def short(place: str) -> str:
    """Return a place without the folders that its file is in; any other text as it is."""
    return PurePath(place).name if is_place(place) else place


def file_name(place: str) -> str:
    """Return a place as the name of a file or folder may have it, ``net-network``; any other text as it is."""
    return short(place).replace(".py:", "-").replace(":", "-")


def source_of(place: str) -> str:
    """Return the file or module of a place."""
    return place.rpartition(":")[0]


def _is_file(source: str) -> bool:
    return source.endswith(".py")


# Running it.


def find_function(place: str) -> Callable[..., Any]:
    """Return the function that a place names; what is around it is run.

    Raises
    ------
    UserCodeError
        If it is not there, or what is around it fails.
    """
    source, _, name = place.rpartition(":")
    module = load(source)
    function = getattr(module, name, None)
    if not callable(function):
        there = "is no function" if function is not None else "is not there"
        functions = [other for other, value in vars(module).items() if inspect.isfunction(value)]
        raise UserCodeError(f"{name} {there} in {source}{did_you_mean(name, functions)}")
    return function


def class_finder(trust: Trust, base: type) -> Callable[[str], type]:
    """Return what finds a class, given a name such as ``net:Swish``, in what the user trusts, and nowhere else.

    It is found by the name behind the colon; files and modules are run when the first class is asked for. It raises
    ValueError if there is none that is derived from ``base``.
    """
    sources = [trust] if isinstance(trust, str | Path | type) else list(trust)
    run = functools.cache(load)

    def find(name: str) -> type:
        if not sources:
            raise ValueError(
                f"it names a class that is none of incnet's, {name!r:.60}; if you trust it, say in which file or "
                "module it is: --trust FILE.py, or in Python trust"
            )
        found = [kind for source in sources if (kind := _class_in(source, name, run)) and issubclass(kind, base)]
        if not found:
            raise ValueError(f"class {name!r:.80} is not in what is trusted, {', '.join(map(_named, sources)):.80}")
        return next((kind for kind in found if f"{kind.__module__}:{kind.__qualname__}" == name), found[0])

    return find


def _class_in(source: str | Path | type, name: str, run: Callable[[str], ModuleType]) -> type | None:
    """Return the class of the name behind the colon, if a source is it or has it."""
    wanted = name.partition(":")[2]
    found: Any = source
    if not isinstance(source, type):
        try:
            found = run(str(source))
        except UserCodeError as error:
            raise ValueError(f"trust {source}: {error}") from error
        for part in wanted.split("."):
            found = getattr(found, part, None)
    return found if isinstance(found, type) and found.__qualname__ == wanted else None


def _named(source: str | Path | type) -> str:
    return source.__qualname__ if isinstance(source, type) else str(source)


def load(source: str) -> ModuleType:
    """Run ``FILE.py``, or import a module; either may import what lies beside it.

    Raises
    ------
    UserCodeError
        If it is not there, or fails: in which line.
    """
    return _load_file(Path(source)) if _is_file(source) else _load_module(source)


def _load_file(path: Path) -> ModuleType:
    module = ModuleType(path.stem)
    module.__file__ = str(path)
    try:
        text = path.read_bytes()
    except OSError as error:
        meant = "" if path.exists() else did_you_mean(path.name, (each.name for each in path.parent.glob("*.py")))
        raise UserCodeError(f"cannot read {path}: {error.strerror or error}{meant}") from error
    with _importable(path.parent), told(str(path)):
        exec(compile(text, str(path), "exec"), vars(module))
    return module


def _load_module(name: str) -> ModuleType:
    with _importable(Path()), told(name):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise
            raise UserCodeError(f"there is no module {name}{did_you_mean(error.name, _beside(error.name))}") from error


def _beside(module: str) -> Iterator[str]:
    """Yield the modules that are in the package of another one, or in this folder if that is in none."""
    package = module.rpartition(".")[0]
    folders = getattr(sys.modules.get(package), "__path__", []) if package else [str(Path())]
    return (f"{package}.{found.name}" if package else found.name for found in pkgutil.iter_modules(folders))


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let modules in ``folder`` be found in a ``with`` block."""
    sys.path.insert(0, str(folder.absolute()))
    try:
        yield
    finally:
        sys.path.remove(str(folder.absolute()))


@contextmanager
def told(what: str) -> Iterator[None]:
    """Let whatever is raised in a ``with`` block be a UserCodeError: of ``what``, in one line, with the line's number.

    The line is the last one in the first file that is not incnet's.
    """
    try:
        yield
    except UserCodeError:
        raise
    except (Exception, SystemExit) as error:
        words = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserCodeError(f"{what}{_line(error)}: {words:.200}") from error


def _line(error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.lineno is not None:
        return f", line {error.lineno}"
    ours = str(Path(__file__).parent)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    own = [frame for frame in frames if not frame.filename.startswith(ours)]
    lines = [frame.lineno for frame in own if frame.filename == own[0].filename]
    return f", line {lines[-1]}" if lines else ""
