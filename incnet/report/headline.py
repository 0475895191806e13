"""What came out, in a sentence."""

from __future__ import annotations

from incnet.report.arms import Arm, Network, Spread
from incnet.report.history import History
from incnet.report.numbers import duration, engineering, listing, percent, share
from incnet.sizes import FLOPS_PER_MAC

__all__ = ["headline"]


def headline(network: Network) -> str:
    """Compare what grows with the baseline; without one, or before the end, say how far the runs have come."""
    finished = [arm for arm in network.arms if any(run.finished for run in arm.runs)]
    baseline = next((arm for arm in finished if not arm.grows), None)
    growing = [arm for arm in finished if arm.grows]
    if baseline and growing:
        return _compare(network, baseline, growing)
    if finished:
        return " ".join(_tell(arm) for arm in finished)
    return " ".join(_progress(arm) for arm in network.arms)


def _compare(network: Network, baseline: Arm, growing: list[Arm]) -> str:
    def seconds(run: History) -> float:
        return float(network.seconds(run)[-1])

    time = "time in training steps" if network.steps_timed else "time"
    test = baseline.spread(lambda run: run.test_accuracy)
    parts = [f"The baseline reaches {percent(test)} % test accuracy."]
    for arm in growing:
        ours = arm.spread(lambda run: run.test_accuracy)
        flops = _ratio(arm.spread(lambda run: run.macs_training), baseline.spread(lambda run: run.macs_training))
        spent = _ratio(arm.spread(seconds), baseline.spread(seconds))
        parts.append(
            f"{_capital(arm.label)} reaches {percent(ours)} %, {_difference(ours, test)}, with {flops} of its training "
            f"FLOPs and {spent} of its {time}."
        )
    return " ".join(parts)


def _difference(ours: Spread | None, theirs: Spread | None) -> str:
    if ours is None or theirs is None:
        return "untested"
    points = 100 * (ours.mean - theirs.mean)
    return f"{abs(points):.1f} points {'above' if points > 0 else 'below'}" if abs(points) >= 0.05 else "the same"


def _ratio(ours: Spread | None, theirs: Spread | None) -> str:
    return f"{ours.mean / theirs.mean:.2f}" if ours and theirs and theirs.mean else "an unknown share"


def _tell(arm: Arm) -> str:
    run = arm.counted[0]
    test = percent(arm.spread(lambda run: run.test_accuracy))
    cost = engineering(arm.spread(lambda run: FLOPS_PER_MAC * run.macs_training), "FLOP")
    time = duration(arm.spread(lambda run: run.seconds))
    names = [stage.insert.subnetwork for stage in run.stages]
    how = f"grown over {listing(names)}" if arm.grows and len(names) > 1 else "trained whole"
    return f"{_capital(arm.label)} reaches {test} % test accuracy, {how}, with {cost} of training in {time}."


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
