"""Whole runs on a GPU: the copies between host and device that they make, and CIFAR-10 for as long as there is time."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import bench.checkout  # noqa: F401, finds the kernels of a checkout

# isort: split
from bench.gpu_steps import network, train_step
from incnet.backend import asarray, asnumpy, synchronize

__all__ = ["study", "transfers"]

IMAGES = 45_000  # CIFAR-10's for training, less a tenth for validation
ARMS = {"baseline": ("--method", "baseline"), "look-ahead": ()}
MOST_EPOCHS = 90


def transfers(left: Callable[[], float]) -> dict[str, Any]:
    """Milliseconds of the copies that are left in a run: beside their share of an epoch they show whether they matter.

    To the device: the data set, once, and each epoch's order and augmentation. To the host: the weights and the
    optimizer's state after each epoch; as CuPy copies them, and by way of page-locked memory.
    """
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (IMAGES, 32, 32, 3), np.uint8)
    plan = rng.permutation(IMAGES), rng.integers(-4, 5, (IMAGES, 2)), rng.random(IMAGES) < 0.5, np.zeros(IMAGES, int)
    found: dict[str, Any] = {"data set, once": _copy(lambda: asarray(images), images.nbytes)}
    found["plan, each epoch"] = _copy(lambda: [asarray(a) for a in plan], sum(a.nbytes for a in plan))
    for arch in ("resnet20", "vgg16"):
        graph = network(arch)
        step, _ = train_step(graph, 32, recorded=False)
        step()
        arrays = 3 * list(graph.state().values())  # weights, and about as much twice more: the optimizer's
        size = sum(array.nbytes for array in arrays)
        for name, copy in (("checkpoint, each epoch", _as_it_is), ("checkpoint, page-locked", _by_locked_memory)):
            found[f"{arch} {name}"] = _copy(partial(copy, arrays), size)
    for name, row in found.items():
        print(f"{name:36} {row['bytes'] / 2**20:8.1f} MiB {row['ms']:9.3f} ms", flush=True)
    return found


def _copy(copy: Callable[[], Any], size: int) -> dict[str, float]:
    times = []
    for _ in range(4):
        synchronize()
        began = time.perf_counter()
        copied = copy()
        synchronize()
        times.append(1000 * (time.perf_counter() - began))
        del copied
    return {"bytes": size, "ms": float(np.median(times[1:])), "first ms": times[0]}


def _as_it_is(arrays: list[Any]) -> list[np.ndarray]:
    return [asnumpy(array) for array in arrays]


def _by_locked_memory(arrays: list[Any]) -> list[np.ndarray]:
    import cupy

    locked = cupy.cuda.alloc_pinned_memory(sum(array.nbytes for array in arrays))
    staged, start = [], 0
    for array in arrays:
        staged.append(np.frombuffer(locked, array.dtype, array.size, start).reshape(array.shape))
        array.get(out=staged[-1], blocking=False)
        start += array.nbytes
    synchronize()
    return [target.copy() for target in staged]


def study(left: Callable[[], float], data_dir: Path | None) -> dict[str, Any]:
    """Train ResNet-20 on CIFAR-10 with look-ahead and without, for as many epochs as fit into the time that is left."""
    if data_dir is None:
        return {"summary": "skipped: no --data-dir"}
    try:
        from incnet.train import main
    except ImportError as error:
        return {"summary": f"skipped, as incnet is not installed: {error}"}
    with tempfile.TemporaryDirectory() as folder:

        def train(name: str, epochs: int, *options: str) -> dict[str, Any]:
            out = Path(folder) / f"{name}-{epochs}"
            place = ("--device", "gpu", "--data-dir", str(data_dir), "--out", str(out))
            code = main(["cifar10", "--arch", "resnet20", "--epochs", str(epochs), *place, *options])
            if code:
                raise RuntimeError(f"{name}: training ended with {code}")
            events = [json.loads(line) for line in (out / "metrics.jsonl").read_text("utf-8").splitlines()]
            curve = [event for event in events if event["event"] == "epoch"]
            keys = ("epoch", "phase", "subnetworks", "val_accuracy", "macs_training", "seconds", "images_per_second")
            return json.loads((out / "summary.json").read_text("utf-8")) | {
                "curve": [{key: event[key] for key in keys} for event in curve]
            }

        began = time.monotonic()
        trial = train("trial", 2, *ARMS["baseline"])
        overhead = time.monotonic() - began - trial["seconds"]
        epoch = trial["curve"][1]["seconds"] - trial["curve"][0]["seconds"]
        epochs = min(MOST_EPOCHS, int((left() - 10 - 2 * overhead) / (2 * epoch)))
        if epochs < 6:
            return {"summary": f"skipped: an epoch takes {epoch:.1f} s, and {left():.0f} s are left"}
        arms = {name: train(name, epochs, *options) for name, options in ARMS.items()}
    summary = ", ".join(
        f"{name} {arm['test_accuracy']:.2%} in {arm['seconds']:.0f} s and {arm['macs_training'] / 1e15:.3f} PMAC"
        for name, arm in arms.items()
    )
    return {"summary": f"{epochs} epochs: {summary}", "epochs": epochs, "seconds per epoch": epoch, **arms}
