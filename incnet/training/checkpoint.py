"""Weights on disk, as safetensors: names, shapes and numbers, nothing that could run."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from incnet.backend import asnumpy
from incnet.layer import Layer

__all__ = ["CheckpointError", "load_weights", "save_weights"]


class CheckpointError(Exception):
    """A file of weights cannot be written or read."""


def save_weights(path: Path, layer: Layer) -> None:
    """Write parameters and buffers under their names; the file is replaced as a whole or not at all.

    Raises
    ------
    CheckpointError
        If the file cannot be written; an earlier file of that name is then untouched.
    """
    arrays = {name: np.ascontiguousarray(asnumpy(array)) for name, array in layer.state().items()}
    temporary = path.with_suffix(".tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(save(arrays))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CheckpointError(
            f"cannot save weights to {path}: {error.strerror}; free some space or choose --out"
        ) from error


def load_weights(path: Path, layer: Layer) -> None:
    """Read what :func:`save_weights` wrote into a layer of the same structure.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged or belongs to another architecture; the layer is then untouched.
    """
    try:
        layer.load_state(load_file(path))
    except OSError as error:
        raise CheckpointError(f"cannot read weights from {path}: {error.strerror or error}") from error
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path} does not hold weights for this network: {error}") from error
