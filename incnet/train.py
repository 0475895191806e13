"""The command ``python -m incnet.train``."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from incnet import backend
from incnet.config import Config, ConfigError
from incnet.data.dataset import DataError
from incnet.growth.run import Run
from incnet.parallel.communicator import Communicator
from incnet.parallel.launch import LaunchError, connect
from incnet.parallel.silent import SilentFolder
from incnet.parallel.transport import device_of_rank
from incnet.report.live import LiveReport
from incnet.threads import use_threads
from incnet.training.checkpoint import CheckpointError
from incnet.training.files import WriteError
from incnet.training.finite import NonFiniteError
from incnet.training.folder import RunFolder, RunFolderError, environment
from incnet.training.progress import Display
from incnet.training.signals import Interrupted, StopSignals
from incnet.training.tensorboard import TensorBoard

__all__ = ["main"]

PROGRAM = "python -m incnet.train"
BAD_INPUT, DIVERGED, UNWRITABLE, INTERRUPTED = 2, 3, 4, 130


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
    with _open(communicator, path, lambda: RunFolder.create(path, _description(run))) as folder:
        folder.log_session("begin", processes=communicator.names, environment=_environment(communicator))
        return _train(run, folder, _console(communicator))


def resume(path: Path, arguments: list[str] | None, communicator: Communicator) -> int:
    """Go on with the run in a folder, as its config.json says and the command line may add."""
    console = _console(communicator)
    with _open(communicator, path, lambda: RunFolder.reopen(path)) as folder:
        content = communicator.from_first(folder.read_config)
        begun, config = communicator.from_first(lambda: _resumed(path, content, arguments, communicator.size))
        communicator.from_first(lambda: _check_extras(config))
        config = _on_this_machine(config, communicator)
        before, now = content.get("environment", {}), _environment(communicator)
        run = communicator.on_every(lambda: Run(replace(config, resume=None), communicator=communicator))
        communicator.from_first(lambda: _check_data(run, content))
        checkpoint, damaged = communicator.on_every(lambda: run.resume(folder))
        if config != begun:
            folder.write("config.json", _description(run) | {"environment": before})
        for line in [*damaged, *_changes(before, now)]:
            console.print(f"warning: {line}", soft_wrap=True, markup=False)
        where = f"after {run.epochs} epochs and {run.running.batches} batches"
        console.print(f"going on {where}, from {checkpoint or 'the beginning'}", soft_wrap=True, markup=False)
        name = checkpoint.name if checkpoint else None
        folder.log_session("resume", checkpoint=name, damaged=damaged, processes=communicator.names, environment=now)
        return _train(run, folder, console)


def _resumed(path: Path, content: dict[str, Any], arguments: list[str] | None, ranks: int) -> tuple[Config, Config]:
    """Return the configuration that the run was begun with, and the one that it is to go on with."""
    begun = replace(Config.from_json(content.get("config")), out=path, resume=path)
    if content.get("environment", {}).get("ranks", "1") != str(ranks):
        begun = replace(begun, threads=None)  # another number of ranks divides the cores anew
    return begun, begun.resumed_as(tyro.cli(Config, args=arguments, prog=PROGRAM, default=begun))


def _check_data(run: Run, content: dict[str, Any]) -> None:
    if content.get("data") != _description(run)["data"]:
        raise DataError(f"{run.images.dataset.source} holds other images than those that the run was begun with")


def _open(communicator: Communicator, path: Path, opener: Callable[[], RunFolder]) -> RunFolder:
    """Open the run folder on rank 0; the others get one that keeps nothing."""
    opened: list[RunFolder] = []
    communicator.from_first(lambda: opened.append(opener()))
    return opened[0] if opened else SilentFolder(path)


def _console(communicator: Communicator) -> Console:
    return Console(highlight=False, quiet=not communicator.first)


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


def _description(run: Run) -> dict[str, Any]:
    """Content of ``config.json``."""
    return {
        "config": run.config.as_json(),
        "data": {"sha256": run.images.digest()},
        "environment": _environment(run.communicator),
    }


def _environment(communicator: Communicator) -> dict[str, str]:
    """Versions, machine, the number of ranks and what sums over them, by which sums are divided and rounded."""
    sums = {"sums": communicator.carried_by} if communicator.carried_by else {}
    return environment() | {"ranks": str(communicator.size)} | sums


def _changes(before: dict[str, Any], now: dict[str, str]) -> list[str]:
    return [
        f"{name!r:.40} was {before.get(name)!r:.80} and is {now.get(name)!r} now: results may differ in rounding"
        for name in sorted(now.keys() | before.keys())
        if now.get(name) != before.get(name) and name != "machine"
    ]


def _train(run: Run, folder: RunFolder, console: Console) -> int:
    config, communicator = run.config, run.communicator
    assert config.epochs is not None
    listeners = _listeners(run, folder, console) if communicator.first else []
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
    code = 0
    try:
        with StopSignals(communicator) as signals, Display(config.epochs, console) as display:
            display.resume(run.epochs)
            run.train(folder, display, signals, listeners)
    except Interrupted as interrupted:
        console.print(f"{interrupted}; go on with --resume {folder.path}", soft_wrap=True, markup=False)
        code = interrupted.exit_code
    except NonFiniteError as error:
        where, lr = f"epoch {run.schedule.epoch + 1} ({run.schedule.phase})", run.optimizer.lr
        run.resume(folder, between_epochs=True)
        Console(stderr=True, highlight=False, quiet=not communicator.first).print(
            f"error: {where}: {error}; the weights of {run.epochs} good epochs are kept in {folder.path}; "
            f"try a lower --lr than {lr:g}, or --resume {folder.path} --on-nonfinite rollback",
            soft_wrap=True,
            markup=False,
        )
        code = DIVERGED
    if communicator.first:
        run.export()
    test = run.test() if code == 0 else None
    folder.write("summary.json", run.summary(test))
    for listener in listeners:
        listener.close()
    folder.log_session("end", exit_code=code, epochs=run.epochs)
    display.table(run.summary(test)["stages"])
    if test:
        console.print(f"test accuracy {test.accuracy:.2%} ({run.stages[-1].name}, best validation weights)")
    return code


def _check_extras(config: Config) -> None:
    if config.tensorboard and find_spec("tensorboard") is None:
        raise ConfigError('--tensorboard needs TensorBoard: pip install "incnet[tensorboard]"')


def _listeners(run: Run, folder: RunFolder, console: Console) -> list[LiveReport | TensorBoard]:
    def say(line: str) -> None:
        console.print(line, soft_wrap=True, markup=False)

    listeners: list[LiveReport | TensorBoard] = []
    if run.config.tensorboard:
        listeners.append(TensorBoard(folder))
    if run.config.report:
        listeners.append(LiveReport(folder.path, say))
    return listeners


if __name__ == "__main__":
    sys.exit(main())
