"""A whole run: what it is made of, training by its course, and the way back to a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from incnet.backend import free_memory, limit_memory, selected, use
from incnet.communicator import Communicator
from incnet.config import Config
from incnet.data.dataset import Dataset
from incnet.growth.criterion import GrowthRule
from incnet.growth.own_rule import as_rule
from incnet.names import counted
from incnet.networks.own import MakeNetwork
from incnet.networks.stored import StoredNetwork
from incnet.run.course import Course
from incnet.run.epoch import EpochTrainer
from incnet.run.images import RunImages
from incnet.run.machine import use_as_asked
from incnet.run.memory_plan import fewest_images, plan_stages, return_freed_memory
from incnet.run.network import NetworkFactory, own_function
from incnet.run.output import RunOutput
from incnet.run.start import Start, StartModel
from incnet.run.state import RunState
from incnet.stopping import Condition, Progress, as_condition, parse
from incnet.storage.checkpoint import CheckpointError
from incnet.storage.folder import RunFolder
from incnet.training import events
from incnet.training.progress import Display
from incnet.training.signals import StopSignals
from incnet.user_code import place_of, short

__all__ = ["Run"]


class Run:
    """Train one network as a :class:`Config` says.

    Parameters
    ----------
    config : Config
        Resolved here, unless it is: what it leaves open depends on the data set and the network.
    dataset : Dataset, optional
        Loaded from disk unless given, by rank 0 for all.
    network : MakeNetwork, optional
        Makes the sub-networks, instead of the architecture that ``config`` names: a function that takes the shape
        (H, W, C) of an image and a generator, and returns layers by name; see :mod:`incnet.networks.own`.
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
    ConfigError
        Naming the option, its value and what would be right.
    TypeError
        If a configuration, data set, rule or condition is none.
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
    trainer : EpochTrainer
        Carries out the epochs.
    stop : Condition or None
        What ends the run early.
    objects : dict of str to str
        Names of the rule and of the condition that were given as Python objects: no option brings them back.
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
        config = _resolved(config, dataset, network)
        self.communicator = communicator or Communicator()
        self._selection = use_as_asked(config, self.communicator)
        network = network or own_function(config)
        self.config, self._rule = config, rule if rule is None else as_rule(rule)
        self.objects = {} if rule is None else {"rule": type(rule).__name__}
        if stop is not None:
            self.objects["stop"] = str(as_condition(stop))
        if stop is None and config.stop is not None:
            stop = parse(config.stop)
        self.stop = None if stop is None else as_condition(stop)
        if config.batch_size == "auto":
            return_freed_memory()
        where = start or config.start_from
        model = None if where is None else self.communicator.on_root(lambda: StartModel.read(where))
        with config.naming_preset():
            self._make(dataset, network, model)

    def _make(self, dataset: Dataset | None, network: MakeNetwork | None, model: StartModel | None) -> None:
        """Make images, networks and the plan of memory, and go to the beginning."""
        self.images = RunImages(self.config, dataset, self.communicator)
        self.networks = NetworkFactory(self.config, self.images.shape, self.images.dataset.num_classes, network)
        self.config = config = self.networks.config
        self.images.sizes = config.images_grow()
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

    def __repr__(self) -> str:
        network = f"{short(self.config.arch)} in {counted(len(self.state.subnetworks), 'sub-network')}"
        epochs = f"{self.state.epochs} of {self.config.epochs} epochs"
        return f"<Run: {network}, {self.config.method}, {self.images.dataset.name}, {epochs}>"

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
        if display:
            display.subnetworks = list(self.state.subnetworks)
        output = RunOutput(folder, self.config.keep_checkpoints, display, listeners)
        try:
            Course(self, output, signals or StopSignals(self.communicator)).follow()
        finally:
            self.trainer.close_cache()
            free_memory()
            limit_memory(None)

    def _use_again(self) -> None:
        """Go back to the backend that the run was made on, where its arrays are."""
        if self._selection != selected():
            use(*self._selection)

    def begin_stage(self) -> None:
        """Begin the stage of the sub-network that was inserted last."""
        name = list(self.state.graph.subnetworks)[-1]
        self.state.begin_stage(self.plan[name].batch_size)
        self.apply_stage_settings()
        free_memory()
        self.communicator.broadcast(self.state.graph.state())

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


def _resolved(config: Config, dataset: Dataset | None, network: MakeNetwork | None) -> Config:
    """Return the configuration, resolved once: what it leaves open depends on the data set and the network together."""
    if not isinstance(config, Config):
        raise TypeError(f"the configuration is a {type(config).__name__}: give a Config, as Config(dataset='digits')")
    names = {}
    if dataset is not None:
        if not isinstance(dataset, Dataset):
            found = type(dataset).__name__
            raise TypeError(f"the data set is a {found}: give a Dataset, or the name of one as Config(dataset=...)")
        names["dataset"] = dataset.name
    if network is not None and not isinstance(network, StoredNetwork):
        names["arch"] = place_of(network)
    return config.for_objects(**names)
