"""What came out, in a sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from incnet.report.arms import Arm, Network, Spread
from incnet.report.history import History, Insert
from incnet.report.numbers import between, duration, engineering, listing, percent, share
from incnet.units import FLOPS_PER_MAC

__all__ = ["headline"]

MOST = 3  # arms that the sentence compares with the baseline
ACCURACIES: dict[str, Callable[[History], float | None]] = {
    "test": lambda run: run.test_accuracy,
    "validation": lambda run: run.val_accuracy,
}


def headline(network: Network) -> str:
    """Compare what grows with the baseline; without one, or before the end, say how far the runs have come."""
    finished = [arm for arm in network.arms if any(run.finished for run in arm.runs)]
    baseline = next((arm for arm in finished if not arm.grows), None)
    growing = [arm for arm in finished if arm.grows]
    if baseline and growing:
        return _compare(network, baseline, growing)
    told = [_tell(arm) for arm in finished] or [_progress(arm) for arm in network.arms]
    more = [f"{len(told) - MOST} more arms are in the table."] if len(told) > MOST else []
    return " ".join([*told[:MOST], *more])


def _compare(network: Network, baseline: Arm, growing: list[Arm]) -> str:
    def seconds(run: History) -> float:
        return float(network.seconds(run)[-1])

    time = "time in training steps" if network.steps_timed else "time"
    compared = network.times_incomparable is None
    kind = _judged_by([baseline, *growing])
    accuracy = ACCURACIES[kind]
    parts = [f"The baseline reaches {percent(baseline.spread(accuracy))} % {kind} accuracy."]
    for arm in growing:
        ours = arm.spread(accuracy)
        flops = _ratio(arm.spread(lambda run: run.macs_training), baseline.spread(lambda run: run.macs_training))
        spent = _ratio(arm.spread(seconds), baseline.spread(seconds))
        parts.append(
            f"{_capital(arm.label)} reaches {percent(ours)} %, {_difference(arm, baseline, kind)}, with {flops} of its "
            f"training FLOPs{f' and {spent} of its {time}' if compared else ''}."
        )
    if len(growing) > MOST:
        parts = [*parts[: MOST + 1], f"{len(growing) - MOST} more arms are in the table."]
    return " ".join(parts)


def _judged_by(arms: Sequence[Arm]) -> str:
    """Return which accuracy is told: that of the test images, unless an arm has none."""
    return "test" if all(arm.spread(ACCURACIES["test"]) for arm in arms) else "validation"


def _difference(arm: Arm, baseline: Arm, kind: str) -> str:
    """Tell the difference in accuracy, and whether the test images can."""
    ours, theirs = (each.spread(ACCURACIES[kind]) for each in (arm, baseline))
    if ours is None or theirs is None:
        return "untested"
    points = 100 * (ours.mean - theirs.mean)
    text = f"{abs(points):.1f} points {'above' if points > 0 else 'below'}" if abs(points) >= 0.05 else "the same"
    reaches = (arm.test_interval(ours), baseline.test_interval(theirs)) if kind == "test" else (None, None)
    if reaches[0] and reaches[1] and reaches[0].overlaps(reaches[1]) and text != "the same":
        text += " (the intervals overlap)"
    return text


def _ratio(ours: Spread | None, theirs: Spread | None) -> str:
    return f"{ours.mean / theirs.mean:.2f}" if ours and theirs and theirs.mean else "an unknown share"


def _tell(arm: Arm) -> str:
    run = arm.counted[0]
    kind = _judged_by([arm])
    reached = f"{percent(arm.spread(ACCURACIES[kind]))} % {kind} accuracy"
    cost = engineering(arm.spread(lambda run: FLOPS_PER_MAC * run.macs_training), "FLOP")
    time = duration(arm.spread(lambda run: run.seconds))
    names = [stage.insert.subnetwork for stage in run.stages]
    how = f"grown over {listing(names)}" if arm.grows and len(names) > 1 else "trained whole"
    if any(isinstance(each.event, Insert) and each.event.init == "trained" for each in run.events):
        how = f"begun with trained weights, {how}"
    reach = arm.test_interval(arm.spread(lambda run: run.test_accuracy))
    images = f" (95 % interval {between(reach)})" if reach else ""
    return f"{_capital(arm.label)} reaches {reached}{images}, {how}, with {cost} of training in {time}."


def _progress(arm: Arm) -> str:
    run = max(arm.runs, key=lambda run: len(run.epochs))
    if not run.epochs:
        return f"{_capital(arm.label)} has begun; no epoch is over yet."
    return (
        f"{_capital(arm.label)} is after epoch {len(run.epochs)}, with {run.stages[-1].insert.subnetwork} in, at "
        f"{share(run.epochs[-1].val_accuracy)} validation accuracy."
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
