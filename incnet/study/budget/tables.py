"""What a study of budgets found, as JSON, as Markdown and for a terminal."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from incnet.report.interval import Interval, accuracy_interval
from incnet.report.numbers import NOTHING
from incnet.study.budget.compare import Comparison, compare
from incnet.study.budget.curves import Cost, Curve
from incnet.study.display import make_table
from incnet.study.tables import markdown_table

__all__ = ["as_markdown", "as_tables", "summarise"]

Row = dict[str, Any]
COSTS: tuple[Cost, ...] = ("macs", "seconds")

EXPLANATION = """\
Accuracies are percentages, {accuracy}; n counts seeds, and intervals are of 95 % (Student's; there is none for one
seed). MACs are multiply-adds of training, recalibration and validation. {seconds}
"""
ACCURACIES = {
    "validation": "of the last epoch on the validation images, whatever was better before",
    "test": "of the best epoch's weights on the test images",
}
MEASURED = """\
Seconds are those of the same, each kind of step, validation and recalibration measured in turns with all others on one
machine ({where}): how often each came, times its median."""
NOT_MEASURED = "Seconds were not measured."
COMPARED = """\
Seeds are paired. The difference is in percentage points at equal cost, that of the arm at that budget, with Student's
interval. The ratio is that of the costs at equal accuracy, with an interval from resampled seeds; with three to five
seeds that is narrower than it should be. Between budgets the other arm's curve is linear in the logarithm of the cost;
beyond them nothing is claimed, and a dash stands there; or, where the other arm has that accuracy for none of its
budgets, the ratio to its longest, with <. A number without an interval has too few seeds for one, or resamples of them
to which nothing corresponds.
"""


def summarise(networks: Mapping[tuple[str, str], Sequence[Curve]], against: Sequence[str]) -> list[Row]:
    """Return for each network, as JSON values, the arms' points, and how they compare with those of ``against``."""
    return [
        {
            "dataset": dataset,
            "arch": arch,
            "points": [_point(curve, epochs) for curve in curves for epochs in curve.budgets],
            "comparisons": list(_comparisons(curves, against)),
        }
        for (dataset, arch), curves in networks.items()
    ]


def _point(curve: Curve, epochs: int) -> Row:
    points = curve.at(epochs)
    accuracies = [point.accuracy for point in points]
    seconds = [point.seconds for point in points if point.seconds is not None]
    return {
        "arm": curve.name,
        "epochs": epochs,
        "n": len(points),
        "accuracy": statistics.fmean(accuracies),
        "accuracy_interval": _interval(accuracy_interval(accuracies)),
        "macs": statistics.fmean(point.macs for point in points),
        "seconds": statistics.fmean(seconds) if len(seconds) == len(points) else None,
    }


def _comparisons(curves: Sequence[Curve], against: Sequence[str]) -> Iterator[Row]:
    for other in curves:
        for curve in curves:
            if other.name in against and curve is not other:
                for epochs in curve.budgets:
                    found = {
                        cost: compare(curve, other, epochs, cost)
                        for cost in COSTS
                        if cost == "macs" or (curve.timed and other.timed)
                    }
                    if found["macs"].seeds:
                        yield {
                            "arm": curve.name,
                            "epochs": epochs,
                            "against": other.name,
                            "seeds": list(found["macs"].seeds),
                            **{cost: _numbers(comparison) for cost, comparison in found.items()},
                        }


def _numbers(comparison: Comparison) -> Row:
    return {
        "difference": comparison.difference,
        "difference_interval": _interval(comparison.difference_interval),
        "ratio": comparison.ratio,
        "ratio_below": comparison.ratio_below,
        "ratio_interval": _interval(comparison.ratio_interval),
    }


def _interval(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]


# As text.

POINTS = ("arm", "epochs", "n", "accuracy", "TMAC", "seconds")
AGAINST = ("arm", "epochs", "against", "n")
BY_COST = {
    "macs": ("points at equal MACs", "MACs at equal accuracy"),
    "seconds": ("points at equal seconds", "seconds at equal accuracy"),
}


def as_markdown(networks: Sequence[Row], accuracy: str, where: str) -> str:
    """Return all of it; ``where`` says on what machine seconds were measured, or is empty."""
    seconds = MEASURED.format(where=where) if where else NOT_MEASURED
    parts = ["# What accuracy a budget buys\n", EXPLANATION.format(accuracy=ACCURACIES[accuracy], seconds=seconds)]
    for network in networks:
        parts += [f"## {network['arch']} on {network['dataset']}\n", markdown_table(POINTS, _point_rows(network), 1)]
        if network["comparisons"]:
            parts += [COMPARED, markdown_table(*_compared(network), 3)]
    return "\n".join(parts)


def as_tables(networks: Sequence[Row], accuracy: str) -> Iterator[Table]:
    """Yield tables for a terminal."""
    for network in networks:
        title = f"{network['arch']} on {network['dataset']}, {accuracy} accuracy"
        yield _filled(title, POINTS, _point_rows(network), ())
        if network["comparisons"]:
            yield _filled("Against other arms", *_compared(network), ("against",))


def _filled(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[str]) -> Table:
    table = make_table(title, heads, left)
    for row in rows:
        table.add_row(*row)
    return table


def _point_rows(network: Row) -> list[list[str]]:
    return [
        [
            row["arm"],
            str(row["epochs"]),
            str(row["n"]),
            f"{100 * row['accuracy']:.2f}" + _range(row["accuracy_interval"], 100, ".2f"),
            f"{row['macs'] / 1e12:,.4g}",
            NOTHING if row["seconds"] is None else f"{row['seconds']:,.1f}",
        ]
        for row in network["points"]
    ]


def _compared(network: Row) -> tuple[list[str], list[list[str]]]:
    costs = [cost for cost in COSTS if any(cost in row for row in network["comparisons"])]
    heads = [*AGAINST, *(head for cost in costs for head in BY_COST[cost])]
    rows = [
        [
            row["arm"],
            str(row["epochs"]),
            row["against"],
            str(len(row["seeds"])),
            *(cell for cost in costs for cell in _cells(row.get(cost))),
        ]
        for row in network["comparisons"]
    ]
    return heads, rows


def _cells(numbers: Row | None) -> Iterator[str]:
    for name, factor, form in (("difference", 100, "+.2f"), ("ratio", 1, ".2f")):
        if numbers is None or numbers[name] is None:
            below = numbers and name == "ratio" and numbers["ratio_below"]
            yield f"< {below:{form}}" if below else NOTHING
        else:
            yield f"{factor * numbers[name]:{form}}" + _range(numbers[f"{name}_interval"], factor, form)


def _range(interval: Sequence[float] | None, factor: float, form: str) -> str:
    return "" if interval is None else f" ({factor * interval[0]:{form}} to {factor * interval[1]:{form}})"
