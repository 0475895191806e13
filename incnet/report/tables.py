"""The tables of a report: results beside the paper's, and the contribution of each stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from incnet.names import up_to
from incnet.report.arms import Arm, Network, Spread
from incnet.report.history import History
from incnet.report.numbers import NOTHING, between, duration, engineering, percent, share, whole
from incnet.report.paper import paper_accuracy
from incnet.report.stages import as_good_as_the_best, mean_stages
from incnet.units import FLOPS_PER_MAC

__all__ = ["DEFINITIONS", "Table", "results", "shared_accuracy", "stages"]

DEFINITIONS = (
    f"MACs are multiply-adds, of which each is {FLOPS_PER_MAC} FLOP. Training FLOPs count forward, weight gradient and "
    "input gradient of all steps, as far as each was computed; validation is not counted. "
    "The best validation accuracy of a run is that of its last stage, whose weights are then tested. "
    "± is the sample's standard deviation over seeds. An interval is Wilson's, of 95 %: how far the accuracy on all "
    "such images may be from that on these test images; where there are several seeds, at their mean."
)


@dataclass(frozen=True)
class Table:
    """Rows of text; the first cell of each is its heading."""

    caption: str
    columns: list[str]
    rows: list[list[str]]


def _known(table: Table) -> Table:
    """Leave out the columns in which nothing is known."""
    kept = [i for i in range(len(table.columns)) if any(row[i] != NOTHING for row in table.rows)]
    return Table(table.caption, [table.columns[i] for i in kept], [[row[i] for i in kept] for row in table.rows])


# Results.


def results(network: Network) -> Table:
    """Return a row for each arm: what came out, what the paper says, and what it took."""
    level, compared = shared_accuracy(network), network.times_incomparable is None
    columns: list[tuple[str, Callable[[Arm], str]]] = [
        ("arm", lambda arm: arm.label),
        *([("seeds", _seeds)] if len(network.runs) > 1 else []),
        ("test accuracy, %", lambda arm: percent(arm.spread(lambda run: run.test_accuracy))),
        ("95 % interval", lambda arm: between(arm.test_interval(arm.spread(lambda run: run.test_accuracy)))),
        ("in the paper, %", _paper),
        ("best validation accuracy, %", lambda arm: percent(arm.spread(lambda run: run.val_accuracy))),
        ("training FLOPs", lambda arm: engineering(arm.spread(lambda run: FLOPS_PER_MAC * run.macs_training))),
        ("time in training steps", lambda arm: duration(arm.spread(_seconds_training))),
        ("time of the run", lambda arm: duration(arm.spread(lambda run: run.seconds))),
    ]
    caption = ""
    if level is not None:
        columns.append(
            (f"FLOPs to {share(level)}", lambda arm: engineering(arm.spread(lambda run: _flops_to(run, level))))
        )
        time = " in training steps" if network.steps_timed else ""
        if compared:
            columns.append(
                (
                    f"time to {share(level)}",
                    lambda arm: duration(arm.spread(lambda run: _seconds_to(network, run, level))),
                )
            )
        caption = (
            f"To {share(level)}: what it took{time if compared else ''} until validation accuracy first was as high, "
            "which all runs reached. "
        )
    if len(network.arms) > 1 and not compared:
        caption += f"Times are those of each run, and not to be compared: {network.times_incomparable}. "
    if any(arm.repeated for arm in network.arms):
        caption += "Repeated runs of a seed do not count: they say the same again. "
    rows = [[cell(arm) for _, cell in columns] for arm in network.arms]
    return _known(Table(caption.strip(), [name for name, _ in columns], rows))


def _seeds(arm: Arm) -> str:
    seeds = len({run.setup.seed for run in arm.runs})
    finished = len({run.setup.seed for run in arm.runs if run.finished})
    repeated = f", {len(arm.repeated)} repeated" if arm.repeated else ""
    return (str(seeds) if finished == seeds else f"{finished} of {seeds} finished") + repeated


def _paper(arm: Arm) -> str:
    accuracy = paper_accuracy(arm.counted, arm.kind)
    return NOTHING if accuracy is None else f"{accuracy:.2f}"


def _seconds_training(run: History) -> float | None:
    return run.epochs[-1].seconds_training if run.epochs else None


def shared_accuracy(network: Network) -> float | None:
    """Return the highest validation accuracy, in steps of 0.1 %, that all runs reached; None for a single arm."""
    best = [
        max((epoch.val_accuracy for epoch in run.epochs), default=0.0) for arm in network.arms for run in arm.counted
    ]
    level = int(1000 * min(best) + 1e-9) / 1000
    return level if len(network.arms) > 1 and level > 0 else None


def _flops_to(run: History, accuracy: float) -> float | None:
    epoch = run.first_with(accuracy)
    return FLOPS_PER_MAC * epoch.macs_training if epoch else None


def _seconds_to(network: Network, run: History, accuracy: float) -> float | None:
    epoch = run.first_with(accuracy)
    return float(network.seconds(run)[epoch.epoch - 1]) if epoch else None


# Stages.


def stages(arm: Arm) -> Table:
    """Return a row for each stage of an arm that grows."""
    columns = [
        "sub-networks",
        "epochs",
        "of them look-ahead",
        "images, pixels",
        "parameters",
        "MACs per image",
        "best validation accuracy, %",
        "test accuracy, %",
        "95 % interval",
        "time",
        "backward skipped, %",
    ]
    found = mean_stages(arm)
    rows = [
        [
            up_to(stage.subnetworks),
            whole(stage.epochs),
            whole(stage.lookahead),
            ", ".join(map(str, stage.image_sizes)) or NOTHING,
            f"{stage.params:,}",
            engineering(stage.macs_inference),
            percent(stage.accuracy),
            percent(stage.test),
            between(stage.interval),
            duration(stage.seconds),
            _share(stage.skipped),
        ]
        for stage in found
    ]
    return _known(Table(_stages_caption(arm), columns, rows))


def _stages_caption(arm: Arm) -> str:
    count, found = len(arm.counted), mean_stages(arm)
    caption = f"{arm.label[:1].upper()}{arm.label[1:]}" + (f", mean over {count} seeds." if count > 1 else ".")
    enough = as_good_as_the_best(found)
    if enough is None or len(found) < 2:
        return caption
    best = max(found, key=lambda stage: stage.test.mean if stage.test else 0)
    if enough is best:
        best_is = f"The most accurate network on the test images: {up_to(best.subnetworks)}"
        smaller = any(stage.params < best.params for stage in found)
        rest = "; the interval of every smaller one lies below its own" if smaller else ", the smallest"
        return f"{caption} {best_is}{rest}."
    size = share(enough.params / best.params, 0) if enough.params < best.params else ""
    return (
        f"{caption} The {arm.test_images:,} test images do not tell two networks apart: {up_to(enough.subnetworks)}"
        f"{f', with {size} of the parameters,' if size else ''} and the most accurate one, {up_to(best.subnetworks)}; "
        "their intervals overlap."
    )


def _share(value: Spread | None) -> str:
    return NOTHING if value is None else f"{100 * value.mean:.0f}"
