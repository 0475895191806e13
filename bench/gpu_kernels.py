"""Single kernels on a GPU: the convolutions of ResNet and some of VGG-16 beside cuDNN, and the passes over memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import bench.checkout  # noqa: F401, finds the kernels of a checkout

# isort: split
from bench.gpu_checks import SHAPES
from bench.gpu_steps import median_ms
from incnet import backend
from incnet.backend import Array, asarray, ops, recorder
from incnet.kernels.operands import BackwardEpilogue, Normalised, NormGradient

__all__ = ["kernels"]


def kernels(left: Callable[[], float]) -> dict[str, Any]:
    """Microseconds of each kernel, replayed from a graph of ten calls, so that launching costs little."""
    found: dict[str, Any] = {}
    for shape in SHAPES:
        n, h, w, c, k, size, stride, _ = shape
        name = f"{n}x{h}x{w}x{c}-{k} {size}x{size} stride {stride}"
        ours = {what: _microseconds(call) for what, call in _convolutions(*shape).items()}
        ours["columns and cuBLAS"] = _microseconds(_columns(*shape), capture=False)
        found[name] = {"mflop": 2 * n * (h // stride) * (w // stride) * size**2 * c * k / 1e6, "incnet": ours}
        found[name]["incnet, fused"] = {what: _microseconds(call) for what, call in _fused(*shape).items()}
        backend.use("cuda", tf32=True)
        found[name]["incnet TF32"] = {what: _microseconds(call) for what, call in _convolutions(*shape).items()}
        backend.use("cuda", convolution="im2col")
        found[name]["incnet by im2col"] = {what: _microseconds(call) for what, call in _convolutions(*shape).items()}
        backend.use("cuda")
        found[name]["cuDNN"], found[name]["cuDNN TF32"] = _cudnn(*shape), _cudnn(*shape, tf32=True)
        for kind in ("incnet", "incnet, fused", "incnet TF32", "incnet by im2col", "cuDNN", "cuDNN TF32"):
            print(name, kind, {key: round(us, 1) for key, us in found[name][kind].items()}, flush=True)
    for channels, size in ((16, 32), (32, 16), (64, 8)):
        name = f"128x{size}x{size}x{channels}"
        found[name] = {what: _microseconds(call) for what, call in _passes(channels, size).items()}
        print(name, {key: round(us, 1) for key, us in found[name].items()}, flush=True)
    return found


def _convolutions(
    n: int, h: int, w: int, c: int, k: int, size: int, stride: int, padding: int
) -> dict[str, Callable[[], Any]]:
    x, weight, dy = _arrays(n, h, w, c, k, size, stride, padding)
    return {
        "forward": lambda: ops.conv2d(x, weight, None, stride, padding),
        "input": lambda: ops.conv2d_input_grad(dy, weight, x.shape, stride, padding),
        "weight": lambda: ops.conv2d_weight_grad(x, dy, (size, size), stride, padding),
    }


def _fused(
    n: int, h: int, w: int, c: int, k: int, size: int, stride: int, padding: int
) -> dict[str, Callable[[], Any]]:
    """The same as a batch-normalised network's step calls them, what lies around them included."""
    x, weight, dy = _arrays(n, h, w, c, k, size, stride, padding)
    scale, shift, mean = x[0, 0, 0], x[0, 0, 0], x[0, 0, 0]
    a = Normalised(x, scale, shift)
    gradient = NormGradient(dy, dy, *[dy[0, 0, 0]] * 3)
    below = BackwardEpilogue(x, mean, scale, shift)
    return {
        "forward": lambda: ops.conv2d_moments(a, weight, stride, padding),
        "input": lambda: ops.masked_input_grad(gradient, weight, x.shape, stride, padding, below),
        "weight": lambda: ops.fused_weight_grad(a, gradient, (size, size), stride, padding),
    }


def _columns(n: int, h: int, w: int, c: int, k: int, size: int, stride: int, padding: int) -> Callable[[], Any]:
    """The forward pass the other way: patches in memory, multiplied by the vendor's library."""
    x, weight, _ = _arrays(n, h, w, c, k, size, stride, padding)
    return lambda: ops.im2col(x, (size, size), stride, padding) @ weight.reshape(-1, k)


def _passes(channels: int, size: int) -> dict[str, Callable[[], Any]]:
    rng = np.random.default_rng(0)
    x, dy = (asarray(rng.standard_normal((128, size, size, channels), np.float32)) for _ in range(2))
    mean, var, gamma, beta = (asarray(rng.uniform(0.5, 1.5, channels).astype(np.float32)) for _ in range(4))
    return {
        "batch_norm_stats": lambda: ops.batch_norm_stats(x),
        "batch_norm": lambda: ops.batch_norm(x, mean, var, gamma, beta, 1e-5, None, True),
        "batch_norm_grad": lambda: ops.batch_norm_grad(dy, x, mean, var, gamma, 1e-5),
        "add": lambda: ops.add(x, dy),
        "norm_relu": lambda: ops.norm_relu(Normalised(x, gamma, beta, dy)),
        "norm_gradient": lambda: ops.norm_gradient(NormGradient(dy, x, mean, gamma, beta)),
        "relu_mask": lambda: ops.relu_mask(dy, BackwardEpilogue(x, mean, gamma, beta)),
        "norm_coefficients": lambda: ops.norm_coefficients(mean, var, gamma, beta, 1e-5),
    }


def _arrays(n: int, h: int, w: int, c: int, k: int, size: int, stride: int, padding: int) -> list[Array]:
    rng = np.random.default_rng(0)
    rows, cols = ((s + 2 * padding - size) // stride + 1 for s in (h, w))
    return [
        asarray(rng.standard_normal(array, np.float32))
        for array in ((n, h, w, c), (size, size, c, k), (n, rows, cols, k))
    ]


def _microseconds(call: Callable[[], Any], *, capture: bool = True, calls: int = 10) -> float:
    def repeated() -> None:
        for _ in range(calls):
            call()

    step = recorder()(repeated) if capture else repeated
    return 1000 * median_ms(step, warmup=3, rounds=10, calls=2) / calls


def _cudnn(
    n: int, h: int, w: int, c: int, k: int, size: int, stride: int, padding: int, *, tf32: bool = False
) -> dict[str, float]:
    """Microseconds of cuDNN's convolutions, channels_last; empty without PyTorch."""
    try:
        import torch
    except ImportError:
        return {}
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True
    x = torch.randn(n, c, h, w, device="cuda").to(memory_format=torch.channels_last)
    weight = torch.randn(k, c, size, size, device="cuda").to(memory_format=torch.channels_last)
    dy = torch.nn.functional.conv2d(x, weight, None, stride, padding)

    def backward(mask: list[bool]) -> Any:
        return torch.ops.aten.convolution_backward(
            dy, x, weight, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, mask
        )

    calls = {
        "forward": lambda: torch.nn.functional.conv2d(x, weight, None, stride, padding),
        "input": lambda: backward([True, False, False]),
        "weight": lambda: backward([False, True, False]),
    }
    found = {}
    for what, call in calls.items():
        for _ in range(3):
            call()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(10):
                call()
        times = []
        for _ in range(12):
            first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            first.record()
            graph.replay()
            last.record()
            last.synchronize()
            times.append(first.elapsed_time(last) * 100)
        found[what] = float(np.median(times))
    return found
