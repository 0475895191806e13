"""Presets: settings under one name, for those options of a run that are not given.

What is declared here holds below the command line and a file of options, and above all defaults. Like these
(``Option.defaults``) a setting may depend on data set, exact architecture and optimizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from incnet.names import did_you_mean
from incnet.options import ABSENT, choose

__all__ = ["PRESETS", "Preset", "expanded"]


@dataclass(frozen=True)
class Preset:
    """Settings under one name.

    Attributes
    ----------
    summary : str
        What it is for, for the help.
    settings : mapping of str to mapping
        For each option that it sets, values as in ``Option.defaults``; where none fits, the option is left alone.
    unless : mapping of str to tuple of str
        Options that it leaves alone if one of others is given, with which they do not go together.
    fewest_epochs : mapping of str to int
        Options that it leaves alone in runs of fewer epochs, which have no room for them.
    partly : mapping of str to str
        Where an option is left alone although that is a pity: what is missing then, and where it would not be.
    """

    summary: str
    settings: Mapping[str, Mapping[str, Any]]
    unless: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    fewest_epochs: Mapping[str, int] = field(default_factory=dict)
    partly: Mapping[str, str] = field(default_factory=dict)


PRESETS = {
    "fast": Preset(
        "much accuracy for little training: the whole network at once, by gradient descent whose rate falls to zero, "
        "on images that grow",
        {
            "method": {"": "baseline"},
            "epochs": {"": 12},
            # Layers without batch norm, VGG's dense ones and all of vgg16, do not take the long steps of a ResNet.
            "optimizer": {"": "sgd", "vgg16": "rmsprop"},
            "lr": {
                "sgd": 0.2,
                "rmsprop": 5e-4,
                "vgg16 rmsprop": 1e-4,
                "vgg16-bn rmsprop": 1e-4,
                "vgg16 sgd": 0.01,
                "vgg16-bn sgd": 0.04,
                "digits sgd": 0.05,
            },
            "momentum": {"": 0.9, "vgg16 rmsprop": 0.0, "vgg16-bn rmsprop": 0.0},
            "weight_decay": {"sgd": 5e-4},
            "batch_size": {"vgg16-bn": 64},
            "lr_schedule": {"": "linear"},
            "warmup": {"": 2},
            # So few epochs see each image so seldom that larger shifts cost more than they bring.
            "augmentation": dict.fromkeys(("cifar10", "cifar100", "cifar100-coarse"), "shift+mirror:2"),
            "image_sizes": {
                "cifar10": "16:33%,24:28%,32",
                "cifar100": "16:33%,24:28%,32",
                "cifar100-coarse": "16:33%,24:28%,32",
                "fashion-mnist": "14:33%,21:28%,28",
            },
        },
        unless={"image_sizes": ("resize", "lookahead_cache")},
        fewest_epochs={"warmup": 3, "image_sizes": 3},
        partly={
            "image_sizes": "the images do not grow: they do for networks that take smaller ones, on CIFAR and "
            "Fashion-MNIST, in three epochs or more; elsewhere see --image-sizes"
        },
    ),
    "paper": Preset(
        "what the paper's Table 1 and its text fix; it does not average weights",
        {
            "partition": {"": "filters"},
            "shortcut": {"": "A"},
            "dense_init": {"": "he"},
            "growth": {"": "slope-angle"},
            "optimizer": {"": "rmsprop"},
            "lr": {"rmsprop": 1e-4, "digits rmsprop": 3e-4},  # the paper has no digits; their epochs are short
            "lr_schedule": {"": "constant"},
            "warmup": {"": 0},
            "scale_lr": {"": "off"},
            "rho": {"": 0.9},
            "momentum": {
                "": 0.9,
                "vgg16 rmsprop": 0.0,
                "vgg16-bn rmsprop": 0.0,
            },  # of the two interpretations, see --rho, the one that does better
            "weight_decay": {"": 1e-4},
            "batch_size": {"": 128, "vgg16": 32, "vgg16-bn": 32, "digits": 32},
            "validation": {"": 0.1},
            "augment": {"": True},
            "average": {"": False},
        },
    ),
}


def expanded(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that are given, and below them those of the preset that they name.

    Parameters
    ----------
    given : mapping of str to value
        Options of a run. Without ``preset`` they are all.
    defaults : mapping of str to value
        What data set, architecture and optimizer are if nothing says so.

    Raises
    ------
    ValueError
        If there is no such preset.
    """
    name = given.get("preset")
    if name is None:
        return dict(given)
    if name not in PRESETS:
        raise ValueError(f"--preset {name:.80}: choose {' or '.join(PRESETS)}{did_you_mean(name, PRESETS)}")
    preset, kind = PRESETS[name], {**defaults, **given}
    optimizer = given.get("optimizer") or choose(preset.settings["optimizer"], kind["dataset"], kind["arch"])
    epochs = given.get("epochs") or choose(preset.settings.get("epochs", {}), kind["dataset"], kind["arch"])
    settings = {
        option: choose(values, kind["dataset"], kind["arch"], optimizer)
        for option, values in preset.settings.items()
        if not any(given.get(other) for other in preset.unless.get(option, ()))
        and not (isinstance(epochs, int) and epochs < preset.fewest_epochs.get(option, 0))
    }
    return {option: value for option, value in settings.items() if value is not ABSENT} | dict(given)
