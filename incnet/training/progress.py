"""What a run shows while it goes on: live bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

from rich.box import SIMPLE_HEAD
from rich.progress import Task
from rich.table import Table

from incnet.names import up_to
from incnet.terminal import Bars, Terminal
from incnet.training.events import Epoch, Event, Freeze, Insert, Rollback, Stop, Verdict, Window
from incnet.training.loop import Metrics
from incnet.training.signals import write_line

__all__ = ["BarDisplay", "Display", "clock"]

INDENT = " " * 11  # of lines about the epoch above


class BarDisplay:
    """Bars while a ``with`` block lasts, and lines above them."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal, self.bars = terminal, Bars(terminal)

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()

    def say(self, text: str) -> None:
        """Print lines, above the bars if there are any."""
        self.terminal.say(text)

    def announce(self, text: str) -> None:
        """Say something from within a signal's handler, which may have come in the middle of a print."""
        if self.terminal.is_live:
            self.bars.notice = text  # which is drawn when the bars are, some times a second
        else:
            write_line(text)


class Display(BarDisplay):
    """Bars for epochs and batches with a live line on a terminal; one plain line an event everywhere.

    Parameters
    ----------
    epochs : int
        Budget of the run.
    terminal : Terminal, optional
        Standard output unless given.

    Attributes
    ----------
    subnetworks : sequence of str
        Names of all that there are, from the input up; a run says them.
    """

    def __init__(self, epochs: int, terminal: Terminal | None = None) -> None:
        super().__init__(terminal or Terminal())
        self.epochs = self.bars.add_task("epochs", total=epochs, facts=self._epoch_facts)
        self.batches = self.bars.add_task("batches", total=None, facts=self._batch_facts)
        self.subnetworks: Sequence[str] = ()
        self.done = 0  # epochs
        self.total = 0  # batches of an epoch
        self.pixels = 0  # of an image's side, if that changes
        self.metrics: Metrics | None = None
        self.images_per_second: float | None = None
        self.compiles = False
        self.verdict: Verdict | None = None  # and insertions one after the other: not shown yet
        self.inserted: list[Insert] = []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._show_growth()
        super().__exit__(kind, error, trace)

    def batch(self, done: int, metrics: Metrics) -> None:
        """Move the bars."""
        self.metrics = metrics
        self.bars.update(self.batches, completed=done)
        part = done / (self.total + 1)  # an epoch ends with validation
        self.bars.update(self.epochs, completed=self.done + part)

    def compiling(self, done: int, total: int) -> None:
        """Say how much of what has to be compiled is."""
        self._show_growth()
        if not self.compiles:
            self.compiles = True
            self.say("compiling kernels, once for this machine")
            self.bars.reset(self.batches, total=total, description="compiling")
        self.bars.update(self.batches, completed=done)

    def stage(self, subnetworks: int, phase: str, batches: int) -> None:
        """Say what the coming epoch is, and how many batches it has."""
        self._show_growth()
        self.metrics, self.total = None, batches
        name = f"{up_to(self.subnetworks[:subnetworks])} {PHASES.get(phase, phase)}"
        self.bars.reset(self.batches, total=batches, description=name)

    def images(self, pixels: int) -> None:
        """Say how large the images of the coming epochs are, if others were larger or smaller."""
        if pixels != self.pixels:
            self.say(f"{INDENT}images of {pixels} x {pixels} pixels")
            self.pixels = pixels

    def resume(self, epochs: int) -> None:
        """Begin after so many epochs."""
        self.done = epochs
        self.bars.update(self.epochs, completed=epochs)

    def event(self, event: Event) -> None:
        """Show one event; verdicts and insertions with the next thing that happens, insertions in a row as one."""
        if isinstance(event, Insert):
            self.inserted.append(event)
            return
        self._show_growth()
        if isinstance(event, Verdict):
            self.verdict = event
            return
        width = self.terminal.width if self.terminal.is_terminal else None
        self.say(describe(event, self.subnetworks, width))
        if isinstance(event, Epoch):
            self.done, self.images_per_second = event.epoch, event.images_per_second
            self.bars.update(self.epochs, completed=event.epoch)
            self.bars.update(self.batches, completed=self.total)

    def _show_growth(self) -> None:
        """Show what a rule has said, and what was inserted: a stage may be over, and nothing grow, as the run ends."""
        (verdict, self.verdict), (events, self.inserted) = (self.verdict, None), (self.inserted, [])
        why = events[-1].reason if events else ""
        over = f"{INDENT}{why}"
        if verdict and verdict.reason == why:
            over = describe(verdict, self.subnetworks)
        elif verdict:
            self.say(describe(verdict, self.subnetworks))
        if why:
            self.say(f"{over}, grow")
        if not events:
            return
        last = events[-1]  # which has the numbers of the network as it is now
        names = up_to([event.subnetwork for event in events])
        inits = ", ".join(dict.fromkeys(event.init for event in events))
        self.say(describe(replace(last, subnetwork=names, init=inits), self.subnetworks))

    def _epoch_facts(self, task: Task) -> list[str]:
        pace = [] if self.images_per_second is None else [f"{self.images_per_second:,.0f} images/s"]
        return [f"{clock(task.time_remaining)} left", f"{clock(task.elapsed)} elapsed", *pace]

    def _batch_facts(self, task: Task) -> list[str]:
        if self.metrics is None:
            return []
        return [
            f"loss {self.metrics.loss:.4f}",
            f"accuracy {self.metrics.accuracy:6.1%}",
            f"{clock(task.time_remaining)} left",
        ]

    def table(self, stages: list[dict]) -> None:
        """Show the end: a row for each sub-network."""
        table = Table(title="Contribution of each sub-network", title_justify="left", box=SIMPLE_HEAD)
        for heading in ("network", "parameters", "MACs/image", "epochs", "validation"):
            left = heading == "network"
            table.add_column(heading, justify="left" if left else "right", overflow="fold", no_wrap=not left)
        for stage in stages:
            table.add_row(
                up_to(self.subnetworks[: self.subnetworks.index(stage["name"]) + 1]),
                f"{stage['params']:,}",
                f"{stage['macs_inference'] / 1e6:,.2f} M",
                str(stage["epochs"]),
                f"{stage['val_accuracy']:.2%}" if stage["epochs"] else "-",
            )
        self.terminal.print()
        self.terminal.show(table)


PHASES = {"lookahead": "look-ahead"}


def clock(seconds: float | None) -> str:
    """Return a time as 0:00:17."""
    if seconds is None:
        return "-:--:--"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def describe(event: Event, subnetworks: Sequence[str], width: int | None = None) -> str:
    """One line of text for an event of a run with these sub-networks; of an epoch, what fits into ``width`` columns."""
    match event:
        case Epoch():
            return _describe_epoch(event, subnetworks, width)
        case Window():
            return f"{INDENT}window: {event.reason}"
        case Verdict():
            return f"{INDENT}{event.reason}"
        case Insert():
            return (
                f"{INDENT}insert {event.subnetwork} ({event.init}): {event.params:,} parameters, "
                f"{event.macs_inference / 1e6:.2f} M MACs per image; batches of {event.batch_size}, "
                f"learning rate {event.lr:g}"
            )
        case Freeze():
            return f"{INDENT}{up_to(subnetworks[: event.subnetworks])} frozen for good"
        case Rollback():
            return (
                f"{INDENT}roll back to the end of epoch {event.epoch}: {event.reason}; "
                f"learning rate {event.lr:g} (retry {event.retry})"
            )
        case Stop():
            return f"{INDENT}stop: {event.reason}"


def _describe_epoch(event: Epoch, subnetworks: Sequence[str], width: int | None) -> str:
    widest = max(len("S1-S3"), *(len(up_to(subnetworks[:count])) for count in range(1, len(subnetworks) + 1)))
    extent = up_to(subnetworks[: event.subnetworks]).ljust(widest)
    what = f"epoch {event.epoch:3d}  {extent} {PHASES.get(event.phase, event.phase):10s}"
    loss = f"loss {event.train_loss:.4f}"
    accuracy = f"accuracy {event.train_accuracy:7.2%}"
    validation = f"validation {event.val_accuracy:7.2%}"
    pace = f"{event.images_per_second:7,.0f} images/s"
    choices = [
        [what, loss, accuracy, validation, pace],
        [what, loss, accuracy, validation],
        [what, loss, validation],
        [what, validation],
    ]
    lines = ["  ".join(fields) for fields in choices]
    return next((line for line in lines if width is None or len(line) <= width), lines[-1])
