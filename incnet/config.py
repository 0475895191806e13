"""Every option of a run, in one place: the command line is made from this dataclass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_type_hints

import tyro

from incnet.lookahead_cache import Cache
from incnet.names import ARCHITECTURES, DATASETS, DEEPEST
from incnet.records import from_json, to_json
from incnet.sizes import parse_size
from incnet.stopping import parse as parse_condition
from incnet.training.rate import RateSchedule, scaled_lr

__all__ = ["Config", "ConfigError"]


class ConfigError(Exception):
    """An option has an impossible value."""


# What a data set asks for where an option is left open. The digits are 1,797 tiny images: batches must be small, and
# steps long, for them to be learnt in seconds.
DATASET_DEFAULTS: dict[str, dict[str, Any]] = {
    "digits": {"epochs": 30, "batch_size": 32, "lr": 3e-4},
    "cifar10": {"epochs": 200},
    "cifar100": {"epochs": 200},
    "cifar100-coarse": {"epochs": 200},
    "fashion-mnist": {"epochs": 60},
}
# What the paper used (Table 1).
ARCH_DEFAULTS: dict[str, dict[str, Any]] = {
    "resnet": {"batch_size": 128, "lr": 1e-4},
    "vgg16": {"batch_size": 32, "lr": 1e-4},
}
# A learning rate suits an optimizer: that of gradient descent is He et al.'s.
OPTIMIZER_DEFAULTS: dict[str, dict[str, Any]] = {"rmsprop": {}, "sgd": {"lr": 0.1}}
# What a run did before an option existed, for the config.json of such a run.
BEFORE: dict[str, Any] = {
    "recalibrate": 0,
    "average": False,
    "optimizer": "rmsprop",
    "lr_schedule": "constant",
    "lr_decay": None,
    "warmup": 0,
    "subnetworks": None,
    "shortcut": "A",
}
# A large image, as a bound for the memory that a config.json can ask for.
LARGEST = 1024
# Options, and their value, that leave a choice to the machine. It is kept beside the options, among the versions.
LEFT_TO_MACHINE = {"device": "auto", "threads": None}
# What a resumed run may be asked to do otherwise: none of it changes the steps that were taken.
MAY_CHANGE = (
    "resume",
    "data_dir",
    "cache_memory",
    "sums",
    "checkpoint_minutes",
    "keep_checkpoints",
    "on_nonfinite",
    "stop",
    "end",
    "report",
    "tensorboard",
)


@dataclass(frozen=True)
class Config:
    """Train a convolutional network incrementally: start small, grow when the learning curve flattens.

    Writes a run folder with config.json, metrics.jsonl, checkpoints, summary.json and the weights. Exits with 0; 2 for
    bad input; 3 when the numbers diverge; 4 when the disk takes no more; 130 or 143 when SIGINT or SIGTERM stops it.
    """

    dataset: tyro.conf.Positional[str] = "digits"
    """What to learn: digits (embedded, offline), cifar10, cifar100, cifar100-coarse (its 20 classes of five) or
    fashion-mnist."""

    arch: str = "resnet20"
    """Network: resnet20, resnet32, resnet44, resnet56 (any 6n+2), vgg16 or vgg16-bn."""

    method: Literal["incremental", "baseline"] = "incremental"
    """Grow sub-network by sub-network, or train the whole network from the start."""

    init: Literal["lookahead", "random", "identity", "lookahead+identity"] = "lookahead"
    """A new sub-network first learns alone on top of the frozen ones, or all learn at once; 'identity' gives it weights
    that leave the network's output as it is (in evaluation, and nearly so behind max pooling), instead of random ones.
    """

    partition: str = "filters"
    """Sub-networks: 'filters' (one for each width, as in the paper), 'blocks' (one each), or their number."""

    subnetworks: int | None = None
    """Use only the first so many sub-networks, as if the network ended there. Default: all of them."""

    shortcut: Literal["A", "B"] = "A"
    """Shortcuts of a ResNet where the shape changes: subsampling without parameters, or a 1x1 convolution."""

    epochs: int | None = None
    """Epochs of the whole run, look-ahead included. Default: 30 for digits, 60 for fashion-mnist, 200 for CIFAR."""

    growth: Literal["slope-angle", "periodic", "plateau"] = "slope-angle"
    """When to grow: as the learning curve flattens (the paper's rule, see --window and --gamma); every --period epochs,
    until all sub-networks are in; or when --patience epochs have brought no new best accuracy."""

    window: int = 5
    """Epochs over which a line is fitted to the validation accuracy."""

    gamma: float = 0.5
    """Grow when the line's angle is at most gamma times that of the window before."""

    angle_unit: Literal["percent", "fraction"] = "percent"
    """Accuracy unit drawn as long as one epoch: the angle depends on it."""

    period: int | None = None
    """Epochs of a stage that grows periodically, look-ahead included. Default: an equal share of --epochs."""

    patience: int = 5
    """Epochs in a row that a plateau lasts."""

    min_delta: float = 0.001
    """Fraction that a validation accuracy must be above the best one to end a plateau."""

    lookahead_epochs: int = 3
    """Epochs of look-ahead after each insertion; they count as epochs of the run."""

    lookahead_cache: str = "off"
    """In a look-ahead, compute what the frozen sub-networks make of an image once, not in every epoch: 'off'; 'fixed',
    of images without augmentation; 'views:V', of V augmentations of each image, that take turns. The fewer views, the
    more it saves; as many as --lookahead-epochs change nothing, and save nothing but validation."""

    cache_memory: str = "2GB"
    """Memory (of the GPU, if there is one) that cached features may take, of each rank if there are several. What is
    beyond it lies in files in the run folder, until the look-ahead ends."""

    cache_dtype: Literal["float32", "float16"] = "float32"
    """Type that cached features are rounded to. float16 takes half of the room, and holds values up to 65504."""

    min_stage_epochs: int = 0
    """Epochs that a stage lasts at least, look-ahead included, whatever its learning curve."""

    max_stage_epochs: int | None = None
    """Epochs that a stage lasts at most. Default: an equal share of the epochs left, but at least a look-ahead and an
    epoch of training."""

    end: Literal["rule", "budget"] = "rule"
    """With all sub-networks in: stop when the curve flattens again, or go on until the epochs are used, as periodic
    growth always does."""

    stop: str | None = None
    """Stop, too, after an epoch for which this holds: 'accuracy>=0.88 | seconds>=3600', with >= > <= <, & before |, and
    parentheses. accuracy: of the validation images, a fraction; epochs: of the run; macs, flops: of all training steps;
    parameters: of the network in use; gain: of a stage that has just ended over the one before, in percentage points
    for each TFLOP that it took; seconds: since the run began, in all its sessions. With seconds the end depends on the
    clock; all else is a function of options and seed."""

    batch_size: Literal["auto"] | int | None = None
    """Images in a step; 'auto' for the most that --memory-limit holds, at each stage anew. Default: 128 for ResNet, 32
    for VGG and for digits."""

    memory_limit: str | None = None
    """Memory for training, such as 4GB, with --batch-size auto: network, optimizer, activations, batches loaded ahead,
    best weights. Not the interpreter, the data set, and cached features. Reckoned for the CPU's kernels: on a GPU leave
    some room."""

    max_batch_size: int = 1024
    """Images in a step with --batch-size auto, at most."""

    optimizer: Literal["rmsprop", "sgd"] = "rmsprop"
    """RMSProp, or gradient descent; both with --momentum."""

    lr: float | None = None
    """Learning rate. Default: 1e-4, for digits 3e-4; 0.1 for sgd."""

    lr_schedule: Literal["constant", "linear", "step"] = "constant"
    """Keep the learning rate; or let it fall at the end of the run, linearly to zero, or to a tenth and then to a
    hundredth. Then the budget alone ends the last stage."""

    lr_decay: float | None = None
    """Part of the epochs in which the rate falls, at their end. Default: 1, the whole run, for linear; 0.5 for step,
    whose second drop is in the middle of that part."""

    warmup: int = 0
    """Epochs over which the rate rises linearly, at the start and whenever all layers begin to learn anew: after an
    insertion, after a look-ahead."""

    average: bool = True
    """Evaluate, save and hand on at growth the average of the weights over the last steps; training goes on from the
    weights."""

    recalibrate: int = 20
    """Batches of training images over which batch norm's statistics are taken anew before each evaluation, with the
    weights as they are; 0 for the running averages, which lag behind."""

    scale_lr: Literal["off", "linear", "sqrt"] = "off"
    """Multiply the learning rate by the ratio of the batch size to the default one, or by its square root."""

    rho: float = 0.9
    """Decay of RMSProp's average of squared gradients."""

    momentum: float = 0.9
    """Heavy ball on the optimizer's step; 0 for the other reading of the paper's 'momentum 0.9', which is then rho."""

    weight_decay: float = 1e-4
    """L2 penalty on the weights of convolutions and dense layers."""

    frozen_bn: Literal["eval", "batch"] = "eval"
    """Batch norm of the frozen sub-networks: running statistics (a fixed function), or the batch's."""

    sync_bn: bool = False
    """With several ranks: batch norm by the statistics of the whole batch, rather than of each rank's part of it."""

    sums: Literal["auto", "nccl", "staged"] = "auto"
    """With several ranks on GPUs: how their sums travel, over NCCL or staged in page-locked host memory. auto takes
    NCCL where it can connect the ranks, and says what it took and why."""

    validation: float = 0.1
    """Fraction of the training images that is held out to decide when to grow."""

    augment: bool = True
    """Shift, and where it makes sense mirror, the training images at random."""

    resize: int | None = None
    """Height and width to which the images are interpolated as they are served, such as 224; at least their own."""

    limit: int | None = None
    """Use only the first N training images, for a smoke run."""

    device: str = "auto"
    """Where to compute: auto, cpu or gpu. auto says what it chose; gpu without one is an error."""

    tf32: bool = False
    """Let a GPU's tensor cores multiply, from factors rounded to TF32: faster, with errors of 1e-3 instead of 1e-6."""

    threads: int | None = None
    """Threads that the CPU's kernels may use. Default: one for each core that this process may run on; ranks of one
    machine share its cores."""

    seed: int = 0
    """Of everything random: weights, split, order, augmentation, dropout."""

    data_dir: Path | None = None
    """Folder of the data set. Default: $INCNET_DATA, the cache, the usual folders; else it is downloaded."""

    out: Path | None = None
    """Run folder; must be new. Default: runs/DATASET-ARCH-METHOD-TIME."""

    resume: Path | None = None
    """Run folder to go on in, from its newest whole checkpoint, with its own options; --epochs may grow."""

    report: bool = True
    """Keep a page on the run, report.html, in its folder up to date. Needs matplotlib and Jinja (incnet[report])."""

    tensorboard: bool = False
    """Write TensorBoard event files to the run folder. Needs TensorBoard (incnet[tensorboard])."""

    checkpoint_minutes: float = 10.0
    """Minutes between two checkpoints within an epoch; there is one after every epoch besides. 0 for none within."""

    keep_checkpoints: int = 2
    """Number of checkpoints that are kept."""

    on_nonfinite: Literal["stop", "rollback"] = "stop"
    """When a loss, gradient or weight is not finite: stop, or go back an epoch and try half the learning rate."""

    def resolve(self) -> Config:
        """Fill in what was left open, and check every value.

        Raises
        ------
        ConfigError
            Naming the option, its value and what would be right.
        """
        return self._typed()._filled()

    def _typed(self) -> Config:
        """Every value in the type that config.json gives back: NumPy's numbers become Python's, text becomes a path.

        So that whatever a run is begun with, from Python too, it can be resumed with.
        """
        hints, values = get_type_hints(Config), {}
        try:
            for name, value in self.as_json().items():
                option = f"--{name.replace('_', '-')}"
                values[name] = from_json(hints[name], to_json(value, option), option)
        except (TypeError, ValueError) as error:
            raise ConfigError(str(error)) from error
        return replace(self, **values)

    def _filled(self) -> Config:
        family = next((family for family in ARCH_DEFAULTS if self.arch.startswith(family)), None)
        if family is None or not (self.arch in ARCHITECTURES or (family == "resnet" and self.arch[6:].isdecimal())):
            raise ConfigError(f"--arch {self.arch}: choose one of {', '.join(ARCHITECTURES)}")
        if self.dataset not in DATASETS:
            raise ConfigError(f"unknown data set {self.dataset}: choose one of {', '.join(DATASETS)}")
        if family == "resnet" and (len(self.arch) > 10 or int(self.arch[6:]) > DEEPEST):
            raise ConfigError(f"--arch {self.arch:.40}: choose a depth of at most {DEEPEST}")
        defaults = self._defaults()
        filled = replace(self, **{name: value for name, value in defaults.items() if getattr(self, name) is None})
        if filled.data_dir is not None:  # the run may be resumed from another folder
            filled = replace(filled, data_dir=filled.data_dir.absolute())
        filled._check()
        return filled

    def _check(self) -> None:
        def must(holds: bool, option: str, remedy: str) -> None:
            if not holds:
                value = getattr(self, option)
                raise ConfigError(f"--{option.replace('_', '-')} {value}: choose {remedy}")

        assert self.epochs is not None and self.batch_size is not None and self.lr is not None
        auto = self.batch_size == "auto"
        must(self.epochs >= 1, "epochs", "at least 1")
        must(self.batch_size == "auto" or self.batch_size >= 1, "batch_size", "at least 1, or auto")
        must(auto or self.memory_limit is None, "memory_limit", "--batch-size auto with it, which keeps to it")
        must(not auto or self.memory_limit is not None, "batch_size", "a --memory-limit with it, such as 4GB")
        must(self.max_batch_size >= 1, "max_batch_size", "at least 1")
        if self.memory_limit is not None:
            self._check_form("memory_limit", parse_size)
        must(0 < self.lr < float("inf"), "lr", "a positive number")
        must(self.window >= 2, "window", "at least 2 epochs: a line needs two points")
        must(0 < self.gamma <= 1, "gamma", "a number above 0 and up to 1")
        must(self.period is None or self.period >= 1, "period", "at least 1 epoch")
        must(self.period is None or self.growth == "periodic", "period", "--growth periodic to go with it")
        must(self.patience >= 1, "patience", "at least 1 epoch")
        must(0 <= self.min_delta < 1, "min_delta", "a fraction of at least 0 and below 1")
        must(self.lookahead_epochs >= 1, "lookahead_epochs", "at least 1, or --init random or identity for none")
        must(self.min_stage_epochs >= 0, "min_stage_epochs", "at least 0")
        most = self.max_stage_epochs
        must(most is None or most > self.min_stage_epochs, "max_stage_epochs", "more than --min-stage-epochs")
        must(
            most is None or not self.looks_ahead or most > self.lookahead_epochs,
            "max_stage_epochs",
            "more than --lookahead-epochs, so that everything is trained for an epoch",
        )
        self._check_learning_rate(must)
        must(0 <= self.rho < 1, "rho", "a number in [0, 1)")
        must(0 <= self.momentum < 1, "momentum", "a number in [0, 1)")
        must(self.recalibrate >= 0, "recalibrate", "a number of batches, or 0 for none")
        must(
            self.recalibrate > 0 or not self.average,
            "recalibrate",
            "at least 1 batch, or --no-average: the statistics of the averaged weights are nowhere else",
        )
        must(self.subnetworks is None or self.subnetworks >= 1, "subnetworks", "at least 1")
        must(self.shortcut == "A" or self.arch.startswith("resnet"), "shortcut", "A: this network has no shortcuts")
        must(0 <= self.weight_decay < float("inf"), "weight_decay", "a number of at least 0")
        must(0 < self.validation < 1, "validation", "a fraction between 0 and 1")
        must(
            self.resize is None or 1 <= self.resize <= LARGEST,
            "resize",
            f"at most {LARGEST} pixels, and at least what the images have",
        )
        must(self.limit is None or self.limit >= 2, "limit", "at least 2 images")
        must(self.threads is None or self.threads >= 1, "threads", "at least 1")
        must(self.seed >= 0, "seed", "a number of at least 0")
        must(0 <= self.checkpoint_minutes < float("inf"), "checkpoint_minutes", "a number of at least 0")
        must(self.keep_checkpoints >= 1, "keep_checkpoints", "at least 1")
        self._check_form("lookahead_cache", Cache.parse)
        self._check_form("cache_memory", parse_size)
        if self.stop is not None:
            self._check_form("stop", parse_condition)
        must(
            self.frozen_bn == "eval" or self.lookahead_cache == "off",
            "lookahead_cache",
            "off, or --frozen-bn eval: with the batch's statistics an image's features depend on its batch",
        )
        parts = self.partition
        must(
            parts in ("filters", "blocks") or (parts.isdecimal() and len(parts) < 10),
            "partition",
            "filters, blocks or a number",
        )

    def _check_learning_rate(self, must: Callable[[bool, str, str], None]) -> None:
        constant = self.lr_schedule == "constant"
        must(self.lr_decay is None or 0 < self.lr_decay <= 1, "lr_decay", "a fraction above 0 and up to 1")
        must(self.lr_decay is None or not constant, "lr_decay", "--lr-schedule linear or step to go with it")
        must(self.warmup >= 0, "warmup", "a number of epochs")
        must(self.epochs is None or self.warmup < self.epochs, "warmup", "fewer than --epochs, which it is a part of")

    def _check_form(self, option: str, parse: Callable[[str], Any]) -> None:
        try:
            parse(getattr(self, option))
        except ValueError as error:
            wrong = ConfigError(f"--{option.replace('_', '-')}: {error}")
            for note in getattr(error, "__notes__", ()):
                wrong.add_note(note)
            raise wrong from error

    def _defaults(self) -> dict[str, Any]:
        family = next(family for family in ARCH_DEFAULTS if self.arch.startswith(family))
        return ARCH_DEFAULTS[family] | DATASET_DEFAULTS[self.dataset] | OPTIMIZER_DEFAULTS[self.optimizer]

    def rate_schedule(self) -> RateSchedule:
        """How the learning rate changes from epoch to epoch."""
        assert self.epochs is not None
        part = self.lr_decay or (0.5 if self.lr_schedule == "step" else 1.0)
        return RateSchedule(self.lr_schedule, self.epochs, part, self.warmup)

    def lr_for(self, batch_size: int) -> float:
        """Learning rate for batches of this size, as ``scale_lr`` says."""
        assert self.lr is not None
        return scaled_lr(self.lr, self.scale_lr, batch_size, self._defaults()["batch_size"])

    def cache(self) -> Cache | None:
        """What a look-ahead computes once; None for nothing."""
        return Cache.parse(self.lookahead_cache)

    @property
    def looks_ahead(self) -> bool:
        """Whether a new sub-network first learns alone."""
        return self.init.startswith("lookahead")

    @property
    def preserves_output(self) -> bool:
        """Whether a new sub-network gets weights that leave the output as it is."""
        return self.init.endswith("identity")

    def as_json(self) -> dict[str, Any]:
        """All options by name, as JSON values; :meth:`from_json` reads them."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, options: Any) -> Config:
        """Return the configuration that ``options``, JSON values that nobody vouches for, describe.

        Raises
        ------
        ConfigError
            If an option is unknown, missing, of another type or has an impossible value.
        """
        try:
            config: Config = from_json(cls, BEFORE | options if type(options) is dict else options, "config")
        except ValueError as error:
            raise ConfigError(str(error)) from error
        return config.resolve()

    @staticmethod
    def left_to_machine(name: str, value: Any) -> bool:
        """Whether an option of this value leaves the choice to the machine: another one may do otherwise."""
        return name in LEFT_TO_MACHINE and value == LEFT_TO_MACHINE[name]

    def resumed_as(self, asked: Config) -> Config:
        """Return what a run with this configuration is to be resumed with.

        Parameters
        ----------
        asked : Config
            This configuration with the options of a new command line in it. One that is left open changes nothing.

        Raises
        ------
        ConfigError
            Naming the first option whose change would change the run.
        """
        changes = {}
        for name in (field.name for field in fields(self)):
            ours, theirs = getattr(self, name), getattr(asked, name)
            left_open = theirs is None or self.left_to_machine(name, theirs)
            if theirs == ours or (name not in MAY_CHANGE and left_open):
                continue
            option = f"--{name.replace('_', '-')}"
            if name == "epochs" and theirs < ours:
                raise ConfigError(f"{option} {theirs}: the run was begun with {ours}, which may grow but not shrink")
            if name == "epochs" and self.lr_schedule != "constant":
                raise ConfigError(
                    f"{option} {theirs}: the rate of this run falls over its {ours} epochs, which may not grow"
                )
            if name not in (*MAY_CHANGE, "epochs") and not self.left_to_machine(name, ours):
                raise ConfigError(
                    f"{option} {theirs}: the run was begun with {ours}; leave the option out, or begin anew"
                )
            changes[name] = theirs
        return replace(self, **changes).resolve()
