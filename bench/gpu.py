"""Everything that needs a GPU, in one command: correctness first, then speed beside PyTorch on the same card.

    python -m bench.gpu --out DIR

Runs from a plain checkout with NumPy and CuPy; PyTorch and compute-sanitizer take part where they are found. The
results go to ``DIR/gpu-DATE.json``, rewritten after each section, so an interrupted run keeps what it has; a table is
printed last. ``--only contract steps`` picks sections, ``--minutes`` limits the time: sections that no longer fit are
skipped, and listed as skipped. With ``--data-dir`` the time that is left goes into training on CIFAR-10; that section
and the tests need incnet installed.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

import bench.checkout  # noqa: F401, finds the kernels of a checkout
from bench import gpu_checks, gpu_kernels, gpu_steps, gpu_study
from incnet import backend

# Each gets a function that says how many seconds are left.
SECTIONS: dict[str, Callable[..., Any]] = {
    "contract": gpu_checks.contract,
    "shapes": gpu_checks.shapes,
    "tf32": gpu_checks.tf32,
    "parity": gpu_checks.parity,
    "recorded": gpu_checks.recorded_equals_eager,
    "tests": gpu_checks.tests,
    "steps": gpu_steps.steps,
    "kernels": gpu_kernels.kernels,
    "transfers": gpu_study.transfers,
    "sanitizer": gpu_checks.sanitizer,
    "compiled": gpu_steps.compiled,
    "study": gpu_study.study,
}


def main() -> int:
    """Run the sections; return 1 if one failed, 2 without a GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="sections to run")
    parser.add_argument("--minutes", type=float, default=8, help="time limit")
    parser.add_argument("--data-dir", type=Path, default=None, help="folder of CIFAR-10, for the study")
    parser.add_argument("--commit", default=None, help="commit that is measured, where git cannot tell")
    options = parser.parse_args()
    try:
        backend.use("cuda")
    except backend.DeviceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    stamp = datetime.now(UTC)
    path = options.out / f"gpu-{stamp:%Y%m%d-%H%M%S}.json"
    report = {"date": f"{stamp:%Y-%m-%d %H:%M} UTC", "commit": options.commit or commit(), **machine()}
    print(json.dumps(report), flush=True)

    def left() -> float:
        return 60 * options.minutes - (time.monotonic() - started)

    failed = False
    for name in options.only:
        if left() < 10:
            report[name] = {"skipped": "out of time"}
            continue
        began = time.monotonic()
        try:
            extra = {"data_dir": options.data_dir} if name == "study" else {}
            report[name] = SECTIONS[name](left, **extra)
        except Exception:
            report[name] = {"failed": traceback.format_exc()}
            print(report[name]["failed"], flush=True)
        failed |= bool(report[name].get("failed"))
        report[name]["seconds"] = round(time.monotonic() - began, 1)
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        print(f"== {name}: {report[name]['seconds']} s", flush=True)
    print(table(report))
    print(path)
    return int(failed)


def machine() -> dict[str, Any]:
    """Device and versions."""
    import cupy

    properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    for package in ("cupy-cuda12x", "cupy-cuda13x", "torch", "numba"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "device": properties["name"].decode(),
        "multiprocessors": properties["multiProcessorCount"],
        "driver": cupy.cuda.runtime.driverGetVersion(),
        "runtime": cupy.cuda.runtime.runtimeGetVersion(),
        "versions": versions,
        "command": " ".join(["python -m bench.gpu", *sys.argv[1:]]),
    }


def commit() -> str | None:
    """Commit of the checkout, with a plus sign if files differ from it."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12"],
            capture_output=True, text=True, check=True, cwd=Path(__file__).parent,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


def table(report: dict[str, Any]) -> str:
    """Summary for the terminal."""
    lines = [f"{report['device']}, {report['date']}, commit {report['commit']}"]
    for name in ("contract", "shapes", "tf32", "parity", "recorded", "tests", "sanitizer", "study"):
        if name in report:
            lines.append(f"{name}: {report[name].get('summary', report[name])}")
    rows = {**report.get("steps", {}), **report.get("compiled", {})}
    lines += [
        f"{name:58} {row['ms']:9.3f} ms   {row['bytes'] / 2**20:8.0f} MiB"
        for name, row in rows.items()
        if isinstance(row, dict) and "ms" in row
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
