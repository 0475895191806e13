"""Every option of a run, in one place: the command line is made from this dataclass."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from incnet.checked_json import from_json, to_json, type_hints
from incnet.config_checks import ConfigError, check_architecture, check_change, check_dataset, check_values
from incnet.freezing import Freezing
from incnet.image_sizes import ImageSizes
from incnet.learning_rate import RateSchedule, scaled_lr
from incnet.lookahead_cache import Cache
from incnet.names import ARCHITECTURES, DATASETS
from incnet.options import as_of_now, described, flag, option, with_origins
from incnet.presets import PRESETS, expanded
from incnet.user_code import absolute, is_place

__all__ = ["Config", "ConfigError"]

# Groups of options, in the order of the help.
NETWORK, IMAGES, GROWTH, LOOKAHEAD = "data set and network", "images", "when to grow, when to stop", "look-ahead"
RATE, NORM, BATCH = "optimization", "batch norm, evaluation", "batch size"
MACHINE, FOLDER = "machine", "run folder"


def _in_words(preset: str) -> str:
    return f"{preset}: {PRESETS[preset].summary}."


@dataclass(frozen=True)
class Config:
    """Train a convolutional network incrementally: start small, grow when the learning curve flattens.

    Writes a run folder with config.json, metrics.jsonl, checkpoints, summary.json and the weights. Exits with 0; 2 for
    bad input; 3 when the numbers diverge; 4 when the disk is full; 130, 143 or 129 when SIGINT, SIGTERM or SIGHUP
    stops it.

    Examples::

      incnet train digits                       a minute, nothing to download
      incnet train cifar10 --arch vgg16 --epochs 100
      incnet train cifar10 --method baseline    the whole network from the start
      incnet train cifar10 --preset fast        minutes, with settings that do well
      incnet train --resume runs/RUN            go on after Ctrl-C or a crash
      incnet train --config options.toml        options from a file: epochs = 9
      incnet train --config runs/RUN/config.json --seed 1
    """

    takes_file: ClassVar[bool] = True

    # Data set and network.

    dataset: str = option(
        "What to learn: digits (embedded, offline), cifar10, cifar100, cifar100-coarse (its 20 classes of five), "
        "mnist or fashion-mnist; a folder of pictures, with a folder for each class, or train, validation and test "
        "with these inside; or a .npz file with x_train, y_train, x_test and y_test.",
        "digits",
        group=NETWORK,
        names=DATASETS,
        positional=True,
    )
    arch: str = option(
        "Network: resnet20, resnet32, resnet44, resnet56 (any 6n+2), vgg16 or vgg16-bn; or one of your own, "
        "FILE.py:FUNCTION or MODULE:FUNCTION, which is run: a function of input shape and generator that returns "
        "sub-networks by name.",
        "resnet20",
        group=NETWORK,
        names=ARCHITECTURES,
        metavar="NAME",
        code=True,
    )
    method: Literal["incremental", "baseline"] = option(
        "Grow sub-network by sub-network, or train the whole network from the start.", "incremental", group=NETWORK
    )
    init: Literal["lookahead", "random", "identity", "lookahead+identity", "copy", "lookahead+copy"] = option(
        "A new sub-network is first trained with everything else frozen, or all are trained at once; 'identity' "
        "gives it weights that leave the network's output as it is (in evaluation, and nearly so behind max pooling), "
        "instead of random ones; 'copy', with --partition depth, those of the block below, where they fit.",
        "lookahead",
        group=NETWORK,
        goes_with=("method", ("incremental",)),
    )
    partition: str = option(
        "Sub-networks: 'filters' (one for each width, as in the paper), 'blocks' (one each), or their number; or "
        "'depth': one block of each width, and then all others between them, with 'depth:K' in K - 1 rounds. A network "
        "of your own has those that its function returns.",
        "filters",
        group=NETWORK,
        names=("filters", "blocks", "depth"),
        metavar="{filters,blocks,depth:K,N}",
    )
    subnetworks: int | None = option(
        "Use only the first so many sub-networks, as if the network ended there.",
        None,
        group=NETWORK,
        otherwise="all of them",
        before=None,
    )
    shortcut: Literal["A", "B"] = option(
        "Shortcuts of a ResNet where the shape changes: subsampling without parameters, or a 1x1 convolution.",
        "A",
        group=NETWORK,
        before="A",
    )
    dense_init: Literal["he", "normal"] | None = option(
        "Weights of VGG-16's dense layers, and of the classifier behind them, at the start: He's, or normal with a "
        "deviation of 0.01, from which training gets going much sooner (see docs/results).",
        None,
        group=NETWORK,
        # Dropout of a half doubles He's variance in each layer: the first answers are far off, and sure of themselves.
        defaults={"": "he", "vgg16": "normal", "vgg16-bn": "normal"},
        before="he",
        by_name=True,
    )
    start_from: Path | None = option(
        "Model or run folder from which trained weights are taken over: sub-networks that fit, by names and shapes, "
        "are in from the start. Where the classes are others the classifier is new, and first trained alone, for "
        "--lookahead-epochs.",
        None,
        group=NETWORK,
        metavar="MODEL",
        otherwise="weights are drawn at random",
        before=None,
    )
    epochs: int | None = option(
        "Epochs of the whole run, look-ahead included.",
        None,
        group=NETWORK,
        # About an hour on two cores: with averaged weights longer runs hardly end higher.
        defaults={"": 100, "vgg16": 30, "vgg16-bn": 30, "digits": 30, "mnist": 30, "fashion-mnist": 60},
        on_resume="may grow",
    )
    seed: int = option("Of everything random: weights, split, order, augmentation, dropout.", 0, group=NETWORK)
    preset: str | None = option(
        f"Settings under one name, for options that are not given. {' '.join(map(_in_words, PRESETS))}",
        None,
        group=NETWORK,
        names=tuple(PRESETS),
        metavar=f"{{{','.join(PRESETS)}}}",
        otherwise="none: each option has its own default",
        before=None,
        origin=True,
    )

    # When to grow, when to stop.

    growth: Literal["slope-angle", "periodic", "plateau"] = option(
        "Grow as the learning curve flattens (the paper's rule, see --window and --gamma); every --period epochs, "
        "until all sub-networks are in; or when --patience epochs have brought no new best accuracy.",
        "slope-angle",
        group=GROWTH,
        goes_with=("method", ("incremental",)),
    )
    window: int = option(
        "Epochs over which a line is fitted to the validation accuracy.",
        5,
        group=GROWTH,
        goes_with=("growth", ("slope-angle",)),
    )
    gamma: float = option(
        "Grow when the line's angle is at most gamma times that of the window before.",
        0.5,
        group=GROWTH,
        goes_with=("growth", ("slope-angle",)),
    )
    angle_unit: Literal["percent", "fraction"] = option(
        "Accuracy unit drawn as long as one epoch: the angle depends on it.",
        "percent",
        group=GROWTH,
        goes_with=("growth", ("slope-angle",)),
    )
    period: int | None = option(
        "Epochs of a stage, look-ahead included.",
        None,
        group=GROWTH,
        otherwise="an equal share of --epochs",
        goes_with=("growth", ("periodic",)),
    )
    patience: int = option("Epochs in a row that a plateau lasts.", 5, group=GROWTH, goes_with=("growth", ("plateau",)))
    min_delta: float = option(
        "Fraction that a validation accuracy must be above the best one to end a plateau.",
        0.001,
        group=GROWTH,
        goes_with=("growth", ("plateau",)),
    )
    min_stage_epochs: int = option(
        "Epochs that a stage lasts at least, look-ahead included, whatever its learning curve.", 0, group=GROWTH
    )
    max_stage_epochs: int | None = option(
        "Epochs that a stage lasts at most.",
        None,
        group=GROWTH,
        otherwise="an equal share of the epochs left, but at least a look-ahead and an epoch of training",
    )
    end: Literal["rule", "budget"] = option(
        "With all sub-networks in: stop when the curve flattens again, or go on until the epochs are used, as periodic "
        "growth always does.",
        "rule",
        group=GROWTH,
        on_resume="may change",
    )
    stop: str | None = option(
        "Stop, too, after an epoch for which this holds: 'accuracy>=0.88 | seconds>=3600', with >= > <= <, & before |, "
        "and parentheses. accuracy: of the validation images, a fraction; epochs: of the run; macs, flops: of all "
        "training steps; parameters: of the network in use; gain: of a stage that has just ended over the one before, "
        "in percentage points for each TFLOP that it took; seconds: since the run began, in all its sessions. With "
        "seconds the end depends on the clock; all else is a function of options and seed.",
        None,
        group=GROWTH,
        metavar="CONDITION",
        on_resume="may change",
    )

    freeze: str | None = option(
        "Freeze sub-networks for good, from the input up, when these fractions of the epochs are over: '0.7,0.85' "
        "freezes S1 at 0.7 of them and S2 at 0.85, with averaged weights and recalibrated statistics. The budget alone "
        "then ends the last stage.",
        None,
        group=GROWTH,
        metavar="FRACTIONS",
        otherwise="nothing is frozen but in look-ahead",
        before=None,
    )

    # Look-ahead.

    lookahead_epochs: int = option(
        "Epochs of look-ahead after each insertion; they count as epochs of the run.",
        3,
        group=LOOKAHEAD,
        goes_with=("init", ("lookahead", "lookahead+identity", "lookahead+copy")),
    )
    lookahead_cache: str = option(
        "Compute the frozen prefix's features of an image once, not in every epoch, in look-ahead and after --freeze: "
        "'off'; 'fixed', of images without augmentation; 'views:V', of V augmentations of each image, that take turns. "
        "The fewer views, the more it saves; as many as the prefix is frozen for epochs change nothing, and save "
        "nothing but validation.",
        "off",
        group=LOOKAHEAD,
        names=("off", "fixed", "views:2"),
        metavar="{off,fixed,views:V}",
    )
    cache_memory: str = option(
        "Memory (of the GPU, if there is one) that cached features may take, of each rank if there are several. What "
        "is beyond it lies in files in the run folder, while the prefix is frozen.",
        "2GB",
        group=LOOKAHEAD,
        metavar="SIZE",
        on_resume="may change",
    )
    cache_dtype: Literal["float32", "float16"] = option(
        "Type that cached features are rounded to. float16 takes half of the room, and holds values up to 65504.",
        "float32",
        group=LOOKAHEAD,
    )

    # Optimization.

    optimizer: Literal["rmsprop", "sgd"] = option(
        "RMSProp, or gradient descent; both with --momentum.", "rmsprop", group=RATE, before="rmsprop"
    )
    lr: float | None = option(
        "Learning rate.",
        None,
        group=RATE,
        # The paper's (Table 1). Steps on the digits must be long, for them to be learnt in seconds. A rate suits an
        # optimizer: that of gradient descent is He et al.'s.
        defaults={"": 1e-4, "digits": 3e-4, "sgd": 0.1},
    )
    lr_schedule: Literal["constant", "linear", "step"] = option(
        "Keep the learning rate; or let it fall at the end of the run, linearly to zero, or to a tenth and then to a "
        "hundredth. Then the budget alone ends the last stage.",
        "constant",
        group=RATE,
        before="constant",
    )
    lr_decay: float | None = option(
        "Part of the epochs in which the rate falls, at their end.",
        None,
        group=RATE,
        otherwise="1, the whole run, for linear; 0.5 for step, whose second drop is in the middle of that part",
        before=None,
        goes_with=("lr_schedule", ("linear", "step")),
    )
    warmup: int = option(
        "Epochs over which the rate rises linearly, at the start and whenever all layers begin to learn anew: after an "
        "insertion, after a look-ahead.",
        0,
        group=RATE,
        before=0,
    )
    scale_lr: Literal["off", "linear", "sqrt"] = option(
        "Multiply the learning rate by the ratio of the batch size to the default one, or by its square root.",
        "off",
        group=RATE,
    )
    rho: float = option(
        "Decay of RMSProp's average of squared gradients.", 0.9, group=RATE, goes_with=("optimizer", ("rmsprop",))
    )
    momentum: float | None = option(
        "Heavy ball on the optimizer's step; 0 for the other interpretation of the paper's 'momentum 0.9', which is "
        "then rho.",
        None,
        group=RATE,
        # With RMSProp it makes every step ten times as long, which VGG's dense layers, without batch norm, do not take.
        defaults={"": 0.9, "vgg16 rmsprop": 0.0, "vgg16-bn rmsprop": 0.0},
    )
    weight_decay: float = option("L2 penalty on the weights of convolutions and dense layers.", 1e-4, group=RATE)
    on_nonfinite: Literal["stop", "rollback"] = option(
        "When a loss, gradient or weight is not finite: stop, or go back an epoch and try half the learning rate.",
        "stop",
        group=RATE,
        on_resume="may change",
    )

    # Batch size.

    batch_size: Literal["auto"] | int | None = option(
        "Images in a step; 'auto' for the most that --memory-limit holds, at each stage anew.",
        None,
        group=BATCH,
        # The paper's (Table 1). The digits are 1,797 tiny images: batches must be small.
        defaults={"": 128, "vgg16": 32, "vgg16-bn": 32, "digits": 32},
    )
    memory_limit: str | None = option(
        "Memory for training, such as 4GB: network, optimizer, activations, batches loaded ahead, best weights. Not "
        "the interpreter, the data set, and cached features. Reckoned for the CPU's kernels: on a GPU leave some room; "
        "not with --device reference.",
        None,
        group=BATCH,
        metavar="SIZE",
        goes_with=("batch_size", ("auto",)),
    )
    max_batch_size: int = option("Images in a step, at most.", 1024, group=BATCH, goes_with=("batch_size", ("auto",)))

    # Batch norm, evaluation.

    average: bool = option(
        "Evaluate, save and hand on at growth the average of the weights over the last steps; training goes on from "
        "the weights.",
        True,
        group=NORM,
        before=False,
    )
    recalibrate: int = option(
        "Batches of training images over which batch norm's statistics are taken anew before each evaluation, with the "
        "weights as they are; 0 for the running averages, which lag behind.",
        20,
        group=NORM,
        before=0,
    )
    frozen_bn: Literal["eval", "batch"] = option(
        "Batch norm of the frozen sub-networks: running statistics (a fixed function), or the batch's.",
        "eval",
        group=NORM,
    )
    sync_bn: bool = option(
        "With several ranks: batch norm by the statistics of the whole batch, rather than of each rank's part of it.",
        False,
        group=NORM,
    )

    # Images.

    validation: float = option(
        "Fraction of the training images that is held out to decide when to grow.", 0.1, group=IMAGES
    )
    augment: bool = option("Shift, and where it makes sense mirror, the training images at random.", True, group=IMAGES)
    augmentation: str | None = option(
        "What --augment does: 'none', 'shift', 'shift+mirror', or with the largest shift in pixels 'shift+mirror:4'.",
        None,
        group=IMAGES,
        names=("none", "shift", "shift+mirror"),
        metavar="KIND",
        otherwise="what suits the data set; for own images a shift by an eighth, mirrored if they are in colour",
        before=None,
    )
    image_size: int | None = option(
        "Of a folder of pictures: height and width of the images. The smaller side is scaled, the middle cut out.",
        None,
        group=IMAGES,
        otherwise="what all pictures have, up to 64; else 32",
        before=None,
    )
    channels: int | None = option(
        "Of a folder of pictures: 1 for grey, 3 for colour.",
        None,
        group=IMAGES,
        otherwise="1 if all pictures are grey, else 3",
        before=None,
    )
    background: str = option(
        "Of a folder of pictures: colour behind what is transparent: white, black, or #rrggbb.",
        "white",
        group=IMAGES,
        names=("white", "black"),
        metavar="COLOUR",
        before="white",
    )
    damaged: Literal["skip", "refuse"] = option(
        "Of a folder of pictures: leave files out that are no whole pictures, naming them; or refuse the folder.",
        "skip",
        group=IMAGES,
        before="skip",
    )
    resize: int | None = option(
        "Height and width to which the images are interpolated as they are served, such as 224; at least their own.",
        None,
        group=IMAGES,
        otherwise="their own",
    )
    image_sizes: str | None = option(
        "Sizes through which the training images grow, in pixels: '16,24,32' averages them down to the smaller sizes "
        "for an equal share of the epochs each, '16:4,24:4,32' for four epochs each, '16:33%,24:25%,32' for parts of "
        "the run. Evaluation is always at full size, and the budget alone ends the last stage.",
        None,
        group=IMAGES,
        metavar="SIZES",
        otherwise="that of the images",
        before=None,
    )
    limit: int | None = option(
        "Use only the first N training images, for a smoke run.", None, group=IMAGES, otherwise="all"
    )
    data_dir: Path | None = option(
        "Folder of the data set.",
        None,
        group=IMAGES,
        metavar="FOLDER",
        otherwise="$INCNET_DATA, the cache, the usual folders; else it is downloaded",
        on_resume="may change",
        place=True,
    )

    # Machine.

    device: str = option(
        "Where to compute: auto, cpu, gpu, or gpu:1 for the second one. auto says what it chose; gpu without one is an "
        "error. Or reference: on one thread of the CPU, by the kernels' definitions in plain NumPy, many times slower, "
        "to be read and stepped through.",
        "auto",
        group=MACHINE,
        names=("auto", "cpu", "gpu", "reference"),
        metavar="{auto,cpu,gpu,reference}",
        by_machine=True,
    )
    convolution: Literal["auto", "im2col"] = option(
        "How to convolve: as it is fastest for a layer, together with what surrounds it; or by im2col, patches and one "
        "matrix product, layer by layer: slower, with more memory, and as the textbooks have it.",
        "auto",
        group=MACHINE,
        before="auto",
    )
    tf32: bool = option(
        "Let a GPU's tensor cores multiply, from factors rounded to TF32: faster, with errors of 1e-3 instead of 1e-6.",
        False,
        group=MACHINE,
    )
    threads: int | None = option(
        "Threads that the CPU's kernels may use.",
        None,
        group=MACHINE,
        otherwise="one for each core that this process may run on; ranks of one machine share its cores",
        by_machine=True,
    )
    allreduce: Literal["auto", "nccl", "staged"] = option(
        "All-reduce backend of several ranks on GPUs: NCCL, or staged in page-locked host memory. auto takes NCCL "
        "where it can connect the ranks, and says what it took and why.",
        "auto",
        group=MACHINE,
        on_resume="may change",
        old_names=("sums",),
    )

    # Run folder.

    out: Path | None = option(
        "Run folder; must be new.",
        None,
        group=FOLDER,
        metavar="FOLDER",
        otherwise="runs/DATASET-ARCH-METHOD-TIME",
        place=True,
        own=True,
    )
    resume: Path | None = option(
        "Run folder to go on in, from its newest whole checkpoint, with its own options.",
        None,
        group=FOLDER,
        metavar="FOLDER",
        on_resume="may change",
        place=True,
        own=True,
    )
    trust: str | None = option(
        "With --resume, for a network of one's own: file FILE.py, or module, that is run to find its layers that are "
        "none of incnet's.",
        None,
        otherwise="a run that has such layers is refused, and nothing is run",
        group=FOLDER,
        metavar="{FILE.py,MODULE}",
        on_resume="may change",
        place=True,
        own=True,
        before=None,
    )
    report: bool = option(
        "Keep a page on the run, report.html, in its folder up to date. Needs matplotlib and Jinja (incnet[report]).",
        True,
        group=FOLDER,
        on_resume="may change",
    )
    tensorboard: bool = option(
        "Write TensorBoard event files to the run folder. Needs TensorBoard (incnet[tensorboard]).",
        False,
        group=FOLDER,
        on_resume="may change",
    )
    checkpoint_minutes: float = option(
        "Minutes between two checkpoints within an epoch; there is one after every epoch besides. 0 for none within.",
        10.0,
        group=FOLDER,
        on_resume="may change",
    )
    keep_checkpoints: int = option("Number of checkpoints that are kept.", 2, group=FOLDER, on_resume="may change")

    # Not given, but found: last, since options may be given by their place.

    defaults_of: str | None = option(
        "Architecture whose defaults a network of one's own has.", None, group=NETWORK, shown=False, before=None
    )
    set_by_preset: tuple[str, ...] | None = option(
        "Options that have their value from the preset.",
        None,
        compare=False,
        group=NETWORK,
        shown=False,
        before=None,
        on_resume="may change",
        origin=True,
    )

    @classmethod
    def from_preset(cls, preset: str, **given: Any) -> Config:
        """Return the settings of a preset, and above them the options that are given, by name.

        Examples
        --------
        >>> Config.from_preset("fast", dataset="cifar10", epochs=24)

        Raises
        ------
        ConfigError
            If there is no such preset. Where a value is refused, at :meth:`resolve` or by a run, it is named as the
            preset's.
        """
        try:
            return cls(**cls.completed({**given, "preset": preset}))
        except ValueError as error:
            raise ConfigError(str(error)) from error

    @classmethod
    def completed(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return options that are given, by name, and what a preset among them says of others.

        Raises
        ------
        ValueError
            If there is no such preset.
        """
        whole = expanded(given, vars(cls()))
        return {**whole, "set_by_preset": tuple(name for name in whole if name not in given) or None}

    def resolve(self) -> Config:
        """Fill in what was left open, and check every value.

        Raises
        ------
        ConfigError
            Naming the option, its value and what would be right.
        """
        check_dataset(self)
        return self._typed()._filled()

    def for_objects(self, **names: str) -> Config:
        """Return this configuration, resolved, where ``dataset`` or ``arch`` is a name of an object: any name will do.

        What a preset has set for a data set of another name is what it sets for this one.

        Raises
        ------
        ConfigError
            As :meth:`resolve` does.
        """
        dataset = names.get("dataset", self.dataset)
        again = self._preset_for(dataset=dataset) if dataset != self.dataset else {}
        return replace(self, **{**again, **names})._typed()._filled()

    def for_network(self, *, batch_norm: bool) -> Config:
        """Return this configuration with what suits a network of one's own, of defaults and of its preset.

        ResNet's, if it has batch norm, and VGG's otherwise.
        """
        if self.defaults_of is not None:
            return self
        kind = "resnet20" if batch_norm else "vgg16"
        again = self._preset_for(arch=kind)
        again.pop("image_sizes", None)  # the network itself shows which it takes
        return replace(self, defaults_of=kind, **again)._filled()

    def for_one_size(self) -> Config:
        """Return this configuration for a network that takes images of one size: a preset does not let them grow."""
        return replace(self, image_sizes=None) if "image_sizes" in (self.set_by_preset or ()) else self

    def _preset_for(self, **kind: str) -> dict[str, Any]:
        """Return what the preset sets for another data set or architecture, of the options that it has set."""
        names = self.set_by_preset or ()
        given = {name: value for name, value in vars(self).items() if name not in names}
        settings = expanded({**given, **kind}, {}) if names else {}
        return {name: settings.get(name, getattr(Config, name)) for name in names}

    def as_network_of(self, begun: Config) -> Config:
        """Return this configuration as of the network of a run that was begun, if both have one of somebody's own.

        Where its code lies says nothing: whether it is the same network is seen by its layers.

        Raises
        ------
        ConfigError
            As :meth:`resolve` does.
        """
        if not (is_place(begun.arch) and is_place(self.arch)):
            return self
        same = replace(self, arch=begun.arch)
        if self.defaults_of is None and begun.defaults_of is not None:
            same = same.for_network(batch_norm=begun.defaults_of != "vgg16")
            return same if begun.image_sizes else same.for_one_size()
        return replace(same, defaults_of=begun.defaults_of)._filled()

    @contextmanager
    def naming_preset(self) -> Iterator[None]:
        """Let a ConfigError of the ``with`` block say which of the values that it names are the preset's."""
        try:
            yield
        except ConfigError as error:
            preset = f"--preset {self.preset}"
            chosen = {name: (getattr(self, name), preset) for name in self.set_by_preset or ()}
            error.args = (with_origins(str(error), Config, chosen),)
            raise

    @property
    def own_data(self) -> Path | None:
        """Folder or file of images that are not known by a name; ``data_dir`` says where it is now, if it was moved."""
        return None if self.dataset in DATASETS else self.data_dir or Path(self.dataset)

    def _typed(self) -> Config:
        """Every value in the type that config.json gives back: NumPy's numbers become Python's, text becomes a path.

        So that whatever a run is begun with, from Python too, it can be resumed with.
        """
        hints, values = type_hints(Config), {}
        try:
            for name, value in self.as_json().items():
                values[name] = from_json(hints[name], to_json(value, flag(name)), flag(name))
        except (TypeError, ValueError) as error:
            raise ConfigError(str(error)) from error
        return replace(self, **values)

    def _filled(self) -> Config:
        check_architecture(self.arch)
        left_open = [
            name for name, facts in described(Config).items() if facts.defaults and getattr(self, name) is None
        ]
        filled = replace(self, **{name: self._default(name) for name in left_open})
        if is_place(filled.arch):
            filled = replace(filled, arch=absolute(filled.arch))
        if filled.data_dir is not None:  # the run may be resumed from another folder
            filled = replace(filled, data_dir=filled.data_dir.absolute())
        if filled.start_from is not None:
            filled = replace(filled, start_from=_one_name(filled.start_from))
        if filled.dataset not in DATASETS and os.path.exists(filled.dataset):  # no name is too long for this one
            filled = replace(filled, dataset=str(_one_name(Path(filled.dataset))))
        # What depends on a network of one's own stays open until it is made: any default will do to check the others.
        still_open = {name: self._default(name, "resnet20") for name in left_open if getattr(filled, name) is None}
        with self.naming_preset():
            check_values(replace(filled, **still_open))
        return filled

    def _default(self, name: str, arch: str | None = None) -> Any:
        """Return what None stands for; None if that depends on a network that is not known yet."""
        facts, arch = described(Config)[name], arch or self.defaults_of
        if facts.by_name:
            return facts.default_for(self.dataset, self.arch, self.optimizer)
        if arch is None and is_place(self.arch):
            found = {facts.default_for(self.dataset, each, self.optimizer) for each in ("resnet20", "vgg16")}
            return found.pop() if len(found) == 1 else None
        return facts.default_for(self.dataset, arch or self.arch, self.optimizer)

    @property
    def dense_std(self) -> float | None:
        """Deviation with which ``dense_init`` draws weights, if not He's."""
        return 0.01 if self.dense_init == "normal" else None

    def rate_schedule(self) -> RateSchedule:
        """How the learning rate changes from epoch to epoch."""
        assert self.epochs is not None
        part = self.lr_decay or (0.5 if self.lr_schedule == "step" else 1.0)
        return RateSchedule(self.lr_schedule, self.epochs, part, self.warmup)

    def freezing(self) -> Freezing:
        """From when on sub-networks are frozen for good."""
        assert self.epochs is not None
        return Freezing() if self.freeze is None else Freezing.parse(self.freeze, self.epochs)

    def images_grow(self) -> ImageSizes | None:
        """How the size of the training images changes from epoch to epoch; None for not at all."""
        assert self.epochs is not None
        return None if self.image_sizes is None else ImageSizes.parse(self.image_sizes, self.epochs)

    @property
    def ends_by_budget(self) -> bool:
        """Whether the budget alone ends the last stage: what is planned over all epochs must come to its end."""
        return self.end == "budget" or self.planned_by_epochs

    @property
    def planned_by_epochs(self) -> bool:
        """Whether what an epoch does depends on how many there are: more of them make another run from the start."""
        return self.lr_schedule != "constant" or self.image_sizes is not None or self.freeze is not None

    @property
    def holds_shorter_runs(self) -> bool:
        """Whether each of the run's epochs is the last one of a shorter run with the same options."""
        return self.method == "baseline" and not self.planned_by_epochs

    def lr_for(self, batch_size: int) -> float:
        """Learning rate for batches of this size, as ``scale_lr`` says."""
        assert self.lr is not None
        return scaled_lr(self.lr, self.scale_lr, batch_size, self._default("batch_size"))

    def cache(self) -> Cache | None:
        """What a look-ahead computes once; None for nothing."""
        return Cache.parse(self.lookahead_cache)

    @property
    def looks_ahead(self) -> bool:
        """Whether a new sub-network is first trained with everything below it frozen."""
        return self.init.startswith("lookahead")

    @property
    def copies_below(self) -> bool:
        """Whether a new block begins with the weights of the one below."""
        return self.init.endswith("copy")

    @property
    def preserves_output(self) -> bool:
        """Whether a new sub-network gets weights that leave the output as it is."""
        return self.init.endswith("identity")

    def as_json(self) -> dict[str, Any]:
        """All options by name, as JSON values; :meth:`from_json` reads them."""
        values = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_json(cls, options: Any) -> Config:
        """Return the configuration that ``options``, untrusted JSON values, describe.

        Raises
        ------
        ConfigError
            If an option is unknown, missing, of another type or has an impossible value.
        """
        try:
            config: Config = from_json(cls, as_of_now(cls, options) if type(options) is dict else options, "config")
        except ValueError as error:
            raise ConfigError(str(error)) from error
        if config.dataset == "digits":  # earlier versions took a folder for them, and did not look into it
            config = replace(config, data_dir=None)
        return config._typed()._filled()

    @staticmethod
    def left_to_machine(name: str, value: Any) -> bool:
        """Whether an option of this value leaves the choice to the machine: another one may do otherwise."""
        return described(Config)[name].by_machine and value == getattr(Config, name)

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
        for name, facts in described(Config).items():
            ours, theirs = getattr(self, name), getattr(asked, name)
            left_open = theirs is None or self.left_to_machine(name, theirs)
            if theirs == ours or (facts.on_resume != "may change" and left_open):
                continue
            check_change(self, name, ours, theirs)
            changes[name] = theirs
        return replace(self, **changes)._typed()._filled()


def _one_name(path: Path) -> Path:
    """Return the absolute path that a file or folder has wherever one stands; a link keeps the name that it gives."""
    path = path.absolute()
    return path.resolve() if path.name == ".." else path.parent.resolve() / path.name
