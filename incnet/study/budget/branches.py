"""Runs that begin where another one has already been.

A rate that falls only at the end, or images that grow by fixed numbers of epochs, leave the epochs before as they are
in a longer run. Then the shorter run, the branch, goes on from a checkpoint of the longer one, the trunk: it is bit for
bit the run that it would have been from the start, and its multiply-adds and seconds begin with those of the trunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

from incnet.checked_json import parse_json
from incnet.config import Config
from incnet.networks.stored import NETWORK
from incnet.run.start import FILE as START
from incnet.storage.checkpoint import CheckpointError, Checkpoints, read_checkpoint
from incnet.storage.files import replace_file, writing
from incnet.storage.folder import RunFolder, RunFolderError
from incnet.study.options import Planned

__all__ = ["Branch", "begin_branch", "plan_branches", "shared_epochs"]

# Options by which two runs with the same first epochs may differ.
LATER = {"epochs", "lr_schedule", "lr_decay", "image_sizes", "preset", "keep_checkpoints"}


@dataclass(frozen=True)
class Branch:
    """That a run begins with the first ``epochs`` of the one called ``trunk``."""

    trunk: str
    epochs: int


def shared_epochs(config: Config, other: Config) -> int:
    """Return for how many epochs, from the first, two runs do the same, as far as can be said beforehand."""
    if any(getattr(config, name) != getattr(other, name) for name in vars(config).keys() - LATER):
        return 0
    if config.method != "baseline" or config.epochs is None or other.epochs is None:
        return 0

    def alike(epoch: int) -> bool:
        return _settings(config, epoch) == _settings(other, epoch)

    return len(list(takewhile(alike, range(min(config.epochs, other.epochs)))))


def _settings(config: Config, epoch: int) -> tuple[float, int | None]:
    """Return what depends on the epoch in the whole network's training: the rate's factor, and the images' size."""
    grow = config.images_grow()
    return config.rate_schedule().factor(epoch, epoch), None if grow is None else grow.at(epoch)


def plan_branches(runs: Sequence[Planned]) -> dict[str, Branch]:
    """Return for each run that is best begun as a branch, by name, of which other run.

    A trunk is no branch itself. Of the runs of a seed the longest is the first to be one.
    """
    trunks: list[Planned] = []
    branches: dict[str, Branch] = {}
    for run in sorted(runs, key=lambda run: (-(run.config.epochs or 0), run.config.planned_by_epochs)):
        shared = {trunk.name: shared_epochs(run.config, trunk.config) for trunk in trunks}
        name = max(shared, key=shared.__getitem__, default="")
        # All of its epochs: then it is the trunk, cut off, and its last epoch must still be evaluated as one.
        epochs = min(shared.get(name, 0), (run.config.epochs or 1) - 1)
        if epochs:
            branches[run.name] = Branch(name, epochs)
        else:
            trunks.append(run)
    return branches


def begin_branch(trunk: Path, epochs: int, config: Config, path: Path) -> bool:
    """Make the folder ``path`` of a run that goes on after so many epochs of the trunk's, if it has got so far.

    Returns
    -------
    bool
        Whether it was made. If not, or if this is interrupted, the run begins from its start, and is the same.
    """
    taken = Checkpoints(trunk / "checkpoints", keep=1).after(epochs)
    if taken is None:
        return False
    try:
        length = read_checkpoint(taken).state["metrics_bytes"]
        content = parse_json((trunk / "config.json").read_bytes())
        begun_with = {name: (trunk / name).read_bytes() for name in (NETWORK, START) if (trunk / name).exists()}
    except (CheckpointError, OSError, ValueError, KeyError):
        return False
    content["config"] = replace(config, out=path).as_json()
    try:
        with RunFolder.create(path, content) as folder:
            for name, file in begun_with.items():
                folder.replace(name, [file])
            folder.log_session("branch", trunk=trunk.name, epochs=epochs)
    except RunFolderError:  # which the run will say, too
        return False
    with open(trunk / "metrics.jsonl", "rb") as metrics:
        replace_file(path / "metrics.jsonl", [metrics.read(length)])
    with writing(path):
        (path / "checkpoints").mkdir(exist_ok=True)
    replace_file(path / "checkpoints" / taken.name, [taken.read_bytes()])  # last: without it the run begins anew
    return True
