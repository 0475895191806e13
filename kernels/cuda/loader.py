"""CUDA C sources, compiled on first use, and their kernels as Python functions."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import cupy as cp
import numpy as np

__all__ = ["FOLDER", "Kernel", "load", "parameters", "source"]

FOLDER = Path(__file__).parent

# What a kernel's parameter may be declared as, and the NumPy type of the same memory layout.
SCALARS = {
    "int": np.int32,
    "long long": np.int64,
    "unsigned long long": np.uint64,
    "float": np.float32,
    "double": np.float64,
}
POINTERS = SCALARS | {"unsigned char": np.uint8, "bool": np.bool_}
REALS = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}


class Kernel:
    """A ``__global__`` function, called as ``kernel(grid, block, *arguments)`` on the current stream.

    CuPy hands a Python float over as a C double and an int as a long, whatever the kernel declares. Here every scalar
    is converted to the declared type, and an array of another type than the declared one is an error.

    Raises
    ------
    TypeError
        The number of arguments or the type of an array is not the declared one.
    """

    def __init__(self, function: cp.RawKernel, name: str, declared: tuple[str, ...], real: str) -> None:
        self.function, self.name = function, name
        self._convert = [_converter(name, declaration, real) for declaration in declared]

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], *arguments) -> None:
        if len(arguments) != len(self._convert):
            raise TypeError(f"{self.name} takes {len(self._convert)} arguments, not {len(arguments)}")
        converted = tuple(convert(value) for convert, value in zip(self._convert, arguments, strict=True))
        self.function(grid, block, converted)


def _converter(name: str, declaration: str, real: str):
    """Return the function that makes a launch argument for a parameter declared so."""
    kind = declaration.replace("REAL", real)
    if kind.endswith("*"):
        dtype = np.dtype(POINTERS[kind[:-1]])

        def pointer(array):
            if array is not None and array.dtype != dtype:
                raise TypeError(f"{name}: an array of {array.dtype} for a parameter {declaration}, which takes {dtype}")
            return array

        return pointer
    # A structure is handed over by value, as an array of one element.
    return SCALARS.get(kind, lambda structure: structure)


@cache
def load(file: str, name: str, dtype: np.dtype | type = np.float32, **macros: int) -> Kernel:
    """Return kernel ``name`` of ``file``, compiled for REAL = ``dtype`` and the given macros."""
    real = REALS[np.dtype(dtype)]
    return Kernel(_module(file, real, tuple(macros.items())).get_function(name), name, parameters(file, name), real)


@cache
def _module(file: str, real: str, macros: tuple[tuple[str, int], ...]) -> cp.RawModule:
    options = ("-std=c++17", f"-DREAL={real}", *(f"-D{key}={value}" for key, value in macros))
    return cp.RawModule(code=source(file), options=options)


@cache
def source(file: str) -> str:
    """Text of a source file with its own headers in place of their ``#include`` lines.

    CuPy files compiled kernels under a hash of this text: a header that it read by itself could change unnoticed.
    """
    included: set[str] = set()

    def expand(name: str) -> str:
        if name in included:
            return ""
        included.add(name)
        text = (FOLDER / name).read_text(encoding="utf-8").replace("#pragma once\n", "")
        return re.sub(r'^#include "([^"]+)"$', lambda match: expand(match[1]), text, flags=re.MULTILINE)

    return expand(file)


@cache
def parameters(file: str, name: str) -> tuple[str, ...]:
    """Types of a kernel's parameters as declared, without const and __restrict__: ``("REAL*", "int", ...)``."""
    text = re.sub(r"//.*", "", source(file))
    match = re.search(rf'extern "C" __global__ void (?:__launch_bounds__\([\w, ]+\)\s*)?{name}\(([^)]*)\)', text)
    if match is None:
        raise LookupError(f"{file} has no kernel {name}")
    return tuple(_type(declaration) for declaration in match[1].split(","))


def _type(declaration: str) -> str:
    """``"const float *__restrict__ x"`` to ``"float*"``."""
    words = re.sub(r"\b(const|__restrict__)\b", " ", declaration).replace("*", " * ").split()
    return " ".join(words[:-1]).replace(" *", "*")
