"""The command ``python -m incnet.train``."""

from __future__ import annotations

import sys
import time
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
        stopped by SIGINT or SIGTERM.
    """
    config = tyro.cli(Config, args=arguments, prog=PROGRAM)
    try:
        if config.resume is not None:
            return resume(config.resume, arguments)
        return begin(config.resolve())
    except (ConfigError, DataError, RunFolderError, CheckpointError, backend.DeviceError) as error:
        print(f"error: {error}", *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        return BAD_INPUT
    except WriteError as error:
        print(f"error: {error}; make room, then go on with --resume and the run folder", file=sys.stderr)
        return UNWRITABLE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def begin(config: Config) -> int:
    """Carry out a new run from a resolved configuration."""
    _check_extras(config)
    config = _on_this_machine(config)
    if config.out is None:
        stamp = time.strftime("%Y%m%d-%H%M%S")
        config = replace(config, out=Path("runs") / f"{config.dataset}-{config.arch}-{config.method}-{stamp}")
    assert config.out is not None
    run = Run(config)
    with RunFolder.create(config.out, _description(run)) as folder:
        folder.log_session("begin", environment=environment())
        return _train(run, folder, Console(highlight=False))


def resume(path: Path, arguments: list[str] | None) -> int:
    """Go on with the run in a folder, as its config.json says and the command line may add."""
    console = Console(highlight=False)
    with RunFolder.reopen(path) as folder:
        content = folder.read_config()
        begun = replace(Config.from_json(content.get("config")), out=path, resume=path)
        config = begun.resumed_as(tyro.cli(Config, args=arguments, prog=PROGRAM, default=begun))
        _check_extras(config)
        if _on_this_machine(config) != config:
            raise ConfigError(f"--threads {config.threads}: the run was begun with as many, which this machine has not")
        run = Run(replace(config, resume=None))
        if content.get("data") != _description(run)["data"]:
            raise DataError(f"{run.dataset.source} holds other images than those that the run was begun with")
        checkpoint, damaged = run.resume(folder)
        if config != begun:
            folder.write("config.json", _description(run) | {"environment": content.get("environment", {})})
        for line in [*damaged, *_changes(content.get("environment", {}))]:
            console.print(f"warning: {line}", soft_wrap=True, markup=False)
        where = f"after {run.epochs} epochs and {run.running.batches} batches"
        console.print(f"going on {where}, from {checkpoint or 'the beginning'}", soft_wrap=True, markup=False)
        name = checkpoint.name if checkpoint else None
        folder.log_session("resume", checkpoint=name, damaged=damaged, environment=environment())
        return _train(run, folder, console)


def _on_this_machine(config: Config) -> Config:
    """Choose device and threads, and say which: other ones would round differently."""
    device = backend.resolve(config.device)
    backend.use(device, tf32=config.tf32)
    return replace(config, device=device.replace("cuda", "gpu"), threads=use_threads(config.threads))


def _description(run: Run) -> dict[str, Any]:
    """Content of ``config.json``."""
    return {"config": run.config.as_json(), "data": {"sha256": run.data_digest()}, "environment": environment()}


def _changes(before: dict[str, Any]) -> list[str]:
    now = environment()
    return [
        f"{name!r:.40} was {before.get(name)!r:.80} and is {now.get(name)!r} now: results may differ in rounding"
        for name in sorted(now.keys() | before.keys())
        if now.get(name) != before.get(name) and name != "machine"
    ]


def _train(run: Run, folder: RunFolder, console: Console) -> int:
    config = run.config
    assert config.epochs is not None
    listeners = _listeners(run, folder, console)
    device = f"{config.device} in TF32" if config.tf32 else config.device
    console.print(
        f"{config.dataset} from {run.dataset.source}: {len(run.train_batches.split):,} training, "
        f"{len(run.validation_batches.split):,} validation, {len(run.dataset.test):,} test images\n"
        f"{config.arch} in {len(run.subnetworks)} sub-networks, {config.method}, on {device} "
        f"({config.threads} threads); run folder {folder.path}\n"
        "kernels are compiled on first use (seconds, once)",
        soft_wrap=True,
    )
    code = 0
    try:
        with StopSignals() as signals, Display(config.epochs, console) as display:
            display.resume(run.epochs)
            run.train(folder, display, signals, listeners)
    except Interrupted as interrupted:
        console.print(f"{interrupted}; go on with --resume {folder.path}", soft_wrap=True, markup=False)
        code = interrupted.exit_code
    except NonFiniteError as error:
        where, lr = f"epoch {run.schedule.epoch + 1} ({run.schedule.phase})", run.optimizer.lr
        run.resume(folder, between_epochs=True)
        print(
            f"error: {where}: {error}; the weights of {run.epochs} good epochs are kept in {folder.path}; "
            f"try a lower --lr than {lr:g}, or --resume {folder.path} --on-nonfinite rollback",
            file=sys.stderr,
        )
        code = DIVERGED
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
