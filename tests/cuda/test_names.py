"""Every name that is used of CuPy exists in the real package, which imports without a GPU."""

import ast
import importlib
from pathlib import Path

import pytest

import incnet.kernels

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")

KERNELS = Path(incnet.kernels.__file__).parent / "cuda"


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


@pytest.mark.parametrize("path", sorted(KERNELS.glob("*.py")), ids=lambda path: path.name)
def test_names_exist(path):
    for name in names(path):
        value = cupy
        for part in name.split("."):
            value = getattr(value, part)


@pytest.mark.parametrize(
    "name",
    ["cuda.Device.use", "cuda.runtime.getDeviceCount", "cuda.runtime.CUDARuntimeError", "cuda.get_current_stream"]
    + [f"cuda.Stream.{method}" for method in ("begin_capture", "end_capture", "synchronize")]
    + ["cuda.Graph.launch", "cuda.Graph.debug_dot_str", "cuda.Device.compute_capability", "ndarray.get", "ndarray.sum"]
    + [f"cuda.MemoryPool.{method}" for method in ("free_all_blocks", "malloc", "total_bytes")],
)
def test_methods_exist(name):
    value = cupy
    for part in name.split("."):
        value = getattr(value, part)


def test_device_count_without_a_driver():
    from incnet.backend import device_count

    importlib.import_module("cupy")
    assert device_count() >= 0
