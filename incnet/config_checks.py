"""Which values the options of a run may have, each by itself and with one another.

All of it is said before anything is read or computed, naming the option, its value and what would be right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from incnet.colours import parse_colour
from incnet.freezing import Freezing
from incnet.image_sizes import ImageSizes
from incnet.lookahead_cache import Cache
from incnet.names import ARCHITECTURES, DATASETS, DEEPEST, DEPTH, did_you_mean
from incnet.options import described, flag, going_with
from incnet.stopping import parse as parse_condition
from incnet.units import parse_size
from incnet.user_code import is_place

if TYPE_CHECKING:
    from incnet.config import Config

__all__ = ["ConfigError", "check_architecture", "check_change", "check_dataset", "check_values"]

# A large image, as a bound for the memory that a config.json can ask for.
LARGEST = 1024


class ConfigError(Exception):
    """An option has an impossible value."""


def check_dataset(config: Config) -> None:
    """Raise ConfigError unless the data set is one of incnet's, or can be one of somebody's own."""
    own = config.own_data
    if own is None or own.is_dir() or own.suffix == ".npz":
        return
    meant = did_you_mean(config.dataset, DATASETS)
    if own.is_file():
        found = f"the data set {config.dataset} is a file"
        raise ConfigError(f"{found}: give a folder, with a folder of pictures for each class, or arrays in a .npz file")
    there = "" if meant else f", or a folder of pictures: none is at {own.absolute()}"
    raise ConfigError(f"unknown data set {config.dataset}: choose one of {', '.join(DATASETS)}{there}{meant}")


def check_architecture(arch: str) -> None:
    """Raise ConfigError unless there is such a network, or it is the place of one of somebody's own."""
    if is_place(arch):
        return
    squeezed = arch.replace("-", "").lower()
    if not (arch in ARCHITECTURES or (arch.startswith("resnet") and arch[6:].isdecimal())):
        meant = did_you_mean(arch, [squeezed] if squeezed[6:].isdecimal() else ARCHITECTURES)
        own = "" if meant else ", or a network of your own, FILE.py:FUNCTION"
        raise ConfigError(f"--arch {arch}: choose one of {', '.join(ARCHITECTURES)}{own}{meant}")
    if arch.startswith("resnet") and (len(arch) > 10 or int(arch[6:]) > DEEPEST):
        raise ConfigError(f"--arch {arch:.40}: choose a depth of at most {DEEPEST}")


def check_values(config: Config) -> None:
    """Raise ConfigError unless a run can have these options, none of which is left open."""
    checks = Checks(config)  # growth comes first: other options are parts of the epochs
    checks.company()
    checks.growth()
    checks.network()
    checks.images()
    checks.lookahead()
    checks.optimization()
    checks.batches()
    checks.machine()


class Checks:
    """Checks of one configuration, in groups of its options."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def must(self, holds: bool, option: str, remedy: str) -> None:
        """Raise ConfigError, with the remedy, unless something holds of an option."""
        if not holds:
            raise ConfigError(f"{flag(option)} {getattr(self.config, option)}: choose {remedy}")

    def must_read(self, option: str, parse: Callable[[str], Any]) -> None:
        """Raise ConfigError unless the text that an option has, if it has one, can be parsed."""
        text = getattr(self.config, option)
        if text is None:
            return
        try:
            parse(text)
        except ValueError as error:
            wrong = ConfigError(f"{flag(option)}: {error}")
            for note in getattr(error, "__notes__", ()):
                wrong.add_note(note)
            raise wrong from error

    def company(self) -> None:
        """Options that mean something only where another one has certain values."""
        for name, (other, values) in going_with(type(self.config)).items():
            holds = getattr(self.config, name) is None or getattr(self.config, other) in values
            self.must(holds, name, f"{flag(other)} {' or '.join(values)} to go with it")

    def network(self) -> None:
        """Its architecture, and how it is cut into sub-networks."""
        config, must = self.config, self.must
        parts = config.partition
        if is_place(config.arch) and parts != "filters":
            raise ConfigError(
                f"--partition {parts}: leave it out: a network of your own is cut into the sub-networks that "
                "its function returns"
            )
        must(
            parts in ("filters", "blocks") or (parts.isdecimal() and len(parts) < 10) or bool(DEPTH.fullmatch(parts)),
            "partition",
            "filters, blocks, depth, depth:K with a number K of at least 2, or a number",
        )
        must(config.subnetworks is None or config.subnetworks >= 1, "subnetworks", "at least 1")
        must(config.shortcut == "A" or config.arch.startswith("resnet"), "shortcut", "A: this network has no shortcuts")
        vgg = config.arch.startswith("vgg")
        must(config.dense_init == "he" or vgg, "dense_init", "he: it is for VGG-16's dense layers")
        must(config.trust is None or config.resume is not None, "trust", "--resume with it, or leave it out")

    def images(self) -> None:
        """Which there are, and their size."""
        config, must = self.config, self.must
        must(0 < config.validation < 1, "validation", "a fraction between 0 and 1")
        must(
            config.resize is None or 1 <= config.resize <= LARGEST,
            "resize",
            f"at most {LARGEST} pixels, and at least what the images have",
        )
        must(config.channels in (None, 1, 3), "channels", "1 or 3")
        must(
            config.image_size is None or 1 <= config.image_size <= LARGEST,
            "image_size",
            f"at least 1 pixel, and at most {LARGEST}",
        )
        self.must_read("background", parse_colour)
        if config.dataset == "digits" and config.data_dir is not None:
            raise ConfigError(
                f"--data-dir {config.data_dir}: the digits come with scikit-learn, and are read from no folder: leave "
                "it out, or name the data set that is there. Pictures of your own: incnet train FOLDER"
            )
        must(config.limit is None or config.limit >= 2, "limit", "at least 2 images")
        assert config.epochs is not None
        self.must_read("image_sizes", partial(ImageSizes.parse, budget=config.epochs))

    def growth(self) -> None:
        """When a stage ends, what is frozen, when the run stops."""
        config, must = self.config, self.must
        assert config.epochs is not None
        must(config.epochs >= 1, "epochs", "at least 1")
        must(config.window >= 2, "window", "at least 2 epochs: a line needs two points")
        must(0 < config.gamma <= 1, "gamma", "a number above 0 and up to 1")
        must(config.period is None or config.period >= 1, "period", "at least 1 epoch")
        must(config.patience >= 1, "patience", "at least 1 epoch")
        must(0 <= config.min_delta < 1, "min_delta", "a fraction of at least 0 and below 1")
        must(config.min_stage_epochs >= 0, "min_stage_epochs", "at least 0")
        most = config.max_stage_epochs
        must(most is None or most > config.min_stage_epochs, "max_stage_epochs", "more than --min-stage-epochs")
        self.must_read("stop", parse_condition)
        self.must_read("freeze", partial(Freezing.parse, budget=config.epochs))
        must(
            config.freeze is None or not DEPTH.fullmatch(config.partition),
            "freeze",
            f"none, or another --partition than {config.partition}: there S1 lies between layers that learn to the end",
        )

    def lookahead(self) -> None:
        """How a new sub-network begins, and what of it is computed once."""
        config, must = self.config, self.must
        must(config.lookahead_epochs >= 1, "lookahead_epochs", "at least 1, or --init random or identity for none")
        most = config.max_stage_epochs
        must(
            most is None or not config.looks_ahead or most > config.lookahead_epochs,
            "max_stage_epochs",
            "more than --lookahead-epochs, so that everything is trained for an epoch",
        )
        must(
            not config.copies_below or bool(DEPTH.fullmatch(config.partition)),
            "init",
            f"another, or --partition depth: with --partition {config.partition} nothing lies on a block of its own "
            "width",
        )
        self.must_read("lookahead_cache", Cache.parse)
        self.must_read("cache_memory", parse_size)
        must(
            config.image_sizes is None or config.lookahead_cache == "off",
            "lookahead_cache",
            "off, or leave out --image-sizes: features that are kept are of images of one size",
        )
        must(
            config.frozen_bn == "eval" or config.lookahead_cache == "off",
            "lookahead_cache",
            "off, or --frozen-bn eval: with the batch's statistics an image's features depend on its batch",
        )

    def optimization(self) -> None:
        """The optimizer, its rate, and what reads the network."""
        config, must = self.config, self.must
        assert config.epochs is not None and config.lr is not None and config.momentum is not None
        must(0 < config.lr < float("inf"), "lr", "a positive number")
        must(config.lr_decay is None or 0 < config.lr_decay <= 1, "lr_decay", "a fraction above 0 and up to 1")
        must(config.warmup >= 0, "warmup", "a number of epochs")
        must(config.warmup < config.epochs, "warmup", "fewer than --epochs, which it is a part of")
        must(0 <= config.rho < 1, "rho", "a number in [0, 1)")
        must(0 <= config.momentum < 1, "momentum", "a number in [0, 1)")
        must(0 <= config.weight_decay < float("inf"), "weight_decay", "a number of at least 0")
        must(config.recalibrate >= 0, "recalibrate", "a number of batches, or 0 for none")
        must(
            config.recalibrate > 0 or not config.average,
            "recalibrate",
            "at least 1 batch, or --no-average: the statistics of the averaged weights are nowhere else",
        )

    def batches(self) -> None:
        """How many images a step takes."""
        config, must = self.config, self.must
        assert config.batch_size is not None
        auto = config.batch_size == "auto"
        must(config.batch_size == "auto" or config.batch_size >= 1, "batch_size", "at least 1, or auto")
        must(not auto or config.memory_limit is not None, "batch_size", "a --memory-limit with it, such as 4GB")
        must(config.max_batch_size >= 1, "max_batch_size", "at least 1")
        self.must_read("memory_limit", parse_size)
        must(
            not (auto and config.device == "reference"),
            "batch_size",
            "a number: what --device reference takes is not known beforehand",
        )

    def machine(self) -> None:
        """Where it computes, and what it leaves on disk."""
        config, must = self.config, self.must
        must(config.threads is None or config.threads >= 1, "threads", "at least 1")
        must(
            config.device != "reference" or config.threads in (None, 1),
            "threads",
            "1: --device reference computes on one thread",
        )
        must(config.seed >= 0, "seed", "a number of at least 0")
        must(0 <= config.checkpoint_minutes < float("inf"), "checkpoint_minutes", "a number of at least 0")
        must(config.keep_checkpoints >= 1, "keep_checkpoints", "at least 1")


def check_change(config: Config, name: str, ours: Any, theirs: Any) -> None:
    """Raise ConfigError if a run that was begun with one value of an option cannot go on with the other."""
    kind: type = type(config)
    changed = f"{flag(name)} {theirs}"
    match described(kind)[name].on_resume:
        case "may grow" if theirs < ours:
            raise ConfigError(f"{changed}: the run was begun with {ours}, which may grow but not shrink")
        case "may grow" if config.lr_schedule != "constant":
            raise ConfigError(f"{changed}: the rate of this run falls over its {ours} epochs, which may not grow")
        case "may grow" if config.freeze is not None:
            raise ConfigError(
                f"{changed}: sub-networks of this run are frozen at fractions of its {ours} epochs, which may not grow"
            )
        case "may grow" if replace(config, epochs=theirs).images_grow() != config.images_grow():
            raise ConfigError(f"{changed}: the images of this run grow over its {ours} epochs, which may not grow")
        case "fixed" if not config.left_to_machine(name, ours):
            raise ConfigError(f"{changed}: the run was begun with {ours}; leave the option out, or begin anew")
