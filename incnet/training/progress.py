"""What a run shows while it goes on: live bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from incnet.training.events import Epoch, Event, Insert, Rollback, Stop, Verdict, WindowFit
from incnet.training.loop import Metrics

__all__ = ["Display"]


class Display:
    """Bars for epochs and batches with a live line on a terminal; one plain line an event elsewhere.

    Parameters
    ----------
    epochs : int
        Budget of the run.
    """

    def __init__(self, epochs: int, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.epochs = self.progress.add_task("epochs ", total=epochs, note="")
        self.batches = self.progress.add_task("batches", total=None, note="")
        self.phase = ""

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def say(self, line: str) -> None:
        """Print one line, above the bars if there are any."""
        self.console.print(line, markup=False, soft_wrap=True)

    def batch(self, done: int, metrics: Metrics) -> None:
        """Move the lower bar."""
        self.progress.update(
            self.batches,
            completed=done,
            note=f"{self.phase}  loss {metrics.loss:.3f}  accuracy {metrics.accuracy:.1%}",
        )

    def stage(self, subnetworks: int, phase: str, batches: int) -> None:
        """Say what the coming epoch is, and how many batches it has."""
        self.phase = f"{extent(subnetworks)} {phase}"
        self.progress.update(self.batches, completed=0, total=batches, note=self.phase)

    def resume(self, epochs: int) -> None:
        """Begin after so many epochs."""
        self.progress.update(self.epochs, completed=epochs)

    def event(self, event: Event) -> None:
        """Show one event."""
        self.say(describe(event))
        if isinstance(event, Epoch):
            note = f"validation {event.val_accuracy:.1%}  {event.images_per_second:,.0f} images/s"
            self.progress.update(self.epochs, completed=event.epoch, note=note)
            self.progress.update(self.batches, completed=self.progress.tasks[self.batches].total)

    def table(self, stages: list[dict]) -> None:
        """Show the end: a row for each sub-network."""
        table = Table(title="What each sub-network brought", title_justify="left")
        for heading in ("up to", "parameters", "MACs, one image", "epochs", "best validation accuracy"):
            table.add_column(heading, justify="left" if heading == "up to" else "right")
        for stage in stages:
            table.add_row(
                stage["name"],
                f"{stage['params']:,}",
                f"{stage['macs_inference'] / 1e6:,.2f} M",
                str(stage["epochs"]),
                f"{stage['val_accuracy']:.2%}",
            )
        self.console.print(table)


def extent(subnetworks: int) -> str:
    """Name the sub-networks that are in: S1, S1-S2, ..."""
    return f"S1-S{subnetworks}" if subnetworks > 1 else "S1"


def describe(event: Event) -> str:
    """One line of text for an event."""
    match event:
        case Epoch():
            return (
                f"epoch {event.epoch:3d}  {event.phase:9s}  {extent(event.subnetworks):5s}  "
                f"loss {event.train_loss:.4f}  accuracy {event.train_accuracy:6.2%}  "
                f"validation {event.val_accuracy:6.2%}  {event.images_per_second:7,.0f} images/s"
            )
        case WindowFit():
            return f"           window: {event.reason}{', grow' if event.grow else ''}"
        case Verdict():
            return f"           {event.reason}{', grow' if event.grow else ''}"
        case Insert():
            return (
                f"           insert {event.subnetwork} ({event.init}): {event.params:,} parameters, "
                f"{event.macs_inference / 1e6:.2f} M MACs an image; batches of {event.batch_size}, "
                f"learning rate {event.lr:g}"
            )
        case Rollback():
            return (
                f"           roll back to the end of epoch {event.epoch}: {event.reason}; "
                f"learning rate {event.lr:g} (retry {event.retry})"
            )
        case Stop():
            return f"           stop: {event.reason}"
