"""The command ``python -m incnet.train``."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from incnet import backend, session
from incnet.config import Config, ConfigError
from incnet.data.dataset import DataError
from incnet.growth.run import Run
from incnet.parallel.communicator import Communicator
from incnet.parallel.launch import LaunchError, connect
from incnet.parallel.transport import device_of_rank
from incnet.threads import use_threads
from incnet.training.checkpoint import CheckpointError
from incnet.training.files import WriteError
from incnet.training.finite import NonFiniteError
from incnet.training.folder import RunFolder, RunFolderError
from incnet.training.progress import Display
from incnet.training.signals import Interrupted

__all__ = ["main"]

PROGRAM = "python -m incnet.train"
BAD_INPUT, UNWRITABLE, INTERRUPTED = 2, 4, 130


def main(arguments: list[str] | None = None) -> int:
    """Train as the command line says.

    Returns
    -------
    int
        0; 2 for bad input; 3 for a run that diverged; 4 for a disk that takes no more; 130 or 143 for a run that was
        stopped by SIGINT or SIGTERM. The same on all ranks, if there are several.
    """
    try:
        communicator = connect()
    except LaunchError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    with communicator:
        return _run(arguments, communicator)


def _run(arguments: list[str] | None, communicator: Communicator) -> int:
    try:
        config = communicator.from_first(lambda: tyro.cli(Config, args=arguments, prog=PROGRAM))
        if config.resume is not None:
            return resume(config.resume, arguments, communicator)
        return begin(communicator.from_first(config.resolve), communicator)
    except (ConfigError, DataError, RunFolderError, CheckpointError, backend.DeviceError) as error:
        message = "\n".join([f"error: {error}", *getattr(error, "__notes__", ())])
        return _fail(communicator, error, message, BAD_INPUT)
    except WriteError as error:
        remedy = "make room, then go on with --resume and the run folder"
        return _fail(communicator, error, f"error: {error}; {remedy}", UNWRITABLE)
    except KeyboardInterrupt as error:
        return _fail(communicator, error, "interrupted", INTERRUPTED)


def _fail(communicator: Communicator, error: BaseException, message: str, code: int) -> int:
    """Say once what went wrong; end all ranks, if it did so on this one alone."""
    shared = communicator.is_shared(error)
    if communicator.first or not shared:
        print(message, file=sys.stderr)
    if not shared:
        communicator.abort(code)
    return code


def begin(config: Config, communicator: Communicator) -> int:
    """Carry out a new run from a resolved configuration."""
    communicator.from_first(lambda: _check_extras(config))
    config = _on_this_machine(config, communicator)
    if config.out is None:
        stamp = communicator.from_first(lambda: time.strftime("%Y%m%d-%H%M%S"))
        config = replace(config, out=Path("runs") / f"{config.dataset}-{config.arch}-{config.method}-{stamp}")
    path = config.out
    assert path is not None
    run = communicator.on_every(lambda: Run(config, communicator=communicator))
    with session.begin(run, path) as folder:
        return _train(run, folder, _console(communicator))


def resume(path: Path, arguments: list[str] | None, communicator: Communicator) -> int:
    """Go on with the run in a folder, as its config.json says and the command line may add."""
    console = _console(communicator)
    with session.open_folder(communicator, path, lambda: RunFolder.reopen(path)) as folder:
        content = communicator.from_first(folder.read_config)
        config = communicator.from_first(lambda: _resumed(path, content, arguments, communicator.size))
        communicator.from_first(lambda: _check_extras(config))
        config = _on_this_machine(config, communicator)
        run = communicator.on_every(lambda: Run(replace(config, resume=None), communicator=communicator))
        session.restart(run, folder, content, _say(console))
        return _train(run, folder, console)


def _resumed(path: Path, content: dict[str, Any], arguments: list[str] | None, ranks: int) -> Config:
    """Return the configuration that the run is to go on with."""
    begun = replace(Config.from_json(content.get("config")), out=path, resume=path)
    if content.get("environment", {}).get("ranks", "1") != str(ranks):
        begun = replace(begun, threads=None)  # another number of ranks divides the cores anew
    return begun.resumed_as(tyro.cli(Config, args=arguments, prog=PROGRAM, default=begun))


def _console(communicator: Communicator) -> Console:
    return Console(highlight=False, quiet=not communicator.first)


def _say(console: Console) -> Callable[[str], None]:
    return lambda line: console.print(line, soft_wrap=True, markup=False)


def _on_this_machine(config: Config, communicator: Communicator) -> Config:
    """Choose device and threads, and say which: other ones would round differently."""

    def choose() -> Config:
        device = backend.resolve(config.device)
        backend.use(device_of_rank(config.device, communicator), tf32=config.tf32)
        threads = use_threads(config.threads, communicator.core_sharing)
        if config.resume is not None and config.threads not in (None, threads):
            raise ConfigError(f"--threads {config.threads}: the run was begun with as many, which this machine has not")
        return replace(config, device=device.replace("cuda", "gpu"), threads=threads)

    config = communicator.on_every(choose)
    if way := communicator.reach_devices(config.sums):
        _console(communicator).print(way, soft_wrap=True, markup=False)
    return config


def _train(run: Run, folder: RunFolder, console: Console) -> int:
    config, communicator = run.config, run.communicator
    assert config.epochs is not None
    device = f"{config.device} in TF32" if config.tf32 else config.device
    ranks = f"{communicator.size} ranks, " if communicator.size > 1 else ""
    console.print(
        f"{config.dataset} from {run.images.dataset.source}: {len(run.images.train.split):,} training, "
        f"{len(run.images.validation.split):,} validation, {len(run.images.dataset.test):,} test images\n"
        f"{config.arch} in {len(run.subnetworks)} sub-networks, {config.method}, on {device} "
        f"({ranks}{config.threads} threads{' each' if ranks else ''}); run folder {folder.path}\n"
        "kernels are compiled on first use (seconds, once)",
        soft_wrap=True,
        markup=False,
    )
    if run.epochs == 0 and config.method == "incremental" and config.epochs < run.schedule.needed:
        console.print(
            f"{config.epochs} epochs are few: look-ahead and an epoch of training take {run.schedule.needed} with all "
            "sub-networks; the last of them will get less, or will not come in",
            soft_wrap=True,
        )
    code, summary = 0, None
    try:
        with Display(config.epochs, console) as display:
            display.resume(run.epochs)
            summary = session.finish(run, folder, display, _say(console))
    except Interrupted as interrupted:
        console.print(f"{interrupted}; go on with --resume {folder.path}", soft_wrap=True, markup=False)
        code = interrupted.exit_code
    except NonFiniteError as error:
        Console(stderr=True, highlight=False, quiet=not communicator.first).print(
            f"error: {error}; the weights of {run.epochs} good epochs are kept in {folder.path}; "
            f"try a lower --lr, or --resume {folder.path} --on-nonfinite rollback",
            soft_wrap=True,
            markup=False,
        )
        code = error.exit_code
    display.table([asdict(stage) for stage in run.stages])
    if summary:
        accuracy = f"test accuracy {summary['test_accuracy']:.2%}"
        console.print(f"{accuracy} ({run.stages[-1].name}, best validation weights)")
    return code


def _check_extras(config: Config) -> None:
    if config.tensorboard and find_spec("tensorboard") is None:
        raise ConfigError('--tensorboard needs TensorBoard: pip install "incnet[tensorboard]"')


if __name__ == "__main__":
    sys.exit(main())
