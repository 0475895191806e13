"""Whole training steps on a GPU: incnet launch by launch and replayed, PyTorch eager and compiled, on the same card."""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import bench.checkout  # noqa: F401
from bench.networks import whole_network
from bench.rivals import CLASSES, HYPER
from incnet import backend
from incnet.backend import asarray, ops, recorder
from incnet.graph import Graph
from incnet.optim import RMSProp

__all__ = ["compiled", "median_ms", "network", "steps", "train_step"]

# (architecture, batch size, frozen sub-networks): a look-ahead step trains the uppermost sub-network alone.
WORKLOADS = (("resnet20", 128, 0), ("resnet56", 128, 0), ("vgg16", 32, 0), ("resnet20", 128, 2), ("vgg16", 32, 5))


def network(arch: str, *, image: int = 32, frozen: int = 0, fused: bool = True) -> Graph:
    """Return a whole network with He-initialised weights, its lowest ``frozen`` sub-networks frozen."""
    graph = whole_network(arch, (image, image, 3), num_classes=CLASSES, fused=lambda number: fused)
    graph.freeze_prefix(frozen)
    return graph


def batch(size: int, image: int) -> tuple[np.ndarray, np.ndarray]:
    """Images float32 (N, H, W, 3) and labels int64 (N,), random."""
    rng = np.random.default_rng(1)
    return rng.standard_normal((size, image, image, 3), np.float32), rng.integers(0, CLASSES, size)


def train_step(
    graph: Graph, size: int, *, image: int = 32, lr: float = 1e-4, recorded: bool = True
) -> tuple[Callable[[], None], Any]:
    """Return one training step and the array (2,) in which it adds up losses and correct answers."""
    optimizer = RMSProp(**HYPER | {"lr": lr})
    images, labels = (asarray(array) for array in batch(size, image))
    totals = asarray(np.zeros(2))

    def step() -> None:
        nonlocal totals
        batch_totals, dlogits = ops.softmax_cross_entropy(graph.forward(images, train=True), labels)
        graph.backward(dlogits)
        optimizer.step(graph.trainable_parameters())
        totals += batch_totals

    return (recorder()(step) if recorded else step), totals


def median_ms(step: Callable[[], None], *, warmup: int = 5, rounds: int = 20, calls: int = 5) -> float:
    """Milliseconds a call, the median of ``rounds`` measurements with device events around ``calls`` calls."""
    import cupy

    for _ in range(warmup):
        step()
    times = []
    for _ in range(rounds):
        first, last = cupy.cuda.Event(), cupy.cuda.Event()
        first.record()
        for _ in range(calls):
            step()
        last.record()
        last.synchronize()
        times.append(cupy.cuda.get_elapsed_time(first, last) / calls)
    return float(np.median(times))


def steps(left: Callable[[], float]) -> dict[str, Any]:
    """Time every workload, by incnet and by PyTorch's eager mode."""
    found: dict[str, Any] = {}
    for arch, size, frozen in WORKLOADS:
        name = f"{arch} batch {size}" + (f" look-ahead on {frozen} frozen" if frozen else "")
        ours = partial(_ours, arch, size, frozen)
        _time(found, f"{name}: incnet recorded", ours)
        _time(found, f"{name}: incnet recorded TF32", partial(ours, tf32=True))
        _time(found, f"{name}: incnet eager", partial(ours, recorded=False))
        if not frozen:
            _time(found, f"{name}: incnet recorded, not fused", partial(ours, fused=False))
        for tf32 in (False, True):
            label = f"{name}: PyTorch eager{' TF32' if tf32 else ''}"
            _time(found, label, partial(_theirs, arch, size, frozen, tf32, None))
    return found


def compiled(left: Callable[[], float]) -> dict[str, Any]:
    """Time PyTorch's compiled modes, which take long to start: as many as the time allows."""
    found: dict[str, Any] = {}
    for arch, size, frozen, mode, tf32, needs in (
        ("resnet20", 128, 0, "reduce-overhead", False, 45),
        ("vgg16", 32, 0, "reduce-overhead", False, 45),
        ("resnet20", 128, 0, "reduce-overhead", True, 45),
        ("resnet56", 128, 0, "reduce-overhead", False, 90),
        ("resnet20", 128, 0, "default", False, 45),
    ):
        name = f"{arch} batch {size}: PyTorch compiled ({mode}){' TF32' if tf32 else ''}"
        if left() < needs:
            found[name] = "skipped: out of time"
            continue
        _time(found, name, partial(_theirs, arch, size, frozen, tf32, mode))
    return found


def _time(found: dict[str, Any], name: str, measure: Callable[[], tuple[float, int]]) -> None:
    import cupy

    gc.collect()  # networks that were measured before, in cycles
    cupy.get_default_memory_pool().free_all_blocks()
    try:
        ms, peak = measure()
        found[name] = {"ms": ms, "bytes": peak}
        print(f"{name:58} {ms:9.3f} ms   {peak / 2**20:8.0f} MiB", flush=True)
    except Exception as reason:
        found[name] = f"failed: {type(reason).__name__}: {reason}"[:500]
        print(name, found[name], flush=True)


def _ours(
    arch: str, size: int, frozen: int, *, recorded: bool = True, fused: bool = True, tf32: bool = False
) -> tuple[float, int]:
    """Milliseconds and bytes of device memory of one of our steps; what is held for nobody counts too."""
    import cupy

    backend.use("cuda", tf32=tf32)
    pool = cupy.get_default_memory_pool()
    step, _ = train_step(network(arch, frozen=frozen, fused=fused), size, recorded=recorded)
    ms = median_ms(step)
    backend.use("cuda")
    return ms, pool.total_bytes() + getattr(step, "memory", 0)


def _theirs(arch: str, size: int, frozen: int, tf32: bool, mode: str | None) -> tuple[float, int]:
    """Milliseconds and bytes of device memory of PyTorch's step, channels_last; ``mode`` of torch.compile, or None."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    from bench.mirror import mirror, rmsprop

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True
    torch.cuda.reset_peak_memory_stats()
    backend.use("reference")
    try:
        graph = network(arch, frozen=frozen, fused=False)
        chains = [nn.Sequential(*map(mirror, part)) for part in (graph.prefix, [*graph.suffix, graph.classifier])]
    finally:
        backend.use("cuda")
    where: Any = {"device": "cuda", "memory_format": torch.channels_last}  # which the hints of Module.to do not know
    moved: list[Any] = [chain.to(**where) for chain in chains]
    prefix, suffix = moved
    prefix.eval()
    suffix.train()
    optimizer = rmsprop(suffix, **HYPER)
    images, labels = batch(size, 32)
    x = torch.from_numpy(images).permute(0, 3, 1, 2).to("cuda", memory_format=torch.channels_last)
    targets = torch.from_numpy(labels).to("cuda")

    if mode is not None:
        torch._dynamo.reset()
        suffix = torch.compile(suffix, mode=mode)
        prefix = torch.compile(prefix, mode=mode) if frozen else prefix

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        if mode is not None:
            torch.compiler.cudagraph_mark_step_begin()
        with torch.no_grad():
            features = prefix(x)
        F.cross_entropy(suffix(features), targets).backward()
        optimizer.step()

    # Timed by PyTorch's own events on its own stream.
    for _ in range(8):
        step()
    times = []
    for _ in range(20):
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        first.record()
        for _ in range(5):
            step()
        last.record()
        last.synchronize()
        times.append(first.elapsed_time(last) / 5)
    peak = torch.cuda.max_memory_allocated()
    torch.cuda.empty_cache()
    return float(np.median(times)), peak
