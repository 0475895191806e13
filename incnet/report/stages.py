"""The contribution of each stage of a run, and its cost; means over the seeds of an arm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from incnet.report.arms import Arm, Spread
from incnet.report.history import Epoch, History, StageHistory
from incnet.report.interval import Interval

__all__ = ["MeanStage", "as_good_as_the_best", "backward_skipped", "mean_stages"]


@dataclass(frozen=True)
class MeanStage:
    """A stage, averaged over the runs of an arm that have reached it.

    Attributes
    ----------
    subnetworks : tuple of str
        Names of those that are in.
    params, macs_inference
        Of the network.
    image_sizes : tuple of int
        Heights of the images that it learnt from, one after the other; empty where they did not grow.
    epochs, lookahead, accuracy, test, seconds, skipped : Spread or None
        Epochs, and those of them that were look-ahead; best validation accuracy; test accuracy; time; share of backward
        skipped.
    interval : Interval or None
        Of the test accuracy.
    """

    subnetworks: tuple[str, ...]
    params: int
    macs_inference: int
    image_sizes: tuple[int, ...]
    epochs: Spread | None
    lookahead: Spread | None
    accuracy: Spread | None
    test: Spread | None
    interval: Interval | None
    seconds: Spread | None
    skipped: Spread | None


def mean_stages(arm: Arm) -> list[MeanStage]:
    """Return the stages that any run of ``arm`` has reached."""
    runs = arm.counted
    longest = max(runs, key=lambda run: len(run.stages)).stages

    def mean(k: int, value: Callable[[History, StageHistory], float | None]) -> Spread | None:
        return Spread.of(value(run, run.stages[k]) for run in runs if len(run.stages) > k)

    return [
        MeanStage(
            stage.subnetworks,
            stage.insert.params,
            stage.insert.macs_inference,
            stage.image_sizes if runs[0].setup.image_sizes else (),
            epochs=mean(k, lambda run, stage: len(stage.epochs)),
            lookahead=mean(k, lambda run, stage: stage.lookahead),
            accuracy=mean(k, lambda run, stage: stage.val_accuracy),
            test=(test := mean(k, lambda run, stage: run.tested(stage))),
            interval=arm.test_interval(test),
            seconds=mean(k, lambda run, stage: stage.seconds),
            skipped=mean(k, backward_skipped),
        )
        for k, stage in enumerate(longest)
    ]


def as_good_as_the_best(stages: Sequence[MeanStage]) -> MeanStage | None:
    """Return the smallest network that the test images do not tell from the most accurate one: their intervals overlap.

    None where a stage was not tested, or the number of test images is not known.
    """
    tested = [(stage, stage.test, stage.interval) for stage in stages if stage.test and stage.interval]
    if not tested or len(tested) < len(stages):
        return None
    _, _, best = max(tested, key=lambda found: found[1].mean)
    return min((stage for stage, _, interval in tested if interval.overlaps(best)), key=lambda stage: stage.params)


def backward_skipped(run: History, stage: StageHistory) -> float | None:
    """Return the share of the stage's backward pass that freezing spared; None if the run did not log it."""
    if not stage.epochs:
        return None
    before = run.epochs[stage.epochs[0].epoch - 2] if stage.epochs[0].epoch > 1 else None
    done, skipped = _backward(stage.epochs[-1]), stage.epochs[-1].macs_skipped
    if done is None or skipped is None:
        return None
    if before is not None:
        done, skipped = done - (_backward(before) or 0), skipped - (before.macs_skipped or 0)
    return skipped / (done + skipped) if done + skipped > 0 else 0.0


def _backward(epoch: Epoch) -> int | None:
    """Multiply-adds of the backward pass in the run so far."""
    if epoch.macs_weight_grad is None or epoch.macs_input_grad is None:
        return None
    return epoch.macs_weight_grad + epoch.macs_input_grad
