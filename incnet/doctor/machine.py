"""Versions, processor, caches and optional packages."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from pathlib import Path

from incnet import backend
from incnet.doctor.findings import Finding
from incnet.extras import install, why_not
from incnet.storage.folder import environment
from incnet.threads import available_threads, threads_in_use

__all__ = ["caches", "extras", "processor", "versions"]

# Vector extensions that decide how fast kernels are, of x86-64 and of ARM; most processors have more.
EXTENSIONS = ("sse4.2", "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "neon", "sve", "sve2")
# Optional packages: the module, the package, the extra, and what it is for.
EXTRAS = (
    ("sklearn.datasets", "scikit-learn", "demo", "the digits"),
    ("matplotlib", "matplotlib", "report", "figures"),
    ("jinja2", "Jinja", "report", "reports"),
    ("PIL.Image", "Pillow", "images", "pictures"),
    ("cupy", "CuPy", "cuda13", "GPUs"),
    ("mpi4py.MPI", "mpi4py", "mpi", "several ranks"),
    ("distributed", "Dask", "dask", "studies on a cluster"),
    ("onnx", "onnx", "onnx", "incnet export"),
    ("onnxruntime", "onnxruntime", "onnx", "incnet export --check"),
    ("tensorboard.compat.proto.event_pb2", "TensorBoard", "tensorboard", "--tensorboard"),
)


def versions() -> Iterator[Finding]:
    """Yield what is installed."""
    for name, value in environment().items():
        if name not in ("machine", "processor"):
            yield Finding(name, value)


def processor(device: str) -> Iterator[Finding]:
    """Yield what computes; ``device`` is the name of the backend."""
    from llvmlite import binding

    machine = environment()
    yield Finding("system", machine["machine"])
    yield Finding("processor", machine["processor"])
    has = binding.get_host_cpu_features()
    yield Finding("vector extensions", ", ".join(name for name in EXTENSIONS if has.get(name)) or "none")
    named = {name: os.environ[name] for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES") if name in os.environ}
    for name, value in named.items():
        yield Finding(name, value)
    yield Finding("threads", f"{threads_in_use()} in use, {available_threads()} available, {os.cpu_count()} cores")
    yield Finding("device", device if device != "cpu" else f"cpu; {backend.device_count()} GPUs that CuPy can use")


def caches() -> Iterator[Finding]:
    """Yield where compiled kernels and data sets are kept, and whether that can be written."""
    from incnet.kernels.cpu.cache import is_writable, numbas_own

    folder = next((folder for folder in numbas_own() if is_writable(folder)), None)
    if folder is None:
        remedy = "set NUMBA_CACHE_DIR to a folder of yours, or kernels are compiled anew in every process"
        yield Finding("compiled kernels", "no folder can be written", "wrong", remedy)
    else:
        yield Finding("compiled kernels", str(folder), "good")
    named = os.environ.get("INCNET_DATA")
    if named and not Path(named).exists():
        yield Finding("INCNET_DATA", f"{named}, which does not exist", "wrong", "name a folder that does, or unset it")
    else:
        yield Finding("INCNET_DATA", named or "not set")


def extras() -> Iterator[Finding]:
    """Yield the optional packages: there, missing, or broken, with the cause."""
    for module, package, extra, use in EXTRAS:
        try:
            importlib.import_module(module)
        except Exception as error:
            missing = f"not installed; for {use}: {install(extra)}"
            found = why_not(package, error, missing)
            if found == missing:
                yield Finding(package, missing, "missing")
            else:
                yield Finding(package, found, "wrong", f"install it anew, as incnet[{extra}] has it")
        else:
            yield Finding(package, f"there, for {use}", "good")
