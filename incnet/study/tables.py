"""What came out of a study: accuracy and cost of each arm of each network, and cost at equal accuracy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from incnet.report.arms import Spread
from incnet.report.history import Epoch, History
from incnet.report.paper import paper_accuracy

__all__ = ["Row", "as_markdown", "markdown_table", "summarise"]

Row = dict[str, Any]

EXPLANATION = """\
Accuracies are percentages; n counts finished runs, of which mean and sample deviation are given. MACs are multiply-adds
of all training steps: forward, weight gradient and input gradient, as far as each was computed. Seconds are those of
the training steps, measured, data loading included and validation not. The network is that of the last stage.
"""
EQUAL = """\
What it took until validation accuracy first reached a level, beside what the baseline took. Where not all runs of an
arm reached it, their number is given.
"""


def summarise(groups: dict[tuple[str, str], Sequence[History]], levels: Sequence[float]) -> list[Row]:
    """Return a row of JSON values for each network and arm.

    Parameters
    ----------
    groups : dict of (arch, arm) to list of History
        The finished runs of each; there may be none.
    levels : sequence of float
        Validation accuracies at which costs are compared. The highest one that all runs of a network reached, in steps
        of 0.1 %, is added.
    """
    rows = []
    for (arch, arm), runs in groups.items():
        rivals = {other: histories for (network, other), histories in groups.items() if network == arch}
        paper = paper_accuracy(runs, arm)
        rows.append(
            {
                "arch": arch,
                "arm": arm,
                "n": len(runs),
                "test_accuracy": _spread(runs, lambda run: run.test_accuracy),
                "val_accuracy": _spread(runs, lambda run: run.val_accuracy),
                "paper_test_accuracy": None if paper is None else round(paper / 100, 4),
                "epochs": _spread(runs, lambda run: len(run.epochs)),
                "macs_training": _spread(runs, lambda run: run.macs_training),
                "seconds_training": _spread(runs, lambda run: run.epochs[-1].seconds_training),
                "seconds": _spread(runs, lambda run: run.seconds),
                "macs_inference": _spread(runs, lambda run: run.epochs[-1].macs_inference),
                "params": _spread(runs, lambda run: run.epochs[-1].params),
                "at_accuracy": _at_accuracy(arm, rivals, levels),
            }
        )
    return rows


def _at_accuracy(arm: str, rivals: dict[str, Sequence[History]], levels: Sequence[float]) -> list[Row]:
    """Return the cost of reaching each level that any run of the arm has reached."""
    rows = []
    for level in sorted({*levels, *_common_level(rivals.values())}):
        reached = [run.first_with(level) for run in rivals[arm]]
        if not any(reached):
            continue
        baseline = [run.first_with(level) for run in rivals.get("baseline", ())]
        row: Row = {"val_accuracy": level, "reached": sum(epoch is not None for epoch in reached)}
        for name in ("macs_training", "seconds_training"):
            ours, theirs = _mean(reached, name), _mean(baseline, name)
            row[name] = None if ours is None else round(ours, 3)
            row[f"{name}_ratio"] = round(ours / theirs, 4) if ours is not None and theirs else None
        rows.append(row)
    return rows


def _common_level(groups: Iterable[Sequence[History]]) -> list[float]:
    """Return the highest accuracy, rounded down to 0.1 %, that all runs reached; none where an arm has no run yet."""
    groups = list(groups)
    if not all(groups):
        return []
    best = min(run.accuracy.max() for runs in groups for run in runs)
    return [int(10 * best + 1e-6) / 1000]


def _mean(epochs: Sequence[Epoch | None], name: str) -> float | None:
    """Return the mean of what the epochs have by that name; None unless every run has one."""
    values = [getattr(epoch, name) for epoch in epochs if epoch is not None]
    if not values or len(values) < len(epochs) or None in values:
        return None
    return sum(values) / len(values)


def _spread(runs: Sequence[History], value: Callable[[History], float | None]) -> Row | None:
    spread = Spread.of(value(run) for run in runs)
    return None if spread is None else {"mean": spread.mean, "deviation": spread.deviation}


# As text.


def as_markdown(title: str, rows: Sequence[Row]) -> str:
    """Return the rows as two tables."""
    results = [
        [
            row["arch"],
            row["arm"],
            str(row["n"]),
            _percent(row["test_accuracy"]),
            "" if row["paper_test_accuracy"] is None else f"{100 * row['paper_test_accuracy']:.2f}",
            _percent(row["val_accuracy"]),
            _number(row["epochs"], 1, ".4g"),
            _number(row["macs_training"], 1e12, ",.4g"),
            _number(row["seconds_training"], 1, ",.1f"),
            _number(row["macs_inference"], 1e6, ",.2f"),
            _number(row["params"], 1, ",.0f"),
        ]
        for row in rows
    ]
    heads = [
        "network",
        "arm",
        "n",
        "test accuracy",
        "in the paper",
        "best validation accuracy",
        "epochs",
        "training TMAC",
    ]
    heads += ["training seconds", "inference MMAC", "parameters"]
    parts = [f"# {title}\n", EXPLANATION, markdown_table(heads, results)]
    if equal := [_equal(row, level) for row in rows for level in row["at_accuracy"]]:
        heads = ["network", "arm", "validation accuracy", "TMAC", "of the baseline's", "seconds", "of the baseline's"]
        parts += ["## At equal accuracy\n", EQUAL, markdown_table(heads, equal)]
    return "\n".join(parts)


def _equal(row: Row, level: Row) -> list[str]:
    partly = f"reached by {level['reached']} of {row['n']}" if level["reached"] < row["n"] else ""
    return [
        row["arch"],
        row["arm"],
        f"{100 * level['val_accuracy']:.1f}",
        partly or f"{level['macs_training'] / 1e12:,.4g}",
        _ratio(level["macs_training_ratio"]),
        "" if level["seconds_training"] is None else f"{level['seconds_training']:,.1f}",
        _ratio(level["seconds_training_ratio"]),
    ]


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]], words: int = 2) -> str:
    """Return a table whose first columns hold words, all others numbers."""
    lines = [heads, ["---"] * words + ["---:"] * (len(heads) - words), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _percent(spread: Row | None) -> str:
    return _number(spread, 0.01, ".2f", deviation=True)


def _number(spread: Row | None, unit: float, form: str, *, deviation: bool = False) -> str:
    if spread is None:
        return ""
    more = f" ± {spread['deviation'] / unit:{form}}" if deviation and spread["deviation"] is not None else ""
    return f"{spread['mean'] / unit:{form}}{more}"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
