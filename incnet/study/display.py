"""What a study shows: how far its runs are, the plan of a dry run, and the results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.progress import Task, TaskID
from rich.table import Table

from incnet.names import counted
from incnet.report.numbers import duration, engineering
from incnet.study.folder import StudyRun
from incnet.terminal import Terminal
from incnet.training.progress import BarDisplay, clock

__all__ = ["StudyDisplay", "make_table", "plan_table", "results_table"]


class StudyDisplay(BarDisplay):
    """A bar for each run at work on a terminal, and a line when one begins and ends."""

    def __init__(self, terminal: Terminal) -> None:
        super().__init__(terminal)
        self._tasks: dict[str, TaskID] = {}
        self._sizes: dict[str, int] = {}

    def follow(self, run: StudyRun) -> None:
        """Move the run's bar to where it is; the first time that it has grown, say that it is at work."""
        name, metrics = run.planned.name, run.path / "metrics.jsonl"
        size = metrics.stat().st_size if metrics.exists() else 0
        if size == self._sizes.setdefault(name, size):
            return
        self._sizes[name] = size
        epochs = _count_epochs(metrics)
        if name not in self._tasks:
            self.say(f"{name}: at work")
            self._tasks[name] = self.bars.add_task(name, total=run.planned.config.epochs, facts=_times)
        self.bars.update(self._tasks[name], completed=epochs)

    def end(self, run: StudyRun) -> None:
        """Say how a run ended."""
        name, history = run.planned.name, run.history
        if name in self._tasks:
            self.bars.remove_task(self._tasks.pop(name))
        if run.status == "finished" and history is not None:
            took = f"{counted(len(history.epochs), 'epoch')} in {duration(history.seconds)}"
            tested = history.test_accuracy is not None
            kind, accuracy = ("test", history.test_accuracy) if tested else ("validation", history.val_accuracy)
            self.say(f"{name}: finished after {took}, {kind} accuracy {accuracy:.2%}")
        elif run.status == "failed":
            self.say(f"{name}: failed: {run.reason}")
        else:
            self.say(f"{name}: stopped after {counted(run.epochs, 'epoch')}")


def _times(task: Task) -> list[str]:
    return [f"{clock(task.time_remaining)} left", f"{clock(task.elapsed)} elapsed"]


def _count_epochs(metrics: Path) -> int:
    return metrics.read_bytes().count(b'{"event": "epoch"')


def plan_table(runs: Sequence[StudyRun], estimates: dict[tuple[str, str], tuple[float, float]]) -> Table:
    """Return a row for each run: what it is at, and what it would take in all.

    Parameters
    ----------
    estimates : dict of (arch, arm) to (MACs, seconds)
        Of runs that are not finished.
    """
    table = make_table("What would run", ("network", "arm", "seed", "state", "epochs", "MACs", "time"), left=("state",))
    macs = seconds = 0.0
    for run in runs:
        config, history = run.planned.config, run.history
        if run.status == "finished" and history is not None:
            spent = history.epochs[-1].seconds_training
            took: tuple[float, float] = history.macs_training, spent if spent is not None else history.seconds
        else:
            took = estimates[run.planned.arch, run.planned.arm]
            macs, seconds = macs + took[0], seconds + took[1]
        planned, epochs = run.planned, f"{run.epochs}/{config.epochs}"
        costs = engineering(took[0]), duration(took[1])
        table.add_row(planned.arch, planned.arm, str(planned.seed), run.status, epochs, *costs)
    table.add_section()
    table.add_row("to do", "", "", "", "", engineering(macs), duration(seconds))
    return table


def make_table(title: str, headings: Sequence[str], left: Sequence[str] = ()) -> Table:
    """Return a table without rows; columns of numbers, which most are, stand to the right."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in headings:
        justify: Literal["left", "right"] = "left" if heading in ("network", "arm", *left) else "right"
        table.add_column(heading, justify=justify, overflow="fold")
    return table


def results_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Return the results in short."""
    table = make_table("Means over finished runs", ("network", "arm", "n", "test, %", "paper, %", "MACs", "time"))
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
