"""Incremental training of deep convolutional networks, on an engine written from scratch.

What a user needs has its name here, and is imported when one of the names is first used: ``import incnet`` by itself
loads neither numba nor a kernel. A whole run, in a folder as complete as one of the command's::

    import incnet

    run = incnet.Run(incnet.Config(dataset="digits", epochs=9))
    summary = incnet.train_run(run, "runs/digits")

For a training loop of one's own see docs/library.md and examples/grow_by_hand.py.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if sys.argv[:1] == ["-m"]:  # python -m incnet.train: so it is while Python looks for the module
    importlib.import_module("incnet.interrupt")

if TYPE_CHECKING:
    from incnet.api import *

__version__ = "0.1.0"

__all__ = [
    # Arrays, and the kernels that compute with them.
    "Array",
    "asarray",
    "asnumpy",
    "ops",
    "use",
    # Layers, and the network that grows.
    "Layer",
    "Parameter",
    "AvgPool2d",
    "BatchNorm2d",
    "Conv2d",
    "Dropout",
    "Flatten",
    "GlobalAvgPool2d",
    "Identity",
    "LeakyReLU",
    "Linear",
    "MaxPool2d",
    "ReLU",
    "Residual",
    "Sequential",
    "Subsample",
    "residual_block",
    "Graph",
    "fuse",
    "Unit",
    "build",
    "make_classifier",
    "partition",
    "resnet",
    "vgg16",
    # Growth and training, step by step.
    "insert",
    "GrowthRule",
    "Periodic",
    "Plateau",
    "SlopeAngle",
    "SGD",
    "Optimizer",
    "RMSProp",
    "Step",
    "Replay",
    "Metrics",
    "evaluate",
    "train_epoch",
    "recalibrate",
    "WeightAverage",
    "NonFiniteError",
    # Data.
    "Augmentation",
    "Batch",
    "DataError",
    "Dataset",
    "Loader",
    "Normalisation",
    "Split",
    "load_dataset",
    "split_validation",
    # Whole runs, and the models that they leave.
    "Config",
    "ConfigError",
    "Run",
    "resume_run",
    "train_run",
    "Display",
    "Interrupted",
    "Model",
    "ModelError",
    "load_model",
    "save_model",
]

if not TYPE_CHECKING:  # for a type checker a name that is not there is an error

    def __getattr__(name: str) -> Any:
        """Import a public name when it is first used."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module("incnet.api"), name)
        return value


def __dir__() -> list[str]:
    """Return the public names, imported yet or not, and the modules that are."""
    return sorted({*globals(), *__all__})
