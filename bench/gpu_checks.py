"""Correctness on a GPU: every kernel against double precision, training against the CPU, replays, compute-sanitizer."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

import bench.checkout  # noqa: F401, finds the kernels of a checkout

# isort: split
from bench.gpu_steps import network, train_step
from incnet import backend
from incnet.backend import asarray, asnumpy, ops
from incnet.doctor.cases import Case, cases, error, results, truth
from incnet.kernels import reference

__all__ = ["contract", "parity", "recorded_equals_eager", "sanitizer", "shapes", "tests", "tf32"]

ROOT = Path(__file__).parents[1]
TOLERANCE: dict[type[np.generic], float] = {np.float32: 1e-5, np.float64: 1e-12}
# Those of ResNet at batch 128 and of VGG-16 at batch 32: (N, H, W, C, K, kernel, stride, padding).
SHAPES = (
    (128, 32, 32, 3, 16, 3, 1, 1),
    (128, 32, 32, 16, 16, 3, 1, 1),
    (128, 32, 32, 16, 32, 3, 2, 1),
    (128, 16, 16, 32, 32, 3, 1, 1),
    (128, 16, 16, 32, 64, 3, 2, 1),
    (128, 8, 8, 64, 64, 3, 1, 1),
    (32, 16, 16, 64, 128, 3, 1, 1),
    (32, 4, 4, 256, 512, 3, 1, 1),
    (32, 2, 2, 512, 512, 3, 1, 1),
    (32, 1, 1, 512, 4096, 1, 1, 0),
)


def check(listed: Iterable[Case], dtype: type[np.generic]) -> dict[str, Any]:
    """Errors of cases, the worst of each kernel, and what failed."""
    worst: dict[str, float] = {}
    failures, count = [], 0
    for case in listed:
        count += 1
        expected = truth(case, reference)
        found = results(case, ops, asarray, asnumpy)
        again = results(case, ops, asarray, asnumpy)
        for got, second, wanted in zip(found, again, expected, strict=True):
            off = error(got, wanted)
            worst[case.kernel] = max(worst.get(case.kernel, 0.0), off)
            if (off != 0 if case.exact else off > TOLERANCE[dtype]) or got.tobytes() != second.tobytes():
                repeats = "" if got.tobytes() == second.tobytes() else ", and another result the second time"
                failures.append(f"{case.kernel} {case.name} {dtype.__name__}: error {off:.1e}{repeats}")
    return {"cases": count, "worst": worst, "failures": failures}


def summarised(parts: dict[str, dict]) -> dict[str, Any]:
    """Join the results of `check`."""
    failures = [failure for part in parts.values() for failure in part["failures"]]
    count = sum(part["cases"] for part in parts.values())
    for failure in failures:
        print("FAILED", failure, flush=True)
    return {"summary": f"{count} cases, {len(failures)} failed", "failed": failures, **parts}


def contract(left: Callable[[], float]) -> dict[str, Any]:
    """Every kernel on small odd shapes, in both precisions, twice: the second result must have the very same bits."""
    types: tuple[type[np.generic], ...] = (np.float32, np.float64)
    return summarised({t.__name__: check(cases(t, np.random.default_rng(0)), t) for t in types})


def shapes(left: Callable[[], float]) -> dict[str, Any]:
    """Convolutions at the sizes of real training, where the tiles are others than for small ones."""
    plain = ("conv2d", "conv2d_input_grad", "conv2d_weight_grad")
    fused = ("conv2d_moments", "masked_input_grad", "fused_weight_grad")
    listed = cases(np.float32, np.random.default_rng(1), SHAPES, SHAPES[1:6])
    variants = ("without-bias", "-array", "-output", "-bias")
    chosen = (c for c in listed if c.kernel in plain + fused and not any(v in c.name for v in variants))
    return summarised({"float32": check(chosen, np.float32)})


def tf32(left: Callable[[], float]) -> dict[str, Any]:
    """Errors with TF32 and without: of convolutions at the sizes of training, and of the losses of training.

    An error is the distance from the result in double precision, over that result's root mean square.
    """
    plain = ("conv2d", "conv2d_input_grad", "conv2d_weight_grad")
    listed = [
        case
        for case in cases(np.float32, np.random.default_rng(2), SHAPES, ())
        if case.kernel in plain and case.name.count("-") == 4
    ]
    errors: dict[str, dict[str, dict[str, float]]] = {"float32": {}, "tf32": {}}
    failures = []
    for case in listed:
        (expected,) = truth(case, reference)
        for precision, found in errors.items():
            backend.use("cuda", tf32=precision == "tf32")
            (got,) = results(case, ops, asarray, asnumpy)
            off = np.abs(got - expected) / np.sqrt(np.square(expected).mean())
            found[f"{case.kernel} {case.name}"] = {"largest": float(off.max()), "typical": float(np.median(off))}
            if not error(got, expected) < (1e-5 if precision == "float32" else 1e-3):
                failures.append(f"{case.kernel} {case.name} {precision}: error {error(got, expected):.1e}")
    plainly, rounded = _losses("cuda"), _losses("cuda", tf32=True)
    backend.use("cuda")
    worst = {
        precision: {kind: max(each[kind] for each in found.values()) for kind in ("largest", "typical")}
        for precision, found in errors.items()
    }
    off = np.abs(np.array(rounded) / np.array(plainly) - 1)
    summary = ", ".join(f"{p}: largest {w['largest']:.1e}, typical {w['typical']:.1e}" for p, w in worst.items())
    summary += f"; 50 losses part by {off.max():.1e}, the first ten by {off[:10].max():.1e}"
    return {"summary": summary, "failed": failures, "worst": worst, **errors}


def parity(left: Callable[[], float]) -> dict[str, Any]:
    """Fifty training steps of ResNet-20 from the same weights, on the CPU's reference kernels and on the GPU."""
    ours, theirs = _losses("cuda"), _losses("reference")
    backend.use("cuda")
    off = np.abs(np.array(ours) / np.array(theirs) - 1)
    summary = f"50 losses, largest relative difference {off.max():.1e}, in the first ten steps {off[:10].max():.1e}"
    return {"summary": summary, "failed": [summary] if not off.max() < 1e-2 else [], "gpu": ours, "cpu": theirs}


def _losses(name: str, *, tf32: bool = False) -> list[float]:
    """Losses of fifty steps of ResNet-20.

    The learning rate is small: a large one drives the loss of so few images to zero, where rounding alone makes two
    float32 runs part.
    """
    backend.use(name, tf32=tf32)
    step, totals = train_step(network("resnet20", image=16), 32, image=16, lr=1e-5, recorded=False)
    found = []
    for _ in range(50):
        step()
        found.append(float(asnumpy(totals)[0]) / 32)
        totals[...] = 0
    return found


def recorded_equals_eager(left: Callable[[], float]) -> dict[str, Any]:
    """Twenty steps launched one by one, and the same replayed from a graph: every weight must have the same bits."""
    failures = []
    for arch in ("resnet20", "vgg16"):
        states = []
        for recorded in (False, True):
            graph = network(arch)
            step, _ = train_step(graph, 32, recorded=recorded)
            for _ in range(20):
                step()
            states.append({name: asnumpy(array) for name, array in graph.state().items()})
        differing = [name for name in states[0] if states[0][name].tobytes() != states[1][name].tobytes()]
        if differing or not all(np.isfinite(array).all() for array in states[0].values()):
            failures.append(f"{arch}: {len(differing)} of {len(states[0])} arrays differ, {differing[:2]}")
    return {"summary": f"2 networks, {len(failures)} differ", "failed": failures}


def tests(left: Callable[[], float]) -> dict[str, Any]:
    """The test suite's part that needs a GPU: training as on the CPU, growth, stopped and killed runs."""
    needed = ("incnet.kernels", "pytest", "hypothesis", "tyro", "rich", "safetensors", "pooch", "sklearn", "numba")
    command = [sys.executable, "-c", f"import {', '.join(needed)}"]
    if missing := subprocess.run(command, capture_output=True, text=True, cwd=ROOT).stderr.strip():
        return {"summary": f"skipped, as incnet is not installed with its tests: {missing.splitlines()[-1]}"}
    options = ("-q", "-rA", "--show-capture=no", "--tb=short", "-m", "gpu")
    command = [sys.executable, "-m", "pytest", *options, "tests/cuda/test_gpu.py"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=max(1.0, left() - 5))
    except subprocess.TimeoutExpired:
        return {"summary": "skipped: out of time"}
    lines = done.stdout.strip().splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    if done.returncode:
        print(done.stdout[-8000:], done.stderr[-2000:], flush=True)
    if done.returncode and not failed:
        failed = [f"pytest ended with {done.returncode}: {lines[-1:]}"]
    passed, skipped = ([line for line in lines if line.startswith(kind)] for kind in ("PASSED", "SKIPPED"))
    return {"summary": lines[-1] if lines else "", "failed": failed, "passed": passed, "skipped": skipped}


def sanitizer(left: Callable[[], float]) -> dict[str, Any]:
    """The contract's float32 cases under compute-sanitizer, each array in memory of its own."""
    tool = shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")
    if tool is None:
        return {"summary": "compute-sanitizer not found"}
    found: dict[str, Any] = {"failed": []}
    for check_name in ("memcheck", "racecheck", "synccheck"):
        command = [tool, "--tool", check_name, "--error-exitcode", "9", sys.executable, "-m", "bench.gpu_checks"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=max(1.0, min(left() - 5, 80)))
        except subprocess.TimeoutExpired:
            found[check_name] = "skipped: out of time"
            continue
        tail = (done.stdout + done.stderr).strip().splitlines()[-25:]
        found[check_name] = {"exit": done.returncode, "tail": tail if done.returncode else tail[-1:]}
        if done.returncode:
            found["failed"].append(f"{check_name}: {tail[-1:]}")
    found["summary"] = ", ".join(
        f"{k}: {v if isinstance(v, str) else v['tail'][-1]}" for k, v in found.items() if k != "failed"
    )
    return found


def _run_cases() -> None:
    """What compute-sanitizer watches."""
    import cupy

    cupy.cuda.set_allocator(None)  # no pool: an access beyond an array is one beyond an allocation
    backend.use("cuda")
    listed = [*cases(np.float32, np.random.default_rng(0))]
    for case in listed:
        results(case, ops, asarray, asnumpy)
    print(f"{len(listed)} cases run")


if __name__ == "__main__":
    _run_cases()
