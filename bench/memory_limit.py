"""Measure how well --batch-size auto keeps to its limit: the memory that each stage of a run really takes.

    python -m bench.memory_limit --arch resnet20 --limits 200MB 400MB 800MB --data-dir FOLDER --json -

Every run has a process of its own, in which a tiny one has loaded the kernels before. Measured is the largest resident
set of each stage, above that of the process before the run and the run's images; how fast it looks ahead, and trains;
and where that brings the validation accuracy. Linux only.
"""

from __future__ import annotations

import ctypes
import gc
import math
import multiprocessing
import re
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from bench.output import Output, main
from incnet.backend import free_memory
from incnet.config import Config
from incnet.data.catalogue import load_dataset
from incnet.run.run import Run
from incnet.storage.folder import RunFolder
from incnet.terminal import Terminal
from incnet.threads import use_threads
from incnet.training.events import Epoch, Event
from incnet.training.progress import Display
from incnet.units import parse_size

__all__ = ["MemoryLimit", "measure"]


@dataclass(frozen=True)
class MemoryLimit(Output):
    """Measure the memory of runs with --batch-size auto."""

    arch: str = "resnet20"
    """Architecture, as for incnet.train."""

    limits: tuple[str, ...] = ("200MB", "400MB", "800MB")
    """Memory limits, one run each."""

    resize: int | None = None
    """Height and width of the images, as for incnet.train."""

    images: int = 3000
    """Training images of CIFAR-10, validation images included."""

    epochs: int = 2
    """Epochs of each stage, of which one is look-ahead."""

    scale_lr: Literal["off", "linear", "sqrt"] = "off"
    """How the learning rate follows the batch size, as for incnet.train."""

    stages: int | None = None
    """Stages to go through. Default: all."""

    data_dir: Path | None = None
    """Folder of CIFAR-10."""


class Watch(Display):
    """Reads the peak of the resident set after each epoch, and begins a new one."""

    def __init__(self, epochs: int, baseline: int) -> None:
        super().__init__(epochs, Terminal(quiet=True))
        self.baseline = baseline
        self.seen: list[tuple[Epoch, float]] = []

    def event(self, event: Event) -> None:
        """Take the epoch down, with its peak in MB."""
        if isinstance(event, Epoch):
            peak = (resident("VmHWM") - self.baseline) / 1e6
            self.seen.append((event, peak))
            told = f"{event.seconds_training:.0f} s, {peak:.0f} MB, {event.train_loss:.3f}, {event.val_accuracy:.1%}"
            print(f"epoch {event.epoch}: {event.phase}, {told}", file=sys.stderr)
        Path("/proc/self/clear_refs").write_text("5")

    def result(self, subnetworks: int) -> dict[str, Any]:
        """Result of the epochs with so many sub-networks, as JSON values."""
        epochs = [(epoch, peak) for epoch, peak in self.seen if epoch.subnetworks == subnetworks]
        speeds = {
            phase: [round(epoch.images_per_second, 1) for epoch, _ in epochs if epoch.phase == phase]
            for phase in ("lookahead", "train")
        }
        return {
            "peak_mb": round(max(peak for _, peak in epochs)),
            "images_per_second": speeds,
            "val_accuracy": epochs[-1][0].val_accuracy,
        }


def resident(what: str) -> int:
    """Bytes of this process's resident set: VmRSS now, VmHWM at its peak."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


def one_run(options: MemoryLimit, limit: str) -> dict[str, Any]:
    """Carry out one run and return what its stages took."""
    use_threads(None)
    tiny = Config(
        "cifar10",
        options.arch,
        batch_size=8,
        growth="periodic",
        period=2,
        lookahead_epochs=1,
        limit=40,
        resize=options.resize,
        data_dir=options.data_dir,
        checkpoint_minutes=0,
    ).resolve()
    dataset = load_dataset("cifar10", options.data_dir)
    subnetworks = len(Run(tiny, dataset).state.subnetworks)
    stages = options.stages or subnetworks
    tiny = replace(tiny, epochs=2 * stages)
    train(Run(tiny, dataset), None)
    gc.collect()
    free_memory()
    ctypes.CDLL(None).malloc_trim(0)  # what the tiny run took goes back to the system
    baseline = resident("VmRSS")
    epochs = options.epochs * stages
    asked = replace(tiny, batch_size="auto", memory_limit=limit, limit=options.images, scale_lr=options.scale_lr)
    run = Run(replace(asked, period=options.epochs, epochs=epochs).resolve(), dataset)
    images = sum(loader.split.images.nbytes for loader in (run.images.train, run.images.validation))
    watch = Watch(epochs, baseline + images)
    train(run, watch)
    allowed = parse_size(limit) / 1e6
    return {
        "limit": limit,
        "baseline_mb": round(baseline / 1e6),
        "stages": [
            {
                "upto": stage.name,
                "batch_size": stage.batch_size,
                "steps": options.epochs * math.ceil(len(run.images.train.split) / stage.batch_size),
                **(found := watch.result(1 + index)),
                "of_limit": round(found["peak_mb"] / allowed, 3),
            }
            for index, stage in enumerate(run.state.stages)
        ],
    }


def train(run: Run, display: Display | None) -> None:
    """Carry out a run in a temporary folder."""
    with (
        tempfile.TemporaryDirectory() as path,
        RunFolder.create(Path(path) / "run", {"config": run.config.as_json()}) as folder,
    ):
        run.train(folder, display)


def measure(options: MemoryLimit) -> dict[str, Any]:
    """Result as JSON values: for each limit and stage the batch size and the memory that was taken."""
    runs = []
    for limit in options.limits:
        with multiprocessing.get_context("spawn").Pool(1) as process:
            runs.append(process.apply(one_run, (options, limit)))
    return {**asdict(options), "data_dir": None, "json": None, "runs": runs}


if __name__ == "__main__":
    main("bench.memory_limit", MemoryLimit, measure)
