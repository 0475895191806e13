"""A whole run: data, network and optimizer, put through the course that the schedule decides."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from incnet.backend import free_memory, limit_memory, prepare, selected, use
from incnet.communicator import Communicator
from incnet.config import Config, ConfigError
from incnet.data.dataset import Dataset
from incnet.growth.criterion import GrowthRule, Verdict
from incnet.growth.insertion import insert
from incnet.growth.schedule import Decision, Finish, Grow, Unfreeze
from incnet.models.own import MakeNetwork, StoredNetwork
from incnet.run.compiling import work_ahead
from incnet.run.epoch import EpochTrainer
from incnet.run.export import export_stage
from incnet.run.images import RunImages
from incnet.run.machine import use_as_asked
from incnet.run.memory_plan import fewest_images, plan_stages, return_freed_memory
from incnet.run.network import NetworkFactory
from incnet.run.output import RunOutput, epoch_event, insert_event
from incnet.run.start import Start, StartModel
from incnet.run.state import MAX_ROLLBACKS, RunState
from incnet.stopping import Condition, Progress, as_condition, parse, reason_to_stop
from incnet.storage.checkpoint import CheckpointError
from incnet.storage.folder import RunFolder
from incnet.training import events
from incnet.training.nonfinite import NonFiniteError
from incnet.training.progress import Display
from incnet.training.signals import StopSignals
from incnet.user_code import UserCodeError, find_function, is_place, place_of, short

__all__ = ["Run"]


class Run:
    """Train one network as a :class:`Config` says.

    Parameters
    ----------
    config : Config
        Resolved.
    dataset : Dataset, optional
        Loaded from disk unless given, by rank 0 for all.
    network : MakeNetwork, optional
        Makes the sub-networks, instead of the architecture that ``config`` names: a function that takes the shape
        (H, W, C) of an image and a generator, and returns layers by name; see :mod:`incnet.models.own`.
    rule : GrowthRule, optional
        Decides when to grow, instead of the one that ``config`` names; see :mod:`incnet.growth.criterion`.
    stop : Condition or callable, optional
        Ends the run early, instead of the one that ``config`` spells; see :mod:`incnet.stopping`.
    start : Path, optional
        Where the model of ``config.start_from`` is now: a run's folder keeps a copy, ``start.safetensors``.
    communicator : Communicator, optional
        Of the ranks, if there are several that train the network together. They go through the same course: each has
        the whole network and a part of every batch, and what is decided is decided from sums over all of them.

    Raises
    ------
    DeviceError
        If this machine does not have the device that ``config`` asks for. One that it has is then in use, as by
        :func:`incnet.use`, and ``"auto"`` leaves it as it is.

    Attributes
    ----------
    images : RunImages
        What the network learns from, and is judged by.
    networks : NetworkFactory
        Makes sub-networks and classifiers.
    start : Start or None
        What is taken over from a model.
    plan : dict of str to StagePlan
        Batch size and memory for each stage, by the name of its sub-network.
    state : RunState
        All that training changes.
    objects : dict of str to str
        Names of the rule and of the condition that were given as Python objects: no option brings them back.

    Notes
    -----
    A checkpoint is taken after an epoch, *before* the schedule sees its accuracy, and every few minutes after a step.
    Whatever follows is a function of that moment, insertions included, so a run that goes on from a checkpoint goes
    the way that it would have gone.
    """

    def __init__(
        self,
        config: Config,
        dataset: Dataset | None = None,
        *,
        network: MakeNetwork | None = None,
        rule: GrowthRule | None = None,
        stop: Condition | Callable[[Progress], bool | str | None] | None = None,
        start: Path | None = None,
        communicator: Communicator | None = None,
    ) -> None:
        if dataset is not None:
            config = config.for_dataset(dataset.name)
        if network is not None and not isinstance(network, StoredNetwork):
            config = config.for_function(place_of(network))
        self.communicator = communicator or Communicator()
        self._selection = use_as_asked(config, self.communicator)
        if network is None and is_place(config.arch):
            network = _named(config.arch)
        self.config, self._rule = config, rule
        self.objects = {} if rule is None else {"rule": type(rule).__name__}
        if stop is not None:
            self.objects["stop"] = str(as_condition(stop))
        if stop is None and config.stop is not None:
            stop = parse(config.stop)
        self._stop = None if stop is None else as_condition(stop)
        if config.batch_size == "auto":
            return_freed_memory()
        where = start or config.start_from
        model = None if where is None else self.communicator.on_root(lambda: StartModel.read(where))
        self.images = RunImages(config, dataset, self.communicator)
        self.networks = NetworkFactory(config, self.images.shape, self.images.dataset.num_classes, network)
        self.config = config = self.networks.config
        self.images.check_ranks(config)
        self.start = None
        if model is not None:
            classes = self.images.dataset.classes
            self.start = Start(model, self.networks, classes, all_at_once=config.method == "baseline")
        self.begin()
        self.images.train.least = fewest_images(config, self.state, self.networks, self.images)
        self.plan = plan_stages(config, self.state, self.networks, self.images)
        self.images.train.batch_size = next(iter(self.plan.values())).batch_size

    def begin(self) -> None:
        """Go to the beginning."""
        self.state = RunState.initial(self.config, self.networks, self._rule, self.start)
        self.trainer = EpochTrainer(self.config, self.state, self.images, self.communicator)

    # The course of a run.

    def train(
        self,
        folder: RunFolder,
        display: Display | None = None,
        signals: StopSignals | None = None,
        listeners: Sequence[events.Listener] = (),
    ) -> None:
        """Train until the schedule stops, leaving events and checkpoints in ``folder``; ``listeners`` are told events.

        Raises
        ------
        NonFiniteError
            If a loss, gradient or weight is not finite, and no retry is left.
        Interrupted
            If a signal has come; a checkpoint was taken.
        WriteError
            If a checkpoint or an event cannot be written.
        """
        self._use_again()
        output = RunOutput(folder, self.config.keep_checkpoints, display, listeners)
        signals = signals or StopSignals(self.communicator)
        if not self.state.stages:
            self._insert_first(output)
            self._compile(output, signals)
            output.save(self.state)
        elif not self.state.schedule.finished:
            self._compile(output, signals)
        try:
            while not self.state.schedule.finished:
                try:
                    if self.state.accuracy is None:
                        self.state.accuracy = self._epoch(output, signals)
                        output.save(self.state)
                except NonFiniteError as error:
                    self._roll_back(error, output)
                signals.check()
                self._observe(output)
        finally:
            self.trainer.close_cache()
            free_memory()
            limit_memory(None)

    def _use_again(self) -> None:
        """Go back to the backend that the run was made on, where its arrays are."""
        if self._selection != selected():
            use(*self._selection)

    def _compile(self, output: RunOutput, signals: StopSignals) -> None:
        """Compile all that the run will need, so that no step has to wait for it."""

        def watch(done: int, total: int) -> None:
            signals.check()
            if output.display:
                output.display.compiling(done, total)

        start = time.perf_counter()
        prepare(partial(work_ahead, self.config, self.state, self.networks, self.images, self.plan), watch)
        free_memory()
        self.state.seconds_compiling += time.perf_counter() - start

    def _epoch(self, output: RunOutput, signals: StopSignals) -> float:
        """Train for an epoch, or what is left of it, and validate. Returns the validation accuracy."""
        state, trainer, display = self.state, self.trainer, output.display
        self.apply_stage_settings()
        self._freeze_for_good(output)
        if display:
            display.stage(state.schedule.inserted, state.schedule.phase, len(self.images.train))
            if self.images.sizes:
                display.images(self.images.train.image_shape[0])
        trainer.open_cache(output.folder.path, signals.check)
        train = trainer.train(display.batch if display else None, partial(self._after_step, output, signals))
        with state.averaged():
            validation = trainer.validate()
            state.keep_if_best(validation)
        output.emit(epoch_event(state, train, validation, self.images.train.image_shape[0]))
        state.end_epoch()
        return validation.accuracy

    def _after_step(self, output: RunOutput, signals: StopSignals) -> None:
        state, minutes = self.state, self.config.checkpoint_minutes
        state.bytes_communicated += self.trainer.step.bytes
        if state.average:
            state.average.observe(state.graph)
        if signals.received or (minutes and output.minutes_since_save > minutes):
            output.save(state)
        signals.check()

    def apply_stage_settings(self) -> None:
        """Set sizes of batch and images, memory and learning rate to those of the stage and epoch.

        Less what rollbacks took of the rate.
        """
        state, size = self.state, self.state.stage.batch_size
        limit_memory(self.plan[state.stage.name].pool)
        self.images.train.batch_size = size
        self.images.begin_epoch(state.schedule.epoch)
        factor = self.config.rate_schedule().factor(state.schedule.epoch, state.schedule.phase_epochs)
        state.optimizer.lr = self.config.lr_for(size) * factor / 2**state.rollbacks

    def end_broken_epoch(self) -> None:
        """Let batch norm's statistics be those of the weights, if an epoch has been broken off: these can be read then.

        Its checkpoint has what the epoch goes on from.
        """
        if self.state.running.batches:
            with self.state.averaged():
                self.trainer.recalibrate()

    # Decisions.

    def _observe(self, output: RunOutput) -> None:
        """Let the schedule see the accuracy of the last epoch, and carry out what it decides."""
        state = self.state
        if state.accuracy is not None:
            accuracy, state.accuracy = state.accuracy, None
            for decision in state.schedule.observe(accuracy, partial(self._reason_to_stop, output.folder, accuracy)):
                self._carry_out(decision, output)

    def _reason_to_stop(self, folder: RunFolder, accuracy: float, stage_over: bool) -> str | None:
        """Return why the run is to end after an epoch of this accuracy, or None."""
        state, stop = self.state, self._stop
        if stop is None:
            return None
        follows = stage_over and len(state.stages) > 1
        progress = Progress(
            accuracy=accuracy,
            epochs=state.schedule.epoch,
            seconds=folder.seconds,
            macs=state.ledger.total,
            parameters=state.graph.num_parameters(),
            gain=state.stages[-1].gain_over(state.stages[-2]) if follows else None,
        )
        return self.communicator.on_root(lambda: reason_to_stop(stop, progress))  # whose clock counts

    def _carry_out(self, decision: Decision, output: RunOutput) -> None:
        match decision:
            case Verdict():
                output.emit(decision)
            case Unfreeze():
                self._end_lookahead()
            case Grow(reason):
                self._grow(reason, output)
            case Finish(reason):
                self._end_lookahead()
                output.emit(events.Stop(self.state.schedule.epoch, reason))

    def _insert_first(self, output: RunOutput) -> None:
        state = self.state
        for name in list(state.subnetworks)[: state.schedule.inserted]:
            state.graph.insert(name, state.subnetworks[name])
            taken = self.start is not None and name in self.start.taken
            self._emit_insertion(name, "trained" if taken else "random", output)
        if self.start is not None:
            self.start.fill_classifier(state.graph)
        if trained := state.schedule.frozen(state.schedule.inserted):
            state.graph.freeze_prefix(trained)
        self._begin_stage()

    def _grow(self, reason: str, output: RunOutput) -> None:
        state = self.state
        if self.communicator.first:
            export_stage(state, self.config, self.images, output.folder)
        self.trainer.close_cache()
        state.hand_on_average()
        name = list(state.subnetworks)[state.schedule.inserted - 1]
        insert(
            state.graph,
            name,
            state.subnetworks[name],
            state.optimizer,
            lookahead=state.schedule.phase == "lookahead",
            preserve_on=self.images.sample(state.schedule.epoch) if self.config.preserves_output else None,
            copy=self.config.copies_below,
        )
        self._emit_insertion(name, self.config.init, output, reason)
        self._begin_stage()

    def _emit_insertion(self, name: str, init: str, output: RunOutput, reason: str = "") -> None:
        size = self.plan[name].batch_size
        lr = self.config.lr_for(size) / 2**self.state.rollbacks
        output.emit(insert_event(self.state, name, init, size, lr, reason))

    def _begin_stage(self) -> None:
        name = list(self.state.graph.subnetworks)[-1]
        self.state.begin_stage(self.plan[name].batch_size)
        self.apply_stage_settings()
        free_memory()
        self.communicator.broadcast(self.state.graph.state())

    def _end_lookahead(self) -> None:
        self._move_boundary(0)

    def _freeze_for_good(self, output: RunOutput) -> None:
        """Freeze what is to learn no more: its average, with the statistics that were recalibrated to evaluate that."""
        state, count = self.state, self.state.frozen_for_good
        if state.schedule.phase == "train" and count > state.graph.boundary:
            self._move_boundary(count)
            output.emit(events.Freeze(state.schedule.epoch, count))

    def _move_boundary(self, count: int) -> None:
        self.trainer.close_cache()
        self.state.hand_on_average()
        self.state.graph.freeze_prefix(count)
        free_memory()  # steps come that need arrays of other sizes

    # Going back.

    def resume(self, folder: RunFolder, *, between_epochs: bool = False) -> tuple[Path | None, list[str]]:
        """Go back to the newest checkpoint in ``folder``, or to the beginning if there is none.

        Parameters
        ----------
        between_epochs : bool
            To the newest one at the end of an epoch.

        Returns
        -------
        path, damaged
            Of the checkpoint; what was wrong with newer ones.

        Raises
        ------
        CheckpointError
            If all are damaged, or the one that is not belongs to another run. The folder is then as it was.
        """
        assert folder.metrics is not None
        self._use_again()
        checkpoints = folder.checkpoints(self.config.keep_checkpoints)
        newest = self.communicator.on_root(lambda: checkpoints.newest(between_epochs=between_epochs))
        self.begin()
        if newest is None:
            folder.metrics.cut(0)
            return None, []
        path, checkpoint, damaged = newest
        size = self.config.batch_size
        try:
            position = self.state.load(
                checkpoint,
                images=len(self.images.train.split),
                largest_batch=size if isinstance(size, int) else self.config.max_batch_size,
            )
            if not 0 <= position.metrics_bytes <= folder.metrics.length:
                raise ValueError(
                    f"it was taken at {position.metrics_bytes} bytes of {folder.metrics.path}, which has fewer"
                )
        except ValueError as error:
            raise CheckpointError(f"checkpoint {path} does not fit this run: {error}") from error
        self.apply_stage_settings()
        folder.metrics.cut(position.metrics_bytes)
        folder.seconds = position.seconds
        return path, damaged

    def _roll_back(self, error: NonFiniteError, output: RunOutput) -> None:
        """Go back to the end of an epoch, with half the learning rate; raise ``error`` if that is not to be done.

        Not to a checkpoint from within an epoch: those depend on the clock, and the course of a run must not.
        """
        self.trainer.close_cache()
        failed, rollbacks = self.state.schedule.epoch + 1, self.state.rollbacks + 1
        if self.config.on_nonfinite != "rollback" or rollbacks > MAX_ROLLBACKS:
            raise error
        seconds, compiling = output.folder.seconds, self.state.seconds_compiling
        self.resume(output.folder, between_epochs=True)
        output.folder.seconds, self.state.seconds_compiling = seconds, compiling  # what was lost has taken its time
        self.state.rollbacks = rollbacks
        self.apply_stage_settings()
        lr = self.state.optimizer.lr
        output.emit(events.Rollback(self.state.epochs, failed, rollbacks, lr, str(error)))
        output.save(self.state)


def _named(place: str) -> MakeNetwork:
    """Return the function that ``--arch`` names: the user has asked for it to be run."""
    try:
        return find_function(place)
    except UserCodeError as error:
        raise ConfigError(f"--arch {short(place)}: {error}") from error
