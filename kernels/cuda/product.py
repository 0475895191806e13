"""The matrix product behind every convolution: what it reads, how it is launched, what becomes of its results."""

from __future__ import annotations

import math
from typing import NamedTuple

import cupy as cp
import numpy as np

from ..operands import BackwardEpilogue, Normalised, NormGradient
from .launch import contiguous, vector_width
from .loader import load
from .reduce import add_partial, sum_partial
from .tiles import BK, FILL, FILL_REDUCTION, plan

__all__ = [
    "BIAS",
    "BIAS_RELU",
    "FORWARD",
    "INPUT_GRAD",
    "MASK",
    "MOMENTS",
    "WEIGHT_GRAD",
    "Geometry",
    "Source",
    "product",
    "product_kernel",
    "use_tf32",
]

# As implicit_gemm.cu and its headers number them.
FORWARD, INPUT_GRAD, WEIGHT_GRAD = range(3)
ARRAY, NORMALISED, GRADIENT = range(3)
BIAS, BIAS_RELU, MOMENTS, MASK = range(4)
TERMS = {MOMENTS: 3, MASK: 2}  # rows of sums that a block writes

FIRST_WITH_TF32 = 80  # compute capability, times ten

SOURCE = np.dtype([(field, np.uintp) for field in ("values", "others", "scale", "slope", "shift")])
BELOW = np.dtype([(field, np.uintp) for field in BackwardEpilogue._fields])


SIZES = ("N", "H", "W", "C", "Ho", "Wo", "K", "Kh", "Kw", "stride", "padding", "rows", "cols", "channels")
DIVISORS = ("over_rows", "over_cols", "over_channels", "over_taps")
GEOMETRY = np.dtype([*((field, np.int32) for field in SIZES), *((field, np.uint32, 2) for field in DIVISORS)])


_tf32 = False


def use_tf32(on: bool) -> None:
    """Let tensor cores compute the float32 products of every later call, from factors rounded to TF32, or not.

    Raises
    ------
    ValueError
        The device has no such tensor cores.
    """
    global _tf32
    if on and int(capability := cp.cuda.Device().compute_capability) < FIRST_WITH_TF32:
        raise ValueError(f"TF32 needs compute capability 8.0, and this GPU has {capability[:-1]}.{capability[-1]}")
    _tf32 = on


class Geometry(NamedTuple):
    """Sizes of a convolution; symbols as in its definition."""

    N: int
    H: int
    W: int
    C: int
    Ho: int
    Wo: int
    K: int
    Kh: int
    Kw: int
    stride: int
    padding: int

    def structure(self, pass_: int) -> np.ndarray:
        """Launch argument."""
        rows, cols, channels = self.Ho, self.Wo, self.C
        if pass_ == INPUT_GRAD:
            rows, cols, channels = math.ceil(self.H / self.stride), math.ceil(self.W / self.stride), self.K
        divisors = (_divisor(size) for size in (rows, cols, channels, self.Kw))
        return np.array([(*self, rows, cols, channels, *divisors)], GEOMETRY)


class Source(NamedTuple):
    """What a kernel reads: an array, or the recipe for one; ``arrays`` are contiguous, in the order of ``SOURCE``."""

    reads: int
    arrays: tuple

    @classmethod
    def of(cls, operand) -> Source:
        """Source of an array (..., C), a ``NormGradient``, or a ``Normalised`` without residual."""
        match operand:
            case Normalised(y, scale, shift, None):
                return cls(NORMALISED, _checked(y, None, scale, None, shift))
            case NormGradient(dz, y, p, q, r):
                return cls(GRADIENT, _checked(dz, y, p, q, r))
        return cls(ARRAY, _checked(operand, None, None, None, None))

    @property
    def values(self) -> cp.ndarray:
        """The array that gives dtype and shape."""
        return self.arrays[0]

    @property
    def width(self) -> int:
        """How many neighbouring values can be read at once."""
        return vector_width(self.values.shape[-1], *self.arrays)

    def structure(self) -> np.ndarray:
        """Launch argument."""
        return _structure(SOURCE, self.arrays)


def product(pass_, left, right, out, geometry, *, bias=None, epilogue=BIAS, below=None):
    """Compute ``out``, a matrix (M, N) with N its last axis; split over the reduction where M and N are small.

    Returns
    -------
    cut : Plan
        How the work was cut; with several parts ``epilogue`` was left undone, but for the bias.
    partial : array (blocks, terms, N) or None
        The blocks' sums, where ``epilogue`` is one with sums and was done.

    Raises
    ------
    ValueError
        More than 2^14 pixels along a side or 2^31 values in an array: the kernels count in 16 and in 32 bits.
    TypeError
        The dtypes differ.
    """
    _same_dtype(left.values, right.values, out, *(below or ()))
    largest = max(left.values.size, right.values.size, out.size)
    if max(geometry.H, geometry.W, geometry.Ho, geometry.Wo) > 2**14 or largest >= 2**31:
        raise ValueError(f"too large for the convolution kernels: {geometry}")
    columns = out.shape[-1]
    rows, groups, reduction, threads = _sizes(pass_, geometry)
    # Single values, recipes and an input gradient's addresses take registers that the tallest tile of all has not left.
    wide = left.width > 1 and (columns > 16 or (left.reads == ARRAY and pass_ != INPUT_GRAD))
    cut = plan(rows, columns, reduction, out.dtype, groups=groups, wide=wide, threads=threads)
    split = cut.parts > 1
    if split:
        epilogue = BIAS
    below = () if below is None else contiguous(*below)
    kernel = product_kernel(
        pass_,
        cut.tile,
        (left.width, right.width, vector_width(columns, out, *below)),
        out.dtype,
        (left.reads, right.reads),
        epilogue,
        tf32=_tf32 and out.dtype == np.float32,
    )
    target = cp.empty((cut.parts, *out.shape), out.dtype) if split else out
    partial = cp.empty((cut.grid[0], TERMS[epilogue], columns), out.dtype) if epilogue in TERMS else None
    structures = left.structure(), right.structure(), None if split else bias, _structure(BELOW, below or (None,) * 6)
    kernel(cut.grid, (cut.tile.threads,), *structures, target, partial, geometry.structure(pass_), cut.steps)
    if split and pass_ == WEIGHT_GRAD and cut.parts > 8:
        sum_partial(target, out)
    elif split:
        add_partial(target, bias, out)
    return cut, partial


def _sizes(pass_, g):
    """Rows of the result in a group, groups, steps of the reduction, and threads that the launch should have."""
    if pass_ == FORWARD:
        return g.N * g.Ho * g.Wo, 1, g.Kh * g.Kw * g.C, FILL
    if pass_ == INPUT_GRAD:
        rows = g.N * math.ceil(g.H / g.stride) * math.ceil(g.W / g.stride)
        taps = math.ceil(g.Kh / g.stride) * math.ceil(g.Kw / g.stride)
        return rows, g.stride**2, taps * g.K, FILL
    return g.Kh * g.Kw * g.C, 1, g.N * g.Ho * g.Wo, FILL_REDUCTION


def product_kernel(pass_, tile, widths, dtype, reads=(ARRAY, ARRAY), epilogue=BIAS, *, tf32=False):
    """Kernel of a pass for a tile; ``widths`` are the values moved at once of the left, the right and the result."""
    return load(
        "implicit_gemm.cu", "implicit_gemm", dtype,
        PASS=pass_, BM=tile.bm, BN=tile.bn, BK=BK, TM=tile.tm, TN=tile.tn,
        VEC_LEFT=widths[0], VEC_RIGHT=widths[1], VEC_OUT=widths[2],
        LEFT_READS=reads[0], RIGHT_READS=reads[1], EPILOGUE=epilogue, TF32=int(tf32),
    )  # fmt: skip


def _checked(*arrays):
    """The arrays, contiguous and of one dtype."""
    _same_dtype(*arrays)
    return tuple(contiguous(*arrays))


def _same_dtype(*arrays):
    """Raise `TypeError` if dtypes differ, None aside: in structures the kernel's loader does not see them."""
    found = {str(array.dtype) for array in arrays if array is not None}
    if len(found) > 1:
        raise TypeError(f"a kernel reads arrays of one dtype, not of {' and '.join(sorted(found))}")


def _divisor(size):
    """Multiplier and shift that divide by ``size``; see geometry.cuh."""
    shift = 31 + (size - 1).bit_length()
    return (1 << shift) // size + 1, shift


def _structure(layout, arrays):
    """Pointers to arrays (None is null) as a C structure."""
    return np.array([tuple(0 if array is None else array.data.ptr for array in arrays)], layout)
