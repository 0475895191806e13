"""What each stage of a run brought and cost; means over the seeds of an arm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from incnet.report.arms import Arm, Spread
from incnet.report.history import Epoch, History, Stage

__all__ = ["MeanStage", "backward_skipped", "mean_stages", "smallest_sufficient"]

# A sub-network is as good as the best if it is at most so much worse: half a percentage point.
TOLERANCE = 0.005


@dataclass(frozen=True)
class MeanStage:
    """A stage, averaged over the runs of an arm that have reached it.

    Attributes
    ----------
    name, params, macs_inference
        Of the uppermost sub-network; of the whole network up to it.
    epochs, lookahead, accuracy, seconds, skipped : Spread or None
        Epochs, and those of them that were look-ahead; best validation accuracy; time; share of backward skipped.
    """

    name: str
    params: int
    macs_inference: int
    epochs: Spread | None
    lookahead: Spread | None
    accuracy: Spread | None
    seconds: Spread | None
    skipped: Spread | None


def mean_stages(arm: Arm) -> list[MeanStage]:
    """Return the stages that any run of ``arm`` has reached."""
    runs = arm.counted
    longest = max(runs, key=lambda run: len(run.stages)).stages

    def mean(k: int, value: Callable[[History, Stage], float | None]) -> Spread | None:
        return Spread.of(value(run, run.stages[k]) for run in runs if len(run.stages) > k)

    return [
        MeanStage(
            stage.insert.subnetwork,
            stage.insert.params,
            stage.insert.macs_inference,
            epochs=mean(k, lambda run, stage: len(stage.epochs)),
            lookahead=mean(k, lambda run, stage: stage.lookahead),
            accuracy=mean(k, lambda run, stage: stage.val_accuracy),
            seconds=mean(k, lambda run, stage: stage.seconds),
            skipped=mean(k, backward_skipped),
        )
        for k, stage in enumerate(longest)
    ]


def smallest_sufficient(stages: Sequence[MeanStage]) -> MeanStage:
    """Return the smallest network whose accuracy is within half a point of the best; all must have an accuracy."""
    accuracies = [stage.accuracy.mean if stage.accuracy else 0.0 for stage in stages]
    enough = [
        stage for stage, accuracy in zip(stages, accuracies, strict=True) if accuracy >= max(accuracies) - TOLERANCE
    ]
    return min(enough, key=lambda stage: stage.params)


def backward_skipped(run: History, stage: Stage) -> float | None:
    """Return the share of the stage's backward pass that freezing spared; None if the run did not record it."""
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
