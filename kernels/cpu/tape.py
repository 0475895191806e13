"""The calls that a function makes, noted while it runs, so that they can be repeated without its Python.

Whatever computes on arrays does so through `issue`: a plain call, which is noted as well while a `Tape` is being
written on this thread. An operation whose calls are not issued is noted as one `opaque` call.
"""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np

from .blocks import Allocation, Pool

__all__ = ["Tape", "call_by_call", "issue", "keep", "noted", "noting_kernels", "opaque", "own_pool", "unrepeatable"]


class Tape:
    """Calls in their order.

    Attributes
    ----------
    pool : Pool
        Where arrays come from while this is written, and nothing else: what a call has left in memory that was returned
        to the pool since, or will be, is safe until all calls are repeated, in the same order.
    calls : list of (function, arguments)
        What was issued.
    kept : list
        What the calls know by its address alone.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.calls: list[tuple[Callable[..., Any], Any]] = []
        self.kept: list[Any] = []

    @contextmanager
    def writing(self, *, noting: bool = True) -> Iterator[None]:
        """Note what is issued in a ``with`` block, or, if not ``noting``, just give it memory."""
        before = _NOW.tape, _NOW.noted_on
        _NOW.tape, _NOW.noted_on = self, self if noting else None
        try:
            yield
        finally:
            _NOW.tape, _NOW.noted_on = before

    def repeat(self) -> None:
        """Repeat all calls."""
        for function, arguments in self.calls:
            function(*arguments)

    def note(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Append a call."""
        self.calls.append((function, self.detached(arguments)))

    def keep(self, thing: Any) -> None:
        """Let something live as long as the tape. An array of the pool need not: its memory does."""
        if not self._of_pool(thing):
            self.kept.append(thing)

    def clear(self, calls: int = 0, kept: int = 0) -> None:
        """Drop all but the first so many calls, and things that are kept."""
        del self.calls[calls:], self.kept[kept:]

    def detached(self, argument: Any) -> Any:
        """Return an array of the pool as a view that does not own its memory; of a container, its members' views."""
        if self._of_pool(argument):
            return np.asarray(SimpleNamespace(__array_interface__=argument.__array_interface__))
        if isinstance(argument, tuple):
            members = map(self.detached, argument)
            return type(argument)(*members) if hasattr(argument, "_fields") else tuple(members)
        return [*map(self.detached, argument)] if isinstance(argument, list) else argument

    def _of_pool(self, thing: Any) -> bool:
        owner = thing
        while isinstance(owner, np.ndarray):
            owner = owner.base
        return isinstance(owner, Allocation) and owner.returned is self.pool.returned


class _Now(threading.local):
    tape: Tape | None = None
    noted_on: Tape | None = None
    kernels: dict[Any, None] | None = None


_NOW = _Now()


def own_pool() -> Pool | None:
    """Pool of the tape that is being written on this thread, if one is."""
    return None if _NOW.tape is None else _NOW.tape.pool


def issue(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function, and note the call. It leaves its results in arguments: what it returns is of this call alone."""
    if _NOW.noted_on is not None:
        _NOW.noted_on.note(function, *arguments)
    return function(*arguments)


@contextmanager
def noting_kernels() -> Iterator[dict[Any, None]]:
    """Compute nothing in a ``with`` block, on this thread; yields the kernels that are called, in their order."""
    _NOW.kernels = {}
    try:
        yield _NOW.kernels
    finally:
        _NOW.kernels = None


def noted(kernel: Any) -> bool:
    """Whether a kernel's call has been noted, and is not to be carried out."""
    if _NOW.kernels is None:
        return False
    _NOW.kernels[kernel] = None
    return True


def keep(thing: Any) -> None:
    """Let something live as long as the tape that calls are noted on, if they are."""
    if _NOW.noted_on is not None:
        _NOW.noted_on.keep(thing)


def opaque(operation: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate an operation that is noted as one opaque call; its results are copied to where the first ones were."""

    @functools.wraps(operation)
    def noted(*arguments: Any, **options: Any) -> Any:
        if _NOW.noted_on is None:
            return operation(*arguments, **options)
        return _note_opaque(_NOW.noted_on, operation, arguments, options)

    return noted


def call_by_call(operation: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate an operation that issues its calls; or else says `unrepeatable`, and is noted as one opaque call."""

    @functools.wraps(operation)
    def noted(*arguments: Any, **options: Any) -> Any:
        tape = _NOW.noted_on
        if tape is None:
            return operation(*arguments, **options)
        before = len(tape.calls), len(tape.kept)
        try:
            return operation(*arguments, **options)
        except _UnrepeatableError:
            tape.clear(*before)
            return _note_opaque(tape, operation, arguments, options)

    return noted


class _UnrepeatableError(Exception):
    pass


def unrepeatable() -> None:
    """Say that NumPy computes what follows, in calls that are not issued. Nothing has been changed so far."""
    if _NOW.noted_on is not None:
        raise _UnrepeatableError


def _note_opaque(tape: Tape, operation: Callable[..., Any], arguments: tuple, options: dict[str, Any]) -> Any:
    with tape.writing(noting=False):
        results = operation(*arguments, **options)
    call = functools.partial(operation, **{name: tape.detached(value) for name, value in options.items()})
    tape.note(_repeat_opaque, call, arguments, results)
    return results


def _repeat_opaque(operation: Callable[..., Any], arguments: tuple, results: Any) -> None:
    again = operation(*arguments)
    if isinstance(results, tuple):
        for result, new in zip(results, again, strict=True):
            np.copyto(result, new)
    elif results is not None:
        np.copyto(results, again)
