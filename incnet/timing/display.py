"""What a measurement by turns shows on a terminal while it goes on: a bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from incnet.terminal import Terminal

__all__ = ["progress"]


@contextmanager
def progress(terminal: Terminal, settings: int, rounds: int) -> Iterator[Callable[[], None]]:
    """Show a bar in a ``with`` block; yields what is to be called after each turn."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=terminal,
        disable=not terminal.is_live,
        transient=True,
    )
    first = bar.add_task("kernels are compiled on first use", total=settings)
    rest = None
    turns = 0

    def after_turn() -> None:
        nonlocal turns, rest
        turns += 1
        if turns < settings:
            bar.update(first, completed=turns)
            return
        if rest is None:
            bar.remove_task(first)
            rest = bar.add_task("", total=rounds * settings)
        done = turns - settings
        which = min(done // settings + 1, rounds)
        bar.update(rest, completed=done, description=f"round {which} of {rounds}")

    with bar:
        yield after_turn
