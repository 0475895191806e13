"""What a run leaves on disk to go on from: checkpoints, and files of weights."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from incnet.backend import asnumpy
from incnet.checked_json import parse_json
from incnet.layer import Layer
from incnet.storage.files import TEMPORARY, remove_temporary, replace_file, writing
from incnet.storage.tensors import pack, unpack

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "Checkpoints",
    "is_beginning",
    "read_checkpoint",
    "save_weights",
]

# 128 bits of the SHA-256 sum: far more than it takes to find every accident.
_DIGITS = 32
_NAME = re.compile(rf"(\d{{6,18}})-epoch(\d{{1,18}})-batch(\d{{1,18}})-([0-9a-f]{{{_DIGITS}}})\.safetensors", re.ASCII)


class CheckpointError(Exception):
    """A file of weights or a checkpoint cannot be read, or does not belong to this run."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A moment of a run.

    Attributes
    ----------
    state : dict
        Everything but arrays, as JSON values.
    arrays : dict of str to array
        In host memory.
    """

    state: dict[str, Any]
    arrays: Mapping[str, np.ndarray]


class Name(NamedTuple):
    """What the name of a checkpoint's file says: its number, its place in the run, and the sum of its content."""

    serial: int
    epoch: int
    batch: int
    digest: str


class Checkpoints:
    """The checkpoints of one run, in a folder of their own.

    A file appears under its name when it is whole and on the disk. The name carries a checksum of the whole content,
    so that no damage goes unnoticed, wherever it is.

    Parameters
    ----------
    folder : Path
        Made when the first one is saved.
    keep : int
        Number of the newest that are kept, at least 1. The newest one from between two epochs is kept besides.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep

    def save(self, checkpoint: Checkpoint, epoch: int, batch: int) -> Path:
        """Write ``checkpoint``, taken after ``batch`` batches of an epoch that ``epoch`` others came before.

        Raises
        ------
        WriteError
            If it cannot be written; those before it are untouched.
        ValueError
            If its state is nothing that JSON can hold, such as an infinite number, for it could not be read again.
        """
        text = json.dumps(checkpoint.state, allow_nan=False)
        with writing(self.folder):
            self.folder.mkdir(exist_ok=True)
        serial = max((name.serial for name in self._names().values()), default=0) + 1
        stem = f"{serial:06d}-epoch{epoch}-batch{batch}"
        checksum = hashlib.sha256()
        # Summing takes as long as writing: a thread does it meanwhile, piece after piece.
        with ThreadPoolExecutor(max_workers=1) as summing:

            def summed() -> Iterator[Any]:
                for piece in pack(checkpoint.arrays, text):
                    summing.submit(checksum.update, piece)
                    yield piece

            def name() -> str:
                summing.shutdown(wait=True)
                return f"{stem}-{checksum.hexdigest()[:_DIGITS]}.safetensors"

            path = replace_file(self.folder / stem, summed(), name)
        self._remove_old()
        return path

    def newest(self, *, between_epochs: bool = False) -> tuple[Path, Checkpoint, list[str]] | None:
        """Read the newest checkpoint that is whole.

        Parameters
        ----------
        between_epochs : bool
            Go back to the end of an epoch: newer ones, from within the next, are removed. The run's events will be cut
            to fit the one that is read, and might then be fewer than those expect.

        Returns
        -------
        path, checkpoint, damaged
            ``damaged`` says what was wrong with the newer ones, which are renamed. None where there is no checkpoint.

        Raises
        ------
        CheckpointError
            If there are some, and all are damaged.
        """
        remove_temporary(self.folder)
        damaged: list[tuple[Path, str]] = []
        for path, name in self._newest_first():
            if between_epochs and name.batch:
                with writing(path):
                    path.unlink()
                continue
            try:
                checkpoint = read_checkpoint(path)
            except CheckpointError as error:
                damaged.append((path, str(error)))
                continue
            for other, _ in damaged:
                with writing(other):
                    other.rename(other.with_suffix(".damaged"))
            return path, checkpoint, [reason for _, reason in damaged]
        if damaged:
            raise CheckpointError(f"{damaged[0][1]}, and so is every one before it; without it the run cannot go on")
        return None

    def after(self, epochs: int) -> Path | None:
        """Return the newest one, whole or not, that was taken at the end of so many epochs; None if there is none."""
        found = (path for path, name in self._newest_first() if (name.epoch, name.batch) == (epochs, 0))
        return next(found, None)

    def _names(self) -> dict[Path, Name]:
        found = {path: _NAME.fullmatch(path.name) for path in self.folder.glob("*.safetensors")}
        return {
            path: Name(int(match[1]), int(match[2]), int(match[3]), match[4]) for path, match in found.items() if match
        }

    def _newest_first(self) -> list[tuple[Path, Name]]:
        return sorted(self._names().items(), key=lambda item: item[1].serial, reverse=True)

    def _remove_old(self) -> None:
        ordered = self._newest_first()
        between_epochs = next((path for path, name in ordered if not name.batch), None)
        with writing(self.folder):
            for path, _ in ordered[self.keep :]:
                if path != between_epochs:
                    path.unlink(missing_ok=True)


def is_beginning(path: Path) -> bool:
    """Whether a checkpoint, by its name, was taken before the first step; so it is with one that is not complete."""
    match = _NAME.fullmatch(path.name)
    return path.suffix == TEMPORARY or (match is not None and int(match[2]) == int(match[3]) == 0)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; it takes about three times the file's size in memory.

    Raises
    ------
    CheckpointError
        If the content is not what the checksum in the name belongs to, or no checkpoint.
    """
    match = _NAME.fullmatch(path.name)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"checkpoint {path} cannot be read ({error.strerror or error})") from error
    if match is None or hashlib.sha256(content).hexdigest()[:_DIGITS] != match[4]:
        raise CheckpointError(f"checkpoint {path} is damaged")
    try:
        arrays, text = unpack(content)
        state = parse_json(text.encode())
        if not isinstance(state, dict):
            raise ValueError("its state is no object")
    except ValueError as error:
        raise CheckpointError(f"checkpoint {path} is not incnet's ({error!s:.200})") from error
    return Checkpoint(state, arrays)


# Weights.


def save_weights(path: Path, layer: Layer | Mapping[str, np.ndarray]) -> None:
    """Write a layer's parameters and buffers under their names; the file is replaced as a whole or not at all.

    Raises
    ------
    WriteError
        If the file cannot be written; an earlier file of that name is then untouched.
    """
    state = layer.state() if isinstance(layer, Layer) else layer
    replace_file(path, pack({name: asnumpy(array) for name, array in state.items()}))
