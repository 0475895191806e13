"""The rivals of the step benchmarks: one training step of one architecture, by incnet or by PyTorch.

    python -m bench.rivals incnet --arch resnet20 --batch-size 128

A training step is everything that training does with a batch: forward with running statistics, loss and accuracy,
backward, and the update of all parameters. Images and labels are random, the same for all rivals.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

import numpy as np

from bench.turns import serve
from incnet.backend import ops
from incnet.graph import Graph
from incnet.models import build, make_classifier
from incnet.optim import RMSProp

__all__ = ["ENGINES", "rival"]

CIFAR, CLASSES = (32, 32, 3), 10
HYPER = {"lr": 1e-4, "rho": 0.9, "momentum": 0.9, "eps": 1e-7, "weight_decay": 1e-4}


def rival(engine: str, arch: str, batch_size: int) -> list[str]:
    """Arguments for ``python`` that start a rival."""
    return ["-m", "bench.rivals", engine, "--arch", arch, "--batch-size", str(batch_size)]


def network(arch: str) -> Graph:
    """Build the whole network, with the weights that every rival starts from."""
    rng = np.random.default_rng(0)
    graph = Graph(CIFAR, lambda shape: make_classifier(shape, CLASSES, rng=rng))
    for name, subnetwork in build(arch, CIFAR, rng=rng).items():
        graph.insert(name, subnetwork)
    return graph


def batch(batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Images float32 (N, 32, 32, 3) and labels int64 (N,)."""
    rng = np.random.default_rng(1)
    return rng.standard_normal((batch_size, *CIFAR), np.float32), rng.integers(0, CLASSES, batch_size)


def incnet_step(arch: str, batch_size: int) -> Callable[[], None]:
    """One training step of incnet."""
    graph, optimizer = network(arch), RMSProp(**HYPER)
    images, labels = batch(batch_size)
    running = np.zeros(2)

    def step() -> None:
        totals, dlogits = ops.softmax_cross_entropy(graph.forward(images, train=True), labels)
        graph.backward(dlogits)
        optimizer.step(graph.trainable_parameters())
        running[...] += totals

    return step


def torch_step(arch: str, batch_size: int, layout: str) -> Callable[[], None]:
    """One training step of PyTorch, with images and filters in ``layout``."""
    import torch
    import torch.nn.functional as F

    from bench.peer import copy_weights, make_twin, rmsprop, to_torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    memory_format = getattr(torch, layout)
    twin = make_twin(arch, CIFAR, CLASSES)
    copy_weights(network(arch), twin)
    twin = twin.to(memory_format=memory_format).train()  # type: ignore[call-overload]
    optimizer = rmsprop(twin, **HYPER)
    images, labels = batch(batch_size)
    x = to_torch(images).contiguous(memory_format=memory_format)
    t = torch.from_numpy(labels)
    running = torch.zeros(2, dtype=torch.float64)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        logits = twin(x)
        loss = F.cross_entropy(logits, t)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            running[0] += loss * len(t)
            running[1] += (logits.argmax(1) == t).sum()

    return step


ENGINES: dict[str, Callable[[str, int], Callable[[], None]]] = {
    "incnet": incnet_step,
    "torch-channels_last": lambda arch, batch_size: torch_step(arch, batch_size, "channels_last"),
    "torch-contiguous_format": lambda arch, batch_size: torch_step(arch, batch_size, "contiguous_format"),
}


def main() -> None:
    """Serve one rival's steps on standard input and output."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("--arch", required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    args = parser.parse_args()
    serve(ENGINES[args.engine](args.arch, args.batch_size))


if __name__ == "__main__":
    main()
