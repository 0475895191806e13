"""Convolution layers one by one, incnet against PyTorch: ``python -m bench.conv_layers``.

Every distinct layer of ResNet-56 and VGG-16 on 32x32 images, in float32: forward, weight gradient, input gradient (but
not of the first layer, whose input needs none). All take turns in one process, warmed up: incnet as it chooses, incnet
by im2col, and PyTorch, contiguous and channels_last, of which the better one counts. GFLOP/s are those of direct
convolution, two operations a multiply-add, whatever the algorithm really does: Winograd's may exceed the machine's
peak, which is measured too. Errors are relative, against float64.

    python -m bench.conv_layers --batch-size 128 --network resnet56 --json layers.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
import torch.nn.functional as F

from incnet.kernels import cpu
from incnet.kernels.cpu.convolution import algorithm
from incnet.kernels.cpu.emit import LANES, emit, kernel, numbers
from incnet.kernels.cpu.memory import address, aligned_empty, aligned_zeros
from incnet.kernels.im2col import Im2col

__all__ = ["LAYERS", "Layer", "fma_peak", "measure"]


class Layer(NamedTuple):
    """A convolution of square images: rows H, channels C to K, padding that keeps the size (at stride 1)."""

    H: int
    C: int
    K: int
    size: int = 3
    stride: int = 1


LAYERS = {
    "resnet56": [Layer(32, 3, 16), Layer(32, 16, 16), Layer(32, 16, 32, stride=2), Layer(16, 32, 32),
                 Layer(16, 32, 64, stride=2), Layer(8, 64, 64)],
    "vgg16": [Layer(32, 3, 64), Layer(32, 64, 64), Layer(16, 64, 128), Layer(16, 128, 128), Layer(8, 128, 256),
              Layer(8, 256, 256), Layer(4, 256, 512), Layer(4, 512, 512), Layer(2, 512, 512)],
}  # fmt: skip
BATCH_SIZE = {"resnet56": 128, "vgg16": 32}


@emit
def multiply_add_forever(v: Any, cells: Any, steps: Any) -> None:
    """Keep 20 independent chains of multiply-adds busy."""

    def step(i: Any, values: list) -> list:
        for _ in range(8):
            values = [v.fma(value, 0.5, value) for value in values]
        return values

    places = [v.at(cells, LANES * n) for n in range(20)]
    for value, place in zip(v.loop(steps, [v.load(place) for place in places], step), places, strict=True):
        v.store(value, place)


@kernel
def run_peak(t: Any, threads: Any, arguments: Any) -> None:
    """Multiply and add on every thread."""
    cells, steps = numbers(arguments, 2)  # type: ignore[call-arg, var-annotated, unused-ignore]  # numba passes one
    multiply_add_forever(cells + 4096 * t, steps)


def fma_peak(repeats: int = 20) -> float:
    """GFLOP/s of fused multiply-adds on float32, all threads: the best of several measurements."""
    threads, steps = numba.get_num_threads(), 20_000
    cells = aligned_zeros((threads, 1024))
    run_peak(address(cells), 10)
    best = min(_seconds(lambda: run_peak(address(cells), steps)) for _ in range(repeats))
    return 2 * LANES * 20 * 8 * steps * threads / best / 1e9


def _seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def measure(layer: Layer, N: int, repeats: int) -> Iterator[dict[str, Any]]:
    """Measure the three passes of a layer, on N images; yields one row each."""
    H, C, K, size, stride = layer
    padding, Ho, rng = size // 2, -(-H // stride), np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        array = aligned_empty(shape)
        array[...] = rng.standard_normal(shape)
        return array

    x, weight, dy = normal(N, H, H, C), normal(size, size, C, K), normal(N, Ho, Ho, K)

    def passes(kernels: Any) -> dict[str, Callable[[], np.ndarray]]:
        return {
            "forward": lambda: kernels.conv2d(x, weight, None, stride, padding),
            "weight gradient": lambda: kernels.conv2d_weight_grad(x, dy, (size, size), stride, padding),
            "input gradient": lambda: kernels.conv2d_input_grad(dy, weight, x.shape, stride, padding),
        }

    ours, by_im2col = passes(cpu), passes(Im2col(cpu))

    def theirs(name: str, layout: torch.memory_format, dtype: torch.dtype) -> Callable[[], torch.Tensor]:
        tx, tdy = (torch.from_numpy(a).permute(0, 3, 1, 2).to(dtype).contiguous(memory_format=layout) for a in (x, dy))
        tw = torch.from_numpy(weight).permute(3, 2, 0, 1).to(dtype).contiguous(memory_format=layout)
        if name == "forward":
            return lambda: F.conv2d(tx, tw, stride=stride, padding=padding)
        which = name == "input gradient"
        return lambda: torch.ops.aten.convolution_backward(
            tdy, tx, tw, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, [which, not which, False]
        )[not which]

    for name, function in ours.items():
        if name == "input gradient" and C == 3:
            continue
        axes = (2, 3, 1, 0) if name == "weight gradient" else (0, 2, 3, 1)
        exact = theirs(name, torch.contiguous_format, torch.float64)().permute(*axes).numpy()
        rivals: dict[str, Callable[[], Any]] = {"incnet": function, "im2col": by_im2col[name]}
        for layout in (torch.contiguous_format, torch.channels_last):
            rivals[str(layout)] = theirs(name, layout, torch.float32)
        taken: dict[str, list[float]] = {rival: [] for rival in rivals}
        for _ in range(repeats + 2):
            for rival, run in rivals.items():
                taken[rival].append(_seconds(run))
        medians = {rival: statistics.median(seconds[2:]) for rival, seconds in taken.items()}
        mine, patches = medians.pop("incnet"), medians.pop("im2col")
        best = min(medians, key=lambda rival: medians[rival])
        flops = 2 * dy.size * C * size * size
        yield {
            "layer": layer._asdict(),
            "batch_size": N,
            "pass": name,
            "algorithm": algorithm(x.shape, weight.shape, stride, padding, x.dtype),
            "incnet_ms": mine * 1e3,
            "im2col_ms": patches * 1e3,
            "torch_ms": medians[best] * 1e3,
            "torch_layout": best.removeprefix("torch."),
            "ratio": mine / medians[best],
            "incnet_gflops": flops / mine / 1e9,
            "im2col_gflops": flops / patches / 1e9,
            "torch_gflops": flops / medians[best] / 1e9,
            "incnet_error": _error(function(), exact),
            "im2col_error": _error(by_im2col[name](), exact),
            "torch_error": _error(rivals[best]().permute(*axes).numpy(), exact),
        }


def _error(array: np.ndarray, exact: np.ndarray) -> float:
    return float(np.linalg.norm(array - exact) / np.linalg.norm(exact))


def main() -> None:
    """Print a table; write JSON where told."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=[*LAYERS, "all"], default="all", help="whose layers")
    parser.add_argument("--batch-size", type=int, help="images (default: 128 of ResNet-56's, 32 of VGG-16's)")
    parser.add_argument("--threads", type=int, default=numba.get_num_threads(), help="of each library")
    parser.add_argument("--repeats", type=int, default=25, help="times that each is measured; the median counts")
    parser.add_argument("--json", metavar="FILE", help="where to write the rows as JSON; - for standard output")
    arguments = parser.parse_args()
    numba.set_num_threads(arguments.threads)
    torch.set_num_threads(arguments.threads)
    table = sys.stderr if arguments.json == "-" else sys.stdout

    peak, rows = fma_peak(), []
    print(f"multiply-add peak: {peak:.0f} GFLOP/s on {arguments.threads} threads", file=table)
    print(f"{'N, H, C, K, size, stride':26}{'pass':17}{'by':10}{'GFLOP/s':>8}{'im2col':>8}{'torch':>7}"
          f"{'time ratio':>12}{'error':>10}{'im2col':>9}{'torch':>9}", file=table)  # fmt: skip
    for network in LAYERS if arguments.network == "all" else [arguments.network]:
        for layer in LAYERS[network]:
            N = arguments.batch_size or BATCH_SIZE[network]
            for row in measure(layer, N, arguments.repeats):
                rows.append({"network": network, **row})
                print(f"{', '.join(map(str, (N, *layer))):26}{row['pass']:17}{row['algorithm']:10}"
                      f"{row['incnet_gflops']:8.0f}{row['im2col_gflops']:8.0f}{row['torch_gflops']:7.0f}"
                      f"{row['ratio']:12.2f}{row['incnet_error']:10.0e}{row['im2col_error']:9.0e}"
                      f"{row['torch_error']:9.0e}", file=table, flush=True)  # fmt: skip
    if arguments.json:
        document = json.dumps({"fma_peak_gflops": peak, "threads": arguments.threads, "rows": rows}, indent=1)
        if arguments.json == "-":
            print(document)
        else:
            with open(arguments.json, "w") as file:
                file.write(document + "\n")


if __name__ == "__main__":
    main()
