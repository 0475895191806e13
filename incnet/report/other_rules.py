"""What other growth rules would have decided: each is replayed on the learning curves that a run has logged."""

from __future__ import annotations

from itertools import product

from incnet.growth.criterion import UNITS, GrowthRule, Plateau, SlopeAngle
from incnet.growth.own_rule import as_verdict
from incnet.names import counted
from incnet.report.arms import Arm
from incnet.report.history import History, StageHistory
from incnet.report.numbers import NOTHING
from incnet.report.tables import Table

__all__ = ["ends", "other_rules"]

WINDOWS, GAMMAS = (3, 5, 10), (0.25, 0.5, 0.75)
PATIENCE = 5


def other_rules(arm: Arm) -> Table | None:
    """Return, for rules with other windows and thresholds, the epoch at which each would have ended the arm's stages.

    None for an arm that does not grow, and where no stage has been trained yet.
    """
    run = arm.counted[0]
    stages = [stage for stage in run.stages if stage.lookahead < len(stage.epochs)]
    if not arm.grows or not stages:
        return None
    found = {name: [ends(rule, stage) for stage in stages] for name, rule in _rules(run)}
    rows = [[name, *(NOTHING if epoch is None else str(epoch) for epoch in epochs)] for name, epochs in found.items()]
    lengths = [f"{stage.insert.subnetwork}, {counted(len(stage.epochs), 'epoch')}" for stage in stages]
    caption = (
        f"{arm.label[:1].upper()}{arm.label[1:]}, seed {run.setup.seed}: the epoch of each stage, look-ahead included, "
        f"at which a rule would have ended it, by the accuracies that were logged; {NOTHING}: it would have gone on."
    )
    return Table(caption, ["rule", *lengths], rows)


def ends(rule: GrowthRule, stage: StageHistory) -> int | None:
    """Return the epoch of the stage, from 1, after which ``rule`` ends it; None if it would have gone on."""
    rule.restart()
    for number, epoch in enumerate(stage.epochs, start=1):
        if epoch.phase == "lookahead":
            continue
        verdict = as_verdict(rule.observe(epoch.val_accuracy, number), rule)
        if verdict is not None and verdict.grow:
            return number
    return None


def _rules(run: History) -> list[tuple[str, GrowthRule]]:
    unit = run.setup.angle_unit if run.setup.angle_unit in UNITS else "percent"  # a file may say anything
    rules: list[tuple[str, GrowthRule]] = [
        (f"window {window}, gamma {gamma:g}", SlopeAngle(window, gamma, unit))
        for window, gamma in product(WINDOWS, GAMMAS)
    ]
    return [*rules, (f"plateau, patience {PATIENCE}", Plateau(PATIENCE))]
