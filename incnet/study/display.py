"""What a study shows: how far its runs are, the plan of a dry run, and the results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from incnet.report.numbers import duration, engineering
from incnet.study.folder import Run

__all__ = ["Display", "plan_table", "results_table"]


class Display:
    """A bar for each run at work on a terminal, and a line when one begins and ends."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.completed:.0f}/{task.total:.0f} epochs"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._sizes: dict[str, int] = {}

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def say(self, line: str) -> None:
        """Print one line, above the bars."""
        self.console.print(line, markup=False, soft_wrap=True)

    def follow(self, run: Run) -> None:
        """Move the run's bar to where it is; the first time that it has grown, say that it is at work."""
        name, metrics = run.planned.name, run.path / "metrics.jsonl"
        size = metrics.stat().st_size if metrics.exists() else 0
        if size == self._sizes.setdefault(name, size):
            return
        self._sizes[name] = size
        epochs = _count_epochs(metrics)
        if name not in self._tasks:
            self.say(f"{name}: at work")
            self._tasks[name] = self.progress.add_task(name, total=run.planned.config.epochs)
        self.progress.update(self._tasks[name], completed=epochs)

    def end(self, run: Run) -> None:
        """Say how a run ended."""
        name, history = run.planned.name, run.history
        if name in self._tasks:
            self.progress.remove_task(self._tasks.pop(name))
        if run.status == "finished" and history is not None and history.test_accuracy is not None:
            self.say(
                f"{name}: finished after {len(history.epochs)} epochs in {duration(history.seconds)}, "
                f"test accuracy {history.test_accuracy:.2%}"
            )
        elif run.status == "failed":
            self.say(f"{name}: failed: {run.reason}")
        else:
            self.say(f"{name}: stopped after {run.epochs} epochs")


def _count_epochs(metrics: Path) -> int:
    return metrics.read_bytes().count(b'{"event": "epoch"')


def plan_table(runs: Sequence[Run], estimates: dict[tuple[str, str], Any]) -> Table:
    """Return a row for each run: what it is at, and what it would take in all; estimates are by (arch, arm)."""
    table = Table(title="What would run", title_justify="left")
    for heading in ("run", "now", "epochs", "MACs", "time", "from"):
        table.add_column(heading, justify="right" if heading in ("epochs", "MACs", "time") else "left", no_wrap=True)
    macs = seconds = 0.0
    for run in runs:
        config, history = run.planned.config, run.history
        if run.status == "finished" and history is not None:
            spent = history.epochs[-1].seconds_training
            took = ("measured", history.macs_training, spent if spent is not None else history.seconds)
            epochs = str(len(history.epochs))
        else:
            took = estimates[run.planned.arch, run.planned.arm]
            macs, seconds, epochs = macs + took[1], seconds + took[2], f"\N{LESS-THAN OR EQUAL TO} {config.epochs}"
        at = f"after epoch {run.epochs}" if run.status == "unfinished" else run.status
        table.add_row(run.planned.name, at, epochs, engineering(took[1]), duration(took[2]), took[0])
    table.add_section()
    table.add_row("to do", "", "", engineering(macs), duration(seconds), "")
    return table


def results_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Return the results in short."""
    table = Table(title="Means over finished runs", title_justify="left")
    for heading in ("network", "arm", "n", "test, %", "paper, %", "MACs", "time"):
        table.add_column(heading, justify="left" if heading in ("network", "arm") else "right", no_wrap=True)
    for row in rows:
        test, paper = row["test_accuracy"], row["paper_test_accuracy"]
        table.add_row(
            row["arch"],
            row["arm"],
            str(row["n"]),
            f"{100 * test['mean']:.2f}" if test else "",
            f"{100 * paper:.2f}" if paper else "",
            engineering(_mean(row["macs_training"])),
            duration(_mean(row["seconds_training"])),
        )
    return table


def _mean(spread: dict[str, float] | None) -> float | None:
    return spread["mean"] if spread else None
