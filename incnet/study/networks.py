"""The networks of a study's runs, made and looked at before anything is trained.

One of the user's own is made once for a seed, and kept in the study's folder: all arms train the same one, with the
same first weights, whatever becomes of its code meanwhile, and no worker needs that. Only classes of layers that are
none of incnet's are looked for there: in the code that the user has named, and in no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from incnet.config import Config, ConfigError
from incnet.data.dataset import Dataset
from incnet.init import Blank
from incnet.layer import Shape
from incnet.networks.description import Architecture
from incnet.networks.own import MakeNetwork
from incnet.networks.stored import NETWORK, StoredNetwork, read_architecture
from incnet.run.network import NetworkFactory, own_function
from incnet.study.folder import StudyRun
from incnet.study.options import StudyError
from incnet.user_code import source_of

__all__ = ["settle_networks"]

# Options by which one network differs from another, or does not fit.
DECISIVE = (
    "arch",
    "partition",
    "shortcut",
    "dense_init",
    "subnetworks",
    "resize",
    "image_sizes",
    "set_by_preset",
    "init",
    "freeze",
    "seed",
)


def settle_networks(runs: Sequence[StudyRun], dataset: Dataset) -> None:
    """Make all networks, and give the runs of the user's own theirs, with the defaults that suit them.

    Raises
    ------
    ConfigError
        If there is no such network, it cannot be cut so, or does not take such images.
    StudyError
        If a run was begun with another one.
    """
    functions: dict[str, MakeNetwork | None] = {}
    made: dict[tuple[object, ...], NetworkFactory] = {}
    for run in runs:
        config = run.planned.config
        if config.arch not in functions:
            functions[config.arch] = own_function(config)
        function = functions[config.arch]
        if function is None:  # whatever the seed, it fits or does not
            config = replace(config, seed=0)
        key = tuple(getattr(config, name) for name in DECISIVE)
        if key not in made:
            made[key] = _make(config, run.planned.arm, dataset, function)
        if function is not None:
            _give(run, made[key])


def _make(config: Config, arm: str, dataset: Dataset, function: MakeNetwork | None) -> NetworkFactory:
    height, width, channels = dataset.image_shape
    shape = (config.resize or height, config.resize or width, channels)
    try:
        networks = NetworkFactory(config, shape, dataset.num_classes, function)
        networks.subnetworks()
    except ConfigError as error:
        raise error if function else ConfigError(f"{config.arch}, arm {arm}: {error}") from error
    return networks


def _give(run: StudyRun, networks: NetworkFactory) -> None:
    assert networks.own is not None
    source = source_of(run.planned.config.arch)
    network = StoredNetwork(networks.own.content, source)
    if networks.own.trust:  # classes of the user's own: a run will look for them by their names
        _check_found(network, networks.image_shape, source)
    run.planned = replace(run.planned, config=run.planned.config.as_network_of(networks.config))
    run.network = network
    if run.history is not None and _begun_with(run.path) != network.architecture:
        raise StudyError(
            f"{run.path} was begun with a network of other layers than {run.planned.arch} makes now; choose another "
            "--out, or go back to that one"
        )


def _begun_with(path: Path) -> Architecture:
    try:
        return read_architecture(path / NETWORK)
    except (OSError, ValueError) as error:
        raise StudyError(f"{path / NETWORK}: {error}; move the folder away to begin that run again") from error


def _check_found(network: StoredNetwork, shape: Shape, source: str) -> None:
    try:
        network(shape, Blank())
    except ValueError as error:
        raise StudyError(f"--archs: {error}; import it there") from error
