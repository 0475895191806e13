"""What a run leaves in its folder and shows while it goes on: events and checkpoints."""

from __future__ import annotations

import time
from collections.abc import Sequence

from incnet.run.state import RunState
from incnet.storage.folder import RunFolder
from incnet.training.events import Epoch, Event, Insert, Listener, as_json
from incnet.training.loop import Metrics
from incnet.training.nonfinite import NonFiniteError, first_nonfinite
from incnet.training.progress import Display

__all__ = ["RunOutput", "epoch_event", "insert_event"]


class RunOutput:
    """Takes a run's events, and its checkpoints.

    Parameters
    ----------
    folder : RunFolder
        Of the run, open.
    keep : int
        Checkpoints that are kept.
    display : Display, optional
        Shows epochs and batches; open.
    listeners : sequence of Listener
        Are told events besides.
    """

    def __init__(
        self, folder: RunFolder, keep: int, display: Display | None = None, listeners: Sequence[Listener] = ()
    ) -> None:
        self.folder, self.display = folder, display
        self.listeners = [*([display] if display else []), *listeners]
        self.checkpoints = folder.checkpoints(keep)
        self._saved = time.monotonic()

    def emit(self, event: Event) -> None:
        """Log an event, and tell everybody who listens."""
        self.folder.log(as_json(event))
        for listener in self.listeners:
            listener.event(event)

    @property
    def minutes_since_save(self) -> float:
        """Since the last checkpoint, or the beginning of this process."""
        return (time.monotonic() - self._saved) / 60

    def save(self, state: RunState) -> None:
        """Take a checkpoint, unless something in it is not finite.

        Within an epoch that is passed over, so that it comes to light at the same batch in every run, whenever
        checkpoints are taken; at the end of an epoch NonFiniteError is raised.

        Raises
        ------
        WriteError
            If it cannot be written.
        """
        assert self.folder.metrics is not None
        checkpoint = state.checkpoint(self.folder.seconds, self.folder.metrics.sync())
        if found := first_nonfinite(checkpoint.arrays):
            if state.running.batches:
                return
            raise NonFiniteError(f"at the end of the epoch {found} is not finite")
        self.checkpoints.save(checkpoint, state.epochs, state.running.batches)
        self._saved = time.monotonic()


def epoch_event(state: RunState, train: Metrics, validation: Metrics, image_size: int) -> Epoch:
    """Describe the epoch that has just been trained, on images of that height, and validated."""
    ledger = state.ledger
    return Epoch(
        epoch=state.schedule.epoch + 1,
        phase=state.schedule.phase,
        subnetworks=state.schedule.inserted,
        train_loss=train.loss,
        train_accuracy=train.accuracy,
        val_loss=validation.loss,
        val_accuracy=validation.accuracy,
        images_per_second=train.images / state.running.seconds,
        seconds_training=round(state.seconds_training, 3),
        seconds_compiling=round(state.seconds_compiling, 3),
        macs_inference=state.stage.macs_inference,
        macs_training=ledger.total,
        macs_forward=ledger.forward,
        macs_weight_grad=ledger.weight_grad,
        macs_input_grad=ledger.input_grad,
        macs_skipped=ledger.skipped,
        macs_cached=ledger.cached,
        macs_recalibration=ledger.recalibration,
        bytes_communicated=state.bytes_communicated,
        params=state.stage.params,
        lr=state.optimizer.lr,
        image_size=image_size,
    )


def insert_event(state: RunState, name: str, init: str, batch_size: int, lr: float, reason: str) -> Insert:
    """Describe the insertion of a sub-network that has just been made."""
    graph = state.graph
    macs = graph.macs(graph.input_shape)
    return Insert(state.schedule.epoch, name, init, graph.num_parameters(), macs, batch_size, lr, reason)
