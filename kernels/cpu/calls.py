"""The calls that a function makes, recorded while it runs, so that they can be replayed without its Python.

Whatever computes on arrays does so through `issue`: a plain call, which is recorded as well while a `CallList` is being
written on this thread. An operation whose calls are not issued is recorded as one `opaque` call.
"""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np

from .blocks import Allocation, Pool

__all__ = [
    "CallList",
    "collected",
    "collecting_kernels",
    "issue",
    "keep",
    "not_replayable",
    "opaque",
    "own_pool",
    "replayable",
]


class CallList:
    """Calls in their order.

    Attributes
    ----------
    pool : Pool
        Where arrays come from while this is written, and nothing else: what a call has left in memory that was returned
        to the pool since, or will be, is safe until all calls are replayed, in the same order.
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
    def recording(self, *, calls: bool = True) -> Iterator[None]:
        """Record what is issued in a ``with`` block, or, if not its ``calls``, just give it memory."""
        before = _NOW.memory_of, _NOW.recorded_by
        _NOW.memory_of, _NOW.recorded_by = self, self if calls else None
        try:
            yield
        finally:
            _NOW.memory_of, _NOW.recorded_by = before

    def replay(self) -> None:
        """Make all calls again."""
        for function, arguments in self.calls:
            function(*arguments)

    def append(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Append a call."""
        self.calls.append((function, self.detached(arguments)))

    def keep(self, thing: Any) -> None:
        """Let something live as long as the list. An array of the pool need not: its memory does."""
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
    memory_of: CallList | None = None
    recorded_by: CallList | None = None
    kernels: dict[Any, None] | None = None


_NOW = _Now()


def own_pool() -> Pool | None:
    """Pool of the list that is being written on this thread, if one is."""
    return None if _NOW.memory_of is None else _NOW.memory_of.pool


def issue(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function, and record that. It leaves its results in arguments: what it returns is of this call alone."""
    if _NOW.recorded_by is not None:
        _NOW.recorded_by.append(function, *arguments)
    return function(*arguments)


@contextmanager
def collecting_kernels() -> Iterator[dict[Any, None]]:
    """Compute nothing in a ``with`` block, on this thread; yields the kernels that are called, in their order."""
    _NOW.kernels = {}
    try:
        yield _NOW.kernels
    finally:
        _NOW.kernels = None


def collected(kernel: Any) -> bool:
    """Whether kernels are just collected, as this one has been: its call is not to be carried out."""
    if _NOW.kernels is None:
        return False
    _NOW.kernels[kernel] = None
    return True


def keep(thing: Any) -> None:
    """Let something live as long as the list that calls are recorded in, if they are."""
    if _NOW.recorded_by is not None:
        _NOW.recorded_by.keep(thing)


def opaque(operation: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate an operation that is recorded as one opaque call; its results are copied to where the first were."""

    @functools.wraps(operation)
    def recorded(*arguments: Any, **options: Any) -> Any:
        if _NOW.recorded_by is None:
            return operation(*arguments, **options)
        return _record_opaque(_NOW.recorded_by, operation, arguments, options)

    return recorded


def replayable(operation: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate an operation that issues its calls; or says `not_replayable`, and is recorded as an opaque call."""

    @functools.wraps(operation)
    def recorded(*arguments: Any, **options: Any) -> Any:
        recorded_by = _NOW.recorded_by
        if recorded_by is None:
            return operation(*arguments, **options)
        before = len(recorded_by.calls), len(recorded_by.kept)
        try:
            return operation(*arguments, **options)
        except _NotReplayableError:
            recorded_by.clear(*before)
            return _record_opaque(recorded_by, operation, arguments, options)

    return recorded


class _NotReplayableError(Exception):
    pass


def not_replayable() -> None:
    """Say that NumPy computes what follows, in calls that are not issued. Nothing has been changed so far."""
    if _NOW.recorded_by is not None:
        raise _NotReplayableError


def _record_opaque(calls: CallList, operation: Callable[..., Any], arguments: tuple, options: dict[str, Any]) -> Any:
    with calls.recording(calls=False):
        results = operation(*arguments, **options)
    call = functools.partial(operation, **{name: calls.detached(value) for name, value in options.items()})
    calls.append(_replay_opaque, call, arguments, results)
    return results


def _replay_opaque(operation: Callable[..., Any], arguments: tuple, results: Any) -> None:
    again = operation(*arguments)
    if isinstance(results, tuple):
        for result, new in zip(results, again, strict=True):
            np.copyto(result, new)
    elif results is not None:
        np.copyto(results, again)
