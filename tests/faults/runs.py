"""Small runs with two insertions, in processes that can be killed, and what has to be equal in the end."""

import hashlib
import json
import multiprocessing
import os
import signal
import sys
from pathlib import Path

from incnet.layers import Conv2d, Dropout, Flatten, Linear, ReLU, Sequential

# 36 steps in 6 epochs: S1, look-ahead and training of S2, the same of S3; under a second.
ARGUMENTS = (
    *("digits", "--arch", "resnet8", "--limit", "200", "--window", "2", "--lookahead-epochs", "1", "--epochs", "6"),
    *("--threads", "1", "--device", "cpu", "--no-report"),  # a page comes when there is time, and not at the same call
)
VARIANTS = {
    "look-ahead": (),
    "random": ("--init", "random"),
    "identity": ("--init", "lookahead+identity"),
    "cached features": (
        "--lookahead-cache",
        "views:2",
        "--lookahead-epochs",
        "3",
        "--epochs",
        "9",
        "--cache-memory",
        "0B",
    ),
    "batch statistics": ("--frozen-bn", "batch", "--batch-size", "16"),
    "blocks": ("--partition", "blocks", "--arch", "resnet14", "--epochs", "8", "--max-stage-epochs", "3"),
}
# Within an epoch a checkpoint after every step.
EVERY_STEP = ("--checkpoint-minutes", "1e-9")

TIMINGS = {"seconds", "seconds_training", "seconds_compiling", "images_per_second"}
WEIGHTS = ("best.safetensors", "last.safetensors")


def outcome(folder: Path) -> dict:
    """All that a run leaves, less the time that it took."""
    summary = json.loads((folder / "summary.json").read_text())
    files = [*(folder / name for name in WEIGHTS), *sorted((folder / "stages").iterdir())]
    weights = {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    return {"metrics": history(folder), "summary": _timeless(summary), **weights}


def history(folder: Path) -> list[dict]:
    """The run's events, less their timings."""
    return [_timeless(json.loads(line)) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def _timeless(record: dict) -> dict:
    return {key: value for key, value in record.items() if key not in TIMINGS}


def dropout_network(arch, shape, *, rng, split, **options):
    """What VGG has and ResNet has not: biases, dense layers and dropout."""
    conv = {"conv": Conv2d(shape[2], 4, 3, padding=1, rng=rng), "relu": ReLU()}
    dense = {"flatten": Flatten(), "linear": Linear(4 * shape[0] * shape[1], 16, rng=rng), "relu": ReLU()}
    return {
        "S1": Sequential(conv),
        "S2": Sequential({**dense, "dropout": Dropout(0.5, rng=rng)}),
        "S3": Sequential({"linear": Linear(16, 12, rng=rng), "dropout": Dropout(0.25, rng=rng)}),
    }


class Child:
    """A process that trains. It is forked from one that has imported everything, so that it starts at once.

    Parameters
    ----------
    arguments : tuple of str
        Of the command.
    log : Path
        Takes what it prints.
    die_at : int, optional
        Number of the write, sync or renaming before which it kills itself; of a write, half is still done.
    """

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["incnet.train", "incnet.kernels.cpu", "sklearn.datasets", "tests.faults.runs"])

    def __init__(self, arguments: tuple[str, ...], log: Path, die_at: int | None = None) -> None:
        self.process = self.context.Process(target=_train, args=(arguments, str(log), die_at))
        self.process.start()

    def wait(self, seconds: float | None = None) -> int | None:
        """Return the exit code, or None if it runs on; killed processes have -9."""
        self.process.join(seconds)
        return self.process.exitcode

    def kill(self) -> int:
        """SIGKILL: it cannot do anything about that. Return the exit code."""
        self.process.kill()
        self.process.join()
        return self.process.exitcode


def _train(arguments: tuple[str, ...], log: str, die_at: int | None) -> None:
    from incnet import train

    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    if die_at is not None:
        _die_at(die_at)
    sys.exit(train.main(list(arguments)))


def _die_at(number: int) -> None:
    """Replace the calls that change the disk by ones that count, and kill the process at the given one."""
    calls = 0

    def deadly(call):
        def counted(*arguments, **options):
            nonlocal calls
            calls += 1
            if calls == number:
                if call is write:
                    descriptor, content = arguments
                    write(descriptor, content[: len(content) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return counted

    write = os.write
    for name in ("write", "fsync", "replace"):
        setattr(os, name, deadly(getattr(os, name)))
