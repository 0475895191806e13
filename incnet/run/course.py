"""The course of a run: epoch after epoch, and what the schedule decides after each of them, carried out."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from incnet.backend import free_memory, prepare
from incnet.growth.criterion import Verdict
from incnet.growth.insertion import insert
from incnet.growth.schedule import Decision, Finish, Grow, Unfreeze
from incnet.run.compiling import work_ahead
from incnet.run.export import export_stage
from incnet.run.output import RunOutput, epoch_event, insert_event
from incnet.run.state import MAX_ROLLBACKS, RunState
from incnet.stopping import Progress, reason_to_stop
from incnet.training import events
from incnet.training.nonfinite import NonFiniteError
from incnet.training.signals import StopSignals

if TYPE_CHECKING:
    from incnet.run.run import Run

__all__ = ["Course"]


class Course:
    """Put a run through its course, from where it is.

    Parameters
    ----------
    run : Run
        Whose state is changed.
    output : RunOutput
        Takes its events and checkpoints.
    signals : StopSignals
        Ask for an early end.

    Notes
    -----
    A checkpoint is taken after an epoch, *before* the schedule sees its accuracy, and every few minutes after a step.
    Whatever follows is a function of that moment, insertions included, so a run that goes on from a checkpoint goes
    the way that it would have gone.
    """

    def __init__(self, run: Run, output: RunOutput, signals: StopSignals) -> None:
        self.run, self.output, self.signals = run, output, signals

    @property
    def state(self) -> RunState:
        """The run's: another one after each rollback."""
        return self.run.state

    def follow(self) -> None:
        """Train until the schedule stops; errors as for :meth:`incnet.run.run.Run.train`."""
        if not self.state.stages:
            self._insert_first()
            self._compile()
            self.output.save(self.state)
        elif not self.state.schedule.finished:
            self._compile()
        while not self.state.schedule.finished:
            try:
                if self.state.accuracy is None:
                    self.state.accuracy = self._epoch()
                    self.output.save(self.state)
            except NonFiniteError as error:
                self._roll_back(error)
            self.signals.check()
            self._observe()

    def _compile(self) -> None:
        """Compile all that the run will need, so that no step has to wait for it."""

        def watch(done: int, total: int) -> None:
            self.signals.check()
            if self.output.display:
                self.output.display.compiling(done, total)

        start, run = time.perf_counter(), self.run
        prepare(partial(work_ahead, run.config, self.state, run.networks, run.images, run.plan), watch)
        free_memory()
        self.state.seconds_compiling += time.perf_counter() - start

    # An epoch.

    def _epoch(self) -> float:
        """Train for an epoch, or what is left of it, and validate. Returns the validation accuracy."""
        state, trainer, images, display = self.state, self.run.trainer, self.run.images, self.output.display
        self.run.apply_stage_settings()
        self._freeze_for_good()
        if display:
            display.stage(state.schedule.inserted, state.schedule.phase, len(images.train))
            if images.sizes:
                display.images(images.train.image_shape[0])
        trainer.open_cache(self.output.folder.path, self.signals.check)
        train = trainer.train(display.batch if display else None, self._after_step)
        with state.averaged():
            validation = trainer.validate()
            state.keep_if_best(validation)
        self.output.emit(epoch_event(state, train, validation, images.train.image_shape[0]))
        state.end_epoch()
        return validation.accuracy

    def _after_step(self) -> None:
        state, minutes = self.state, self.run.config.checkpoint_minutes
        state.bytes_communicated += self.run.trainer.step.bytes
        if state.average:
            state.average.observe(state.graph)
        if self.signals.received or (minutes and self.output.minutes_since_save > minutes):
            self.output.save(state)
        self.signals.check()

    # Decisions.

    def _observe(self) -> None:
        """Let the schedule see the accuracy of the last epoch, and carry out what it decides."""
        state = self.state
        if state.accuracy is not None:
            accuracy, state.accuracy = state.accuracy, None
            for decision in state.schedule.observe(accuracy, partial(self._reason_to_stop, accuracy)):
                self._carry_out(decision)

    def _reason_to_stop(self, accuracy: float, stage_over: bool) -> str | None:
        """Return why the run is to end after an epoch of this accuracy, or None."""
        state, stop = self.state, self.run.stop
        if stop is None:
            return None
        follows = stage_over and len(state.stages) > 1
        progress = Progress(
            accuracy=accuracy,
            epochs=state.schedule.epoch,
            seconds=self.output.folder.seconds,
            macs=state.ledger.total,
            parameters=state.graph.num_parameters(),
            gain=state.stages[-1].gain_over(state.stages[-2]) if follows else None,
        )
        return self.run.communicator.on_root(lambda: reason_to_stop(stop, progress))  # whose clock counts

    def _carry_out(self, decision: Decision) -> None:
        match decision:
            case Verdict():
                self.output.emit(decision)
            case Unfreeze():
                self._move_boundary(0)
            case Grow(reason):
                self._grow(reason)
            case Finish(reason):
                self._move_boundary(0)
                self.output.emit(events.Stop(self.state.schedule.epoch, reason))

    def _insert_first(self) -> None:
        state, start = self.state, self.run.start
        for name in list(state.subnetworks)[: state.schedule.inserted]:
            state.graph.insert(name, state.subnetworks[name])
            taken = start is not None and name in start.taken
            self._emit_insertion(name, "trained" if taken else "random")
        if start is not None:
            start.fill_classifier(state.graph)
        if trained := state.schedule.frozen(state.schedule.inserted):
            state.graph.freeze_prefix(trained)
        self.run.begin_stage()

    def _grow(self, reason: str) -> None:
        run, state = self.run, self.state
        if run.communicator.first:
            export_stage(state, run.config, run.images, self.output.folder)
        run.trainer.close_cache()
        state.hand_on_average()
        name = list(state.subnetworks)[state.schedule.inserted - 1]
        insert(
            state.graph,
            name,
            state.subnetworks[name],
            state.optimizer,
            lookahead=state.schedule.phase == "lookahead",
            preserve_on=run.images.sample(state.schedule.epoch) if run.config.preserves_output else None,
            copy=run.config.copies_below,
        )
        self._emit_insertion(name, run.config.init, reason)
        run.begin_stage()

    def _emit_insertion(self, name: str, init: str, reason: str = "") -> None:
        size = self.run.plan[name].batch_size
        lr = self.run.config.lr_for(size) / 2**self.state.rollbacks
        self.output.emit(insert_event(self.state, name, init, size, lr, reason))

    def _freeze_for_good(self) -> None:
        """Freeze what is to learn no more: its average, with the statistics that were recalibrated to evaluate that."""
        state, count = self.state, self.state.frozen_for_good
        if state.schedule.phase == "train" and count > state.graph.boundary:
            self._move_boundary(count)
            self.output.emit(events.Freeze(state.schedule.epoch, count))

    def _move_boundary(self, count: int) -> None:
        """Freeze the first ``count`` sub-networks, and only those: 0 at the end of a look-ahead, and of the run."""
        self.run.trainer.close_cache()
        self.state.hand_on_average()
        self.state.graph.freeze_prefix(count)
        free_memory()  # steps come that need arrays of other sizes

    # Going back.

    def _roll_back(self, error: NonFiniteError) -> None:
        """Go back to the end of an epoch, with half the learning rate; raise ``error`` if that is not to be done.

        Not to a checkpoint from within an epoch: those depend on the clock, and the course of a run must not.
        """
        run, folder = self.run, self.output.folder
        run.trainer.close_cache()
        failed, rollbacks = self.state.schedule.epoch + 1, self.state.rollbacks + 1
        if run.config.on_nonfinite != "rollback" or rollbacks > MAX_ROLLBACKS:
            raise error
        seconds, compiling = folder.seconds, self.state.seconds_compiling
        run.resume(folder, between_epochs=True)
        folder.seconds, self.state.seconds_compiling = seconds, compiling  # what was lost has taken its time
        self.state.rollbacks = rollbacks
        run.apply_stage_settings()
        lr = self.state.optimizer.lr
        self.output.emit(events.Rollback(self.state.epochs, failed, rollbacks, lr, str(error)))
        self.output.save(self.state)
