"""The tables of a report: results beside the paper's, and what each stage brought."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from incnet.report.arms import Arm, Network, Spread
from incnet.report.history import Epoch, History
from incnet.report.numbers import NOTHING, duration, engineering, percent, share, whole
from incnet.report.paper import paper_accuracy
from incnet.report.stages import mean_stages, smallest_sufficient
from incnet.sizes import FLOPS_PER_MAC

__all__ = ["DEFINITIONS", "Table", "cost_to_reach", "results", "shared_accuracy", "stages"]

DEFINITIONS = (
    f"MACs are multiply-adds, of which each is {FLOPS_PER_MAC} FLOP. Training FLOPs count forward, weight gradient and "
    "input gradient of all steps, as far as each was computed; validation is not counted. "
    "The best validation accuracy of a run is that of its last stage, whose weights are then tested. "
    "± is the sample's standard deviation over seeds."
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
    level = shared_accuracy(network)
    columns: list[tuple[str, Callable[[Arm], str]]] = [
        ("arm", lambda arm: arm.label),
        *([("seeds", _seeds)] if len(network.runs) > 1 else []),
        ("test accuracy, %", lambda arm: percent(arm.spread(lambda run: run.test_accuracy))),
        ("in the paper, %", lambda arm: _paper(network, arm)),
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
        columns.append(
            (f"time to {share(level)}", lambda arm: duration(arm.spread(lambda run: _seconds_to(network, run, level))))
        )
        time = " in training steps" if network.steps_timed else ""
        caption = (
            f"The last two columns: what it took{time} until validation accuracy first was {share(level)}, which all "
            "runs reached."
        )
    rows = [[cell(arm) for _, cell in columns] for arm in network.arms]
    return _known(Table(caption, [name for name, _ in columns], rows))


def _seeds(arm: Arm) -> str:
    finished = sum(run.finished for run in arm.runs)
    return str(len(arm.runs)) if finished == len(arm.runs) else f"{finished} of {len(arm.runs)} finished"


def _paper(network: Network, arm: Arm) -> str:
    """Return the paper's figure, once there is one to put beside it."""
    accuracy = paper_accuracy(network.dataset, network.arch, arm.kind)
    tested = any(run.finished for other in network.arms for run in other.runs)
    return f"{accuracy:.2f}" if accuracy is not None and tested else NOTHING


def _seconds_training(run: History) -> float | None:
    return run.epochs[-1].seconds_training if run.epochs else None


def shared_accuracy(network: Network) -> float | None:
    """Return the highest validation accuracy, in steps of 0.1 %, that all runs reached; None for a single arm."""
    best = [
        max((epoch.val_accuracy for epoch in run.epochs), default=0.0) for arm in network.arms for run in arm.counted
    ]
    level = int(1000 * min(best) + 1e-9) / 1000
    return level if len(network.arms) > 1 and level > 0 else None


def cost_to_reach(run: History, accuracy: float) -> Epoch | None:
    """Return the first epoch with that validation accuracy, whose ledger says what it took."""
    return next((epoch for epoch in run.epochs if epoch.val_accuracy >= accuracy), None)


def _flops_to(run: History, accuracy: float) -> float | None:
    epoch = cost_to_reach(run, accuracy)
    return FLOPS_PER_MAC * epoch.macs_training if epoch else None


def _seconds_to(network: Network, run: History, accuracy: float) -> float | None:
    epoch = cost_to_reach(run, accuracy)
    return float(network.seconds(run)[epoch.epoch - 1]) if epoch else None


# Stages.


def stages(arm: Arm) -> Table:
    """Return a row for each stage of an arm that grows."""
    columns = [
        "sub-networks",
        "epochs",
        "of them look-ahead",
        "parameters",
        "MACs, one image",
        "best validation accuracy, %",
        "time",
        "backward skipped, %",
    ]
    found = mean_stages(arm)
    rows = [
        [
            stage.name if k == 0 else f"up to {stage.name}",
            whole(stage.epochs),
            whole(stage.lookahead),
            f"{stage.params:,}",
            engineering(stage.macs_inference),
            percent(stage.accuracy),
            duration(stage.seconds),
            _share(stage.skipped),
        ]
        for k, stage in enumerate(found)
    ]
    return _known(Table(_stages_caption(arm), columns, rows))


NO_SMALLER = " No smaller network comes within 0.5 points of the best."


def _stages_caption(arm: Arm) -> str:
    count = len(arm.counted)
    caption = f"{arm.label[:1].upper()}{arm.label[1:]}" + (f", mean over {count} seeds." if count > 1 else ".")
    known = [stage for stage in mean_stages(arm) if stage.accuracy]
    if len(known) > 1:
        best, enough = max(known, key=lambda stage: stage.params), smallest_sufficient(known)
        which = f"up to {enough.name}, with {share(enough.params / best.params, 0)} of all parameters"
        smaller = enough.params < best.params
        caption += f" The smallest network within 0.5 points of the best is that {which}." if smaller else NO_SMALLER
    return caption


def _share(value: Spread | None) -> str:
    return NOTHING if value is None else f"{100 * value.mean:.0f}"
