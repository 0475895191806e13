"""The command ``python -m incnet.train``."""

from __future__ import annotations

import importlib
import math
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from incnet import backend, session
from incnet.commandline import origins, parse
from incnet.communicator import Communicator
from incnet.config import Config, ConfigError
from incnet.data.dataset import DataError
from incnet.extras import why_not
from incnet.names import DATASETS, counted, up_to
from incnet.networks.stored import StoredNetwork
from incnet.options import with_origins
from incnet.parallel.launch import LaunchError, connect
from incnet.presets import PRESETS
from incnet.run.machine import choose_machine
from incnet.run.run import Run
from incnet.run.start import FILE as START
from incnet.storage.checkpoint import CheckpointError
from incnet.storage.files import WriteError
from incnet.storage.folder import RunFolder, RunFolderError, check_unused, new_folder
from incnet.terminal import BAD_INPUT, INTERRUPTED, UNWRITABLE, Terminal, command
from incnet.threads import threads_in_use
from incnet.training.nonfinite import NonFiniteError
from incnet.training.progress import Display
from incnet.training.signals import Interrupted
from incnet.user_code import file_name, is_place, short, source_of

__all__ = ["main"]

PROGRAM = "incnet train"
FEW_STEPS = 10  # in an epoch


@command()
def main(arguments: list[str] | None = None, network: Path | None = None) -> int:
    """Train as the command line says.

    Parameters
    ----------
    network : Path, optional
        File of :func:`incnet.networks.stored.pack_network` with the network that ``--arch`` names; it is not made then.

    Returns
    -------
    int
        0; 2 for bad input; 3 for a run that diverged; 4 for a full disk; 130, 143 or 129 for a run
        that was stopped by SIGINT, SIGTERM or SIGHUP. The same on all ranks, if there are several.
    """
    try:
        communicator = connect()
    except LaunchError as error:
        Terminal(stderr=True).say(f"error: {error}")
        return BAD_INPUT
    with communicator:
        return _run(arguments, communicator, network)


def _run(arguments: list[str] | None, communicator: Communicator, network: Path | None) -> int:
    try:
        config = communicator.on_root(lambda: parse(Config, arguments, PROGRAM))
        if config.resume is not None:
            return resume(config.resume, arguments, communicator)
        return begin(communicator.on_root(config.resolve), communicator, network)
    except (ConfigError, DataError, RunFolderError, CheckpointError, backend.DeviceError) as error:
        told = with_origins(str(error), Config, origins(Config, arguments, PROGRAM))
        message = "\n".join([f"error: {told}", *getattr(error, "__notes__", ())])
        return _fail(communicator, error, message, BAD_INPUT)
    except WriteError as error:
        message = f"error: {error}; {error.remedy}, then go on with --resume and the run folder"
        return _fail(communicator, error, message, UNWRITABLE)
    except KeyboardInterrupt as error:
        return _fail(communicator, error, "; ".join(["interrupted", *getattr(error, "__notes__", ())]), INTERRUPTED)


def _fail(communicator: Communicator, error: BaseException, message: str, code: int) -> int:
    """Say once what went wrong; end all ranks, if it did so on this one alone."""
    shared = communicator.is_shared(error)
    if communicator.first or not shared:
        Terminal(stderr=True).say(message)
    if not shared:
        communicator.abort(code)
    return code


def begin(config: Config, communicator: Communicator, network: Path | None) -> int:
    """Carry out a new run from a resolved configuration, and perhaps with a network that was made before."""
    communicator.on_root(lambda: _check_extras(config))
    communicator.on_root(lambda: check_unused(config.out) if config.out is not None else None)
    _choose_machine(config, communicator, {})
    if config.threads is not None:  # fewer, where the machine has not got so many
        config = replace(config, threads=threads_in_use())
    made = None
    if network is not None:
        made = StoredNetwork(communicator.on_root(network.read_bytes), source_of(config.arch))
    run = communicator.on_every(lambda: Run(config, network=made, communicator=communicator))
    path = communicator.on_root(lambda: config.out or new_folder(Path("runs"), _name(config)))
    run.config = replace(run.config, out=path)
    with session.begin(run, path) as folder:
        return _train(run, folder, _terminal(communicator))


def _name(config: Config) -> str:
    """Of a run folder, where the user gives none."""
    names = Path(config.dataset).stem, file_name(config.arch), config.method
    return f"{'-'.join(names)}-{time.strftime('%Y%m%d-%H%M%S')}"


def resume(path: Path, arguments: list[str] | None, communicator: Communicator) -> int:
    """Go on with the run in a folder, as its config.json says and the command line may add."""
    terminal = _terminal(communicator)
    with session.open_folder(communicator, path, lambda: RunFolder.reopen(path)) as folder:
        content = communicator.on_root(folder.read_config)
        config = communicator.on_root(lambda: _resumed(path, content, arguments, communicator.size))
        communicator.on_root(lambda: _check_extras(config))
        _choose_machine(config, communicator, session.environment_before(content))
        start = path / START if (path / START).exists() else None
        own = is_place(config.arch)
        network = communicator.on_root(lambda: session.stored_network(folder, config.trust)) if own else None
        begun = replace(config, resume=None, trust=None)
        run = communicator.on_every(lambda: Run(begun, network=network, start=start, communicator=communicator))
        session.restart(run, folder, content, terminal.say)
        return _train(run, folder, terminal)


def _resumed(path: Path, content: dict[str, Any], arguments: list[str] | None, ranks: int) -> Config:
    """Return the configuration that the run is to go on with."""
    begun = replace(Config.from_json(content.get("config")), out=path, resume=path)
    if content.get("environment", {}).get("ranks", "1") != str(ranks):
        begun = replace(begun, threads=None)  # another number of ranks divides the cores anew
    return begun.resumed_as(parse(Config, arguments, PROGRAM, begun))


def _choose_machine(config: Config, communicator: Communicator, before: Mapping[str, Any]) -> None:
    if way := choose_machine(config, communicator, before):
        _terminal(communicator).say(way)


def _terminal(communicator: Communicator) -> Terminal:
    return Terminal(quiet=not communicator.first)


def _train(run: Run, folder: RunFolder, terminal: Terminal) -> int:
    config, communicator = run.config, run.communicator
    assert config.epochs is not None
    device = session.device_in_use(communicator) + (" in TF32" if config.tf32 else "")
    device += " by im2col" if config.convolution == "im2col" else ""
    threads = threads_in_use()
    ranks = f"{communicator.size} ranks, " if communicator.size > 1 else ""
    terminal.say(
        f"{run.images.dataset.name} from {run.images.dataset.source}: {len(run.images.train.split):,} training, "
        f"{len(run.images.validation.split):,} validation, {len(run.images.dataset.test):,} test images\n"
        f"{short(config.arch)} in {len(run.state.subnetworks)} sub-networks, {config.method}, on {device} "
        f"({ranks}{threads} thread{'s' if threads > 1 else ''}{' each' if ranks else ''})\n"
        f"run folder {folder.path}"
    )
    for remark in (*run.images.dataset.remarks, *_remarks(run)):
        terminal.say(remark)
    if run.state.epochs == 0 and config.method == "incremental" and config.epochs < run.state.schedule.needed:
        few = f"{counted(config.epochs, 'epoch')} {'is' if config.epochs == 1 else 'are'} few"
        terminal.say(
            f"{few}: look-ahead and an epoch of training take {run.state.schedule.needed} with all sub-networks; the "
            "last of them will get less, or none"
        )
    code, summary, name = 0, None, shlex.quote(str(folder.path))
    try:
        with Display(config.epochs, terminal) as display:
            summary = session.finish(run, folder, display, terminal.say)
    except Interrupted as interrupted:
        terminal.say(f"{interrupted}; go on with --resume {name}")
        code = interrupted.exit_code
    except NonFiniteError as error:
        Terminal(stderr=True, quiet=not communicator.first).say(f"error: {error}; {_remedy(run, name)}")
        code = error.exit_code
    except KeyboardInterrupt as error:  # while it is saved what the run has come to
        error.add_note(f"go on with --resume {name}")
        raise
    display.table([asdict(stage) for stage in run.state.stages])
    if summary and summary["test_accuracy"] is not None:
        accuracy = f"test accuracy {summary['test_accuracy']:.2%}"
        terminal.say(f"{accuracy} ({up_to(list(run.state.graph.subnetworks))}, best validation weights)")
    return code


def _remedy(run: Run, name: str) -> str:
    """Say what is left of a run that has diverged, and what to do."""
    epochs = run.state.epochs
    left = f"the weights of {counted(epochs, 'good epoch')} are kept in {name}" if epochs else "no epoch was good"
    retry = "" if run.config.on_nonfinite == "rollback" else f", or --resume {name} --on-nonfinite rollback"
    return f"{left}; try a lower --lr{retry}"


def _remarks(run: Run) -> Iterator[str]:
    """Say what a preset could not set, and what was chosen for images of which nothing is known by their name."""
    if run.start is not None and run.state.epochs == 0:
        yield from run.start.said
    images, preset = run.images, PRESETS.get(run.config.preset or "")
    for option, remark in preset.partly.items() if preset else ():
        if getattr(run.config, option) is None:
            yield f"--preset {run.config.preset}: {remark}"
    if run.config.dataset not in DATASETS and images.augmentation and run.config.augmentation is None:
        yield f"augmentation: {images.augmentation}, by their size (--augmentation)"
    yield from _few_steps(run)
    if not len(images.dataset.test):
        yield "there are no test images: nothing is tested in the end"


def _few_steps(run: Run) -> Iterator[str]:
    """Say where few images of one's own make a handful of large batches: the network is hardly moved in an epoch."""
    count, size = len(run.images.train.split), run.images.train.batch_size
    steps, smaller = -(-count // size), max(8, 2 ** int(math.log2(count / FEW_STEPS + 1)))
    if run.config.dataset not in DATASETS and steps < FEW_STEPS and smaller < size and run.state.epochs == 0:
        images = f"{counted(count, 'training image')} {'is' if count == 1 else 'are'}"
        batches, more = counted(steps, f"batch of {size}", f"batches of {size}"), -(-count // smaller)
        yield f"{images} {batches} an epoch; more, smaller steps learn faster: --batch-size {smaller} makes {more}"


def _check_extras(config: Config) -> None:
    if not config.tensorboard:
        return
    try:
        importlib.import_module("tensorboard.compat.proto.event_pb2")
    except Exception as error:
        missing = 'it needs TensorBoard: pip install "incnet[tensorboard]"'
        raise ConfigError(f"--tensorboard: {why_not('TensorBoard', error, missing)}") from error


if __name__ == "__main__":
    sys.exit(main())
