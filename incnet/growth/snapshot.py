"""All that changes in a run, as a checkpoint, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from incnet.backend import Array, asarray, asnumpy
from incnet.growth.schedule import ScheduleState
from incnet.growth.stage import Stage
from incnet.records import from_json, later
from incnet.training.checkpoint import Checkpoint
from incnet.training.folder import RunFolder
from incnet.training.loop import Metrics, Running

if TYPE_CHECKING:
    from incnet.growth.run import Run

__all__ = ["RunState", "restore", "snapshot"]

# What the arrays' names begin with: the network's state, the optimizer's, the best weights, their average, and the
# sums of the epoch.
NETWORK, OPTIMIZER, BEST, AVERAGE, TOTALS = "network/", "optimizer/", "best/", "average/", "epoch/totals"


@dataclass(frozen=True)
class RunState:
    """A moment of a run, less its arrays: after a step, or after an epoch that the schedule has not seen yet.

    Attributes
    ----------
    schedule : ScheduleState
        What decides about the run.
    boundary : int
        Number of frozen sub-networks.
    stages : list of Stage
        One for each sub-network that has come in; a baseline has one.
    bytes_communicated : int
        What each rank has given to sums over the ranks, in all training steps.
    best : Metrics or None
        Of the stage's best epoch, on the validation images; None before its first.
    accuracy : float or None
        Validation accuracy, a fraction, of the epoch that the schedule has not seen yet.
    batches, images : int
        Of the epoch in progress that are learnt.
    rollbacks : int
        How often the learning rate was halved.
    seconds, seconds_training, seconds_epoch : float
        That the run has taken; in training steps of complete epochs; in those of the epoch in progress.
    metrics_bytes : int
        Length of ``metrics.jsonl``.
    average_steps : int
        Training steps that the average of the weights has seen.
    """

    schedule: ScheduleState
    boundary: int
    stages: list[Stage]
    bytes_communicated: int
    best: Metrics | None
    accuracy: float | None
    batches: int
    images: int
    rollbacks: int
    seconds: float
    seconds_training: float
    seconds_epoch: float
    metrics_bytes: int
    average_steps: int = later(0)


def snapshot(run: Run) -> Checkpoint:
    """Describe the moment in which ``run`` is. On the host the arrays are the run's own, not copies."""
    assert run.folder.metrics is not None
    state = RunState(
        schedule=run.schedule.state(),
        boundary=run.graph.boundary,
        stages=run.stages,
        bytes_communicated=run.bytes_communicated,
        best=run.best,
        accuracy=run.accuracy,
        batches=run.running.batches,
        images=run.running.images,
        rollbacks=run.rollbacks,
        seconds=run.folder.seconds,
        seconds_training=run.seconds_training,
        seconds_epoch=run.running.seconds,
        metrics_bytes=run.folder.metrics.sync(),
        average_steps=run.average.steps if run.average else 0,
    )
    arrays = {
        **_named(NETWORK, run.graph.state()),
        **_named(OPTIMIZER, run.optimizer.arrays()),
        **_named(BEST, run.best_weights),
        **(_named(AVERAGE, run.average.arrays) if run.average else {}),
        **({} if run.running.totals is None else {TOTALS: run.running.totals}),
    }
    return Checkpoint(asdict(state), {name: asnumpy(array) for name, array in arrays.items()})


def restore(run: Run, checkpoint: Checkpoint, folder: RunFolder) -> None:
    """Bring ``run`` to the moment of ``checkpoint``, and cut the events that came after it.

    Raises
    ------
    ValueError
        If the checkpoint does not belong to such a run; the folder is then untouched.
    """
    assert folder.metrics is not None
    state, arrays = from_json(RunState, checkpoint.state, "state"), checkpoint.arrays
    if not 0 <= state.metrics_bytes <= folder.metrics.length:
        raise ValueError(f"it was taken at {state.metrics_bytes} bytes of {folder.metrics.path}, which has fewer")
    if not state.stages:
        raise ValueError("it has no stages")
    if not all(1 <= stage.batch_size <= run.largest_batch for stage in state.stages):
        raise ValueError(f"batches of {[stage.batch_size for stage in state.stages]} images, of {run.largest_batch}")
    run.begin()
    run.schedule.restore(state.schedule)
    for name in list(run.subnetworks)[: run.schedule.inserted]:
        run.graph.insert(name, run.subnetworks[name])
    run.graph.freeze_prefix(state.boundary)
    network, best = _below(NETWORK, arrays), _below(BEST, arrays)
    _check(network, run.graph.state())
    if state.best is not None:
        _check(best, run.graph.state())
    run.optimizer.load_arrays(_below(OPTIMIZER, arrays), dict(run.graph.named_parameters()))
    run.graph.load_state(network)
    if run.average:
        run.average.load(_below(AVERAGE, arrays), state.average_steps, run.graph)
    run.best, run.best_weights = state.best, best if state.best is not None else {}
    run.stages, run.seconds_training, run.accuracy = state.stages, state.seconds_training, state.accuracy
    run.bytes_communicated = state.bytes_communicated
    run.keep_pace()
    run.running = _running(state, arrays.get(TOTALS), len(run.images.train))
    run.slow_down(state.rollbacks)
    folder.metrics.cut(state.metrics_bytes)
    folder.seconds = state.seconds


def _named(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {prefix + name: array for name, array in arrays.items()}


def _below(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _check(arrays: Mapping[str, np.ndarray], expected: Mapping[str, Array]) -> None:
    if different := sorted(arrays.keys() ^ expected.keys()):
        raise ValueError(f"{different[0]:.120} is in it or in the network, but not in both")
    for name, array in arrays.items():
        if (array.shape, array.dtype) != (expected[name].shape, expected[name].dtype):
            found = f"{array.dtype} {array.shape}"
            raise ValueError(f"{name} is {found}, in the network {expected[name].dtype} {expected[name].shape}")


def _running(state: RunState, totals: np.ndarray | None, batches: int) -> Running:
    """Sums of the epoch in progress."""
    if (state.batches, state.images, totals) == (0, 0, None):
        return Running()
    within = 0 < state.batches <= min(batches, state.images) and state.accuracy is None
    if not within or totals is None or (totals.shape, totals.dtype) != ((2,), np.float64):
        raise ValueError(f"{state.images} images in {state.batches} batches of {batches}")
    return Running(asarray(totals), state.batches, state.images, state.seconds_epoch)
