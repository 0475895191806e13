"""The command ``python -m incnet.train``."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import tyro
from rich.console import Console

from incnet import backend
from incnet.config import Config, ConfigError
from incnet.data.dataset import DataError
from incnet.growth.run import Run
from incnet.threads import use_threads
from incnet.training.checkpoint import CheckpointError
from incnet.training.folder import RunFolder, RunFolderError
from incnet.training.loop import NonFiniteError
from incnet.training.progress import Display

__all__ = ["main"]

BAD_INPUT, DIVERGED, INTERRUPTED = 2, 3, 130


def main(arguments: list[str] | None = None) -> int:
    """Train as the command line says. Returns 0, 2 for bad input, 3 for a diverged run, 130 for Ctrl-C."""
    config = tyro.cli(Config, args=arguments, prog="python -m incnet.train")
    try:
        return train(config.resolve())
    except (ConfigError, DataError, RunFolderError, CheckpointError, backend.DeviceError) as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT


def train(config: Config) -> int:
    """Carry out one run from a resolved configuration."""
    console = Console(highlight=False)
    device = backend.resolve(config.device)
    backend.use(device)
    threads = use_threads(config.threads)
    if config.out is None:
        stamp = time.strftime("%Y%m%d-%H%M%S")
        config = replace(config, out=Path("runs") / f"{config.dataset}-{config.arch}-{config.method}-{stamp}")
    assert config.out is not None and config.epochs is not None
    run = Run(config)
    folder = RunFolder(config.out, config.as_json())
    console.print(
        f"{config.dataset} from {run.dataset.source}: {len(run.train_batches.split):,} training, "
        f"{len(run.validation_batches.split):,} validation, {len(run.dataset.test):,} test images\n"
        f"{config.arch} in {len(run.subnetworks)} sub-networks, {config.method}, on {device} "
        f"({threads} threads); run folder {folder.path}\n"
        "kernels are compiled on first use (seconds, once)",
        soft_wrap=True,
    )
    code = 0
    try:
        with Display(config.epochs, len(run.train_batches), console) as display:
            run.train(folder, display)
    except KeyboardInterrupt:
        console.print(f"interrupted: the last whole epoch's weights are in {folder.path / 'last.safetensors'}")
        code = INTERRUPTED
    except NonFiniteError as error:
        print(
            f"error: epoch {run.schedule.epoch + 1} ({run.schedule.phase}): {error}; the last good epoch's weights are "
            f"kept in {folder.path}; try a lower --lr than {config.lr:g}",
            file=sys.stderr,
        )
        code = DIVERGED
    test = run.test() if code == 0 else None
    folder.write("summary.json", run.summary(test))
    folder.close()
    display.table(run.summary(test)["stages"])
    if test:
        console.print(f"test accuracy {test.accuracy:.2%} ({run.stages[-1].name}, best validation weights)")
    return code


if __name__ == "__main__":
    sys.exit(main())
