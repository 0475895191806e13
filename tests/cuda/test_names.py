"""Every name that is used of CuPy exists in the real package, which imports without a GPU."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import incnet.kernels
import incnet.parallel

from .emulator import nccl_stub

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")

SOURCES = [
    *(Path(incnet.kernels.__file__).parent / "cuda").glob("*.py"),
    *Path(incnet.parallel.__file__).parent.glob("*.py"),
]


def names(path: Path) -> set[str]:
    """Dotted names below ``cp`` in a source file: ``cuda.Stream``."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        parts = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if parts and isinstance(node, ast.Name) and node.id == "cp":
            found.add(".".join(reversed(parts)))
    return found


@pytest.mark.parametrize("path", sorted(SOURCES), ids=lambda path: path.name)
def test_names_exist(path):
    for name in names(path):
        value = cupy
        for part in name.split("."):
            value = getattr(value, part)


@pytest.mark.parametrize(
    "name",
    ["cuda.Device.use", "cuda.runtime.getDeviceCount", "cuda.runtime.CUDARuntimeError", "cuda.get_current_stream"]
    + [f"cuda.Stream.{method}" for method in ("begin_capture", "end_capture", "synchronize")]
    + [f"cuda.Stream.{method}" for method in ("record", "wait_event")]
    + ["get_default_pinned_memory_pool", "cuda.PinnedMemoryPool.free_all_blocks"]
    + ["cuda.Event.done", "cuda.Event.synchronize", "cuda.Device.pci_bus_id", "ndarray.set", "ndarray.view"]
    + ["cuda.Graph.launch", "cuda.Graph.debug_dot_str", "cuda.Device.compute_capability", "ndarray.get", "ndarray.sum"]
    + [f"cuda.MemoryPool.{method}" for method in ("free_all_blocks", "malloc", "total_bytes")],
)
def test_methods_exist(name):
    value = cupy
    for part in name.split("."):
        value = getattr(value, part)


def test_copies_need_not_be_waited_for():
    assert "stream=None, order='C', out=None, blocking=True" in cupy.ndarray.get.__doc__
    assert "set(self, arr, stream=None)" in cupy.ndarray.set.__doc__


def test_nccl_is_called_as_its_header_says():
    """By CuPy's real binding, on a library that tells: NCCL itself takes 200 MB, and does nothing without a GPU."""
    program = [sys.executable, "-m", "tests.cuda.programs.nccl_calls", nccl_stub()]
    done = subprocess.run(program, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [  # ncclUint8 1, ncclFloat32 7, ncclFloat64 8; ncclSum 0
        "2.27.7 True True",
        "init rank 1 of 3, the same id",
        "allReduce 0x1000 to 0x1000, 10 of type 8, op 0, stream 0x77",
        "allReduce 0x2000 to 0x2000, 11 of type 7, op 0, stream 0x77",
        "bcast 0x3000, 8 of type 1, root 0, stream 0x77",
    ]


def test_device_count_without_a_driver():
    from incnet.backend import device_count

    importlib.import_module("cupy")
    assert device_count() >= 0
