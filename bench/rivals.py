"""The rivals of the step benchmarks: one step of one network, by incnet or by PyTorch.

    python -m bench.rivals incnet --arch resnet20 --batch-size 128 --kind train

A training step is everything that training does with a batch: forward with running statistics, loss and accuracy,
backward, and the update of all trainable parameters, on top of frozen sub-networks if there are any. An evaluation is a
forward pass with loss and accuracy. Images and labels are random, the same for all rivals.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from bench.networks import whole_network
from bench.turns import serve
from incnet.backend import ops
from incnet.graph import Graph
from incnet.optim import RMSProp
from incnet.training.replay import Replay
from incnet.training.step import Step

__all__ = ["ENGINES", "PEERS", "Workload"]

CIFAR, CLASSES = (32, 32, 3), 10
HYPER = {"lr": 1e-4, "rho": 0.9, "momentum": 0.9, "eps": 1e-7, "weight_decay": 1e-4}

TakeStep = Callable[[], None]


@dataclass(frozen=True)
class Workload:
    """One step to be timed.

    Parameters
    ----------
    kind : {"train", "evaluate"}
    subnetworks : int
        K: the network is S1 .. SK and its classifier; 0 for all sub-networks.
    frozen : int
        How many sub-networks, from the input up, are frozen.
    """

    arch: str
    batch_size: int
    kind: str = "train"
    subnetworks: int = 0
    frozen: int = 0

    def rival(self, engine: str) -> list[str]:
        """Return the command that starts a rival."""
        options = [part for name, value in asdict(self).items() for part in (f"--{name.replace('_', '-')}", str(value))]
        return [sys.executable, "-m", "bench.rivals", engine, *options]

    def network(self, *, fused: bool = True) -> Graph:
        """Build the network, with the weights that every rival starts from.

        Unless ``fused``, what is frozen computes layer by layer; what learns is fused all the same.
        """
        graph = whole_network(
            self.arch,
            CIFAR,
            num_classes=CLASSES,
            subnetworks=self.subnetworks or None,
            fused=lambda number: fused or number >= self.frozen,
        )
        graph.freeze_prefix(self.frozen)
        return graph

    def batch(self) -> tuple[np.ndarray, np.ndarray]:
        """Images float32 (N, 32, 32, 3) and labels int64 (N,)."""
        rng = np.random.default_rng(1)
        return rng.standard_normal((self.batch_size, *CIFAR), np.float32), rng.integers(0, CLASSES, self.batch_size)


def incnet_step(work: Workload, *, fused: bool = True, cached: bool = False) -> TakeStep:
    """One step of incnet; with ``cached`` from the frozen prefix's features, which are there already."""
    graph = work.network(fused=fused)
    images, labels = work.batch()
    running = np.zeros(2)
    step = Replay(Step(graph, RMSProp(**HYPER)))
    step.from_features, x = cached, graph.features(images) if cached else images

    def train() -> None:
        running[...] += step.gradients(x, labels)
        step.update()

    def evaluate() -> None:
        running[...] += ops.softmax_cross_entropy(graph.forward(images), labels)[0]

    return evaluate if work.kind == "evaluate" else train


def torch_step(work: Workload, layout: str, *, no_grad: bool = True) -> TakeStep:
    """One step of PyTorch, its arrays in ``layout``.

    A frozen prefix runs in eval mode, its parameters do not require gradients, and autograd is off, unless ``no_grad``
    is false.
    """
    import torch
    import torch.nn.functional as F
    from torch import nn

    from bench.mirror import mirror, rmsprop, to_torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    memory_format = getattr(torch, layout)
    graph = work.network()

    def modules(layers: list) -> nn.Module:
        return nn.Sequential(*map(mirror, layers)).to(memory_format=memory_format)  # type: ignore[call-overload]

    prefix = modules(graph.prefix).eval().requires_grad_(False)
    suffix = modules([*graph.suffix, graph.classifier]).train()
    optimizer = rmsprop(suffix, **HYPER)
    images, labels = work.batch()
    x = to_torch(images).contiguous(memory_format=memory_format)
    t = torch.from_numpy(labels)
    running = torch.zeros(2, dtype=torch.float64)

    def count(logits: torch.Tensor, loss: torch.Tensor) -> None:
        running[0] += loss * len(t)
        running[1] += (logits.argmax(1) == t).sum()

    def train() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.set_grad_enabled(not no_grad):
            features = prefix(x)
        logits = suffix(features)
        loss = F.cross_entropy(logits, t)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            count(logits, loss)

    def evaluate() -> None:
        with torch.no_grad():
            logits = suffix.eval()(x)
            count(logits, F.cross_entropy(logits, t))

    return evaluate if work.kind == "evaluate" else train


ENGINES: dict[str, Callable[[Workload], TakeStep]] = {
    "incnet": incnet_step,
    "torch-channels_last": lambda work: torch_step(work, "channels_last"),
    "torch-contiguous_format": lambda work: torch_step(work, "contiguous_format"),
    "incnet-unfused": lambda work: incnet_step(work, fused=False),
    "incnet-cached": lambda work: incnet_step(work, cached=True),
    "torch-requires_grad": lambda work: torch_step(work, "channels_last", no_grad=False),
}
# PyTorch in both memory orders: the faster one counts.
PEERS = ("torch-channels_last", "torch-contiguous_format")


def main() -> None:
    """Serve one rival's steps on standard input and output."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("--arch", required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--kind", choices=("train", "evaluate"), default="train")
    parser.add_argument("--subnetworks", type=int, default=0)
    parser.add_argument("--frozen", type=int, default=0)
    parser.add_argument("--instructions", choices=("native", "avx2"), default="native")
    args = parser.parse_args()
    work = Workload(args.arch, args.batch_size, args.kind, args.subnetworks, args.frozen)
    step = ENGINES[args.engine](work)
    if args.instructions == "avx2":
        refuse_avx512(args.engine)
    serve(step)


def refuse_avx512(engine: str) -> None:
    """Make sure that the environment did limit this process to AVX2.

    Raises
    ------
    RuntimeError
        If the engine may use AVX-512.
    """
    if engine.startswith("torch"):
        import torch

        capability = torch.backends.cpu.get_cpu_capability()
        limited = capability == "AVX2"
    else:
        from incnet.kernels.cpu.emit import AVX512

        capability, limited = "AVX-512" if AVX512 else "AVX2", not AVX512
    if not limited:
        raise RuntimeError(f"{engine} computes with {capability}, and was to be limited to AVX2")


if __name__ == "__main__":
    main()
