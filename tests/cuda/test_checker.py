"""The checker itself: seeded faults of each kind are caught, in real kernels with one line changed."""

import numpy as np
import pytest

from .emulator import LaunchError, Module

SCHEDULES = (0, 1, 2, 3)


def run_stats(module, schedule):
    """Column sums of a (40, 8) matrix in two parts."""
    rng = np.random.default_rng(0)
    x, partial = rng.standard_normal((40, 8)).astype(np.float32), np.empty((2, 8), np.float32)
    module.launch("column_sums", (1, 2), (8, 32), (x, partial, np.int64(40), np.int32(8)), schedule=schedule)
    np.testing.assert_allclose(partial.sum(axis=0), x.sum(axis=0), rtol=1e-5)


def pointers(count, *arrays):
    """A structure of pointers, null but for the first ones."""
    values = [array.ctypes.data for array in arrays]
    return np.array([(*values, *[0] * (count - len(values)))], [(f"field{i}", np.uintp) for i in range(count)])


def run_convolution(module, schedule):
    rng = np.random.default_rng(0)
    x, weight = (rng.standard_normal(shape).astype(np.float32) for shape in ((1, 6, 6, 8), (3, 3, 8, 16)))
    y = np.empty((1, 6, 6, 16), np.float32)
    partial = np.empty((1, 3, 16), np.float32)
    sources = [pointers(5, array) for array in (x, weight)]
    from incnet.kernels.cuda.product import FORWARD, Geometry

    geometry = Geometry(1, 6, 6, 8, 6, 6, 16, 3, 3, 1, 1).structure(FORWARD)
    arguments = (*sources, None, pointers(6), y, partial, geometry, np.int32(72))
    module.launch("implicit_gemm", (1, 1, 1), (64,), arguments, schedule=schedule, pointees=(x, weight))


def run_loss(module, schedule):
    logits, dlogits, totals = np.ones((3, 40), np.float32), np.empty((3, 40), np.float32), np.empty(2)
    arguments = (logits, np.zeros(3, np.int64), dlogits, totals, np.int32(3), np.int32(40))
    module.launch("softmax_cross_entropy", (1,), (64,), arguments, schedule=schedule)


TILE = (
    *("REAL=float", "PASS=0", "BM=64", "BN=16", "BK=16", "TM=4", "TN=4", "VEC_LEFT=4", "VEC_RIGHT=4", "VEC_OUT=4"),
    *("LEFT_READS=0", "RIGHT_READS=0", "EPILOGUE=2"),
)
RUNS = {
    "reduce.cu": (run_stats, ("REAL=float", "VEC=1")),
    "implicit_gemm.cu": (run_convolution, TILE),
    "loss.cu": (run_loss, ("REAL=float",)),
}
# What goes wrong: the file, a text in it, what replaces the text, and what the checker says.
FAULTS = {
    "no barrier after writing shared memory": (
        "reduce.cu",
        "shared[k][thread] = sums[k];\n    __syncthreads();",
        "shared[k][thread] = sums[k];",
        "race",
    ),
    "no barrier between the steps of a tree": (
        "reduce.cu",
        "half * blockDim.x];\n        __syncthreads();\n    }\n#pragma",
        "half * blockDim.x];\n    }\n#pragma",
        "race",
    ),
    "a barrier that some threads skip": (
        "reduce.cu",
        "        if (threadIdx.y < half)\n",
        "        if (threadIdx.y >= half) continue;\n",
        "barrier",
    ),
    "one row too many": ("reduce.cu", "row < rows;", "row <= rows;", "read out of bounds"),
    "two threads for one result": (
        "reduce.cu",
        "sum_over_rows(sums, VEC);\n    if (threadIdx.y == 0",
        "sum_over_rows(sums, VEC);\n    if (threadIdx.y <= 1",
        "race write/write",
    ),
    "one buffer instead of two": (
        "implicit_gemm.cu",
        "left.put(left_tile[1 - buffer])",
        "left.put(left_tile[buffer])",
        "race",
    ),
    "no barrier between buffers": (
        "implicit_gemm.cu",
        "            __syncthreads();\n            buffer",
        "            buffer",
        "race",
    ),
    "a border that is not checked": (
        "implicit_gemm.cu",
        "0 <= h && h < rows && 0 <= w && w < cols",
        "true",
        "read out of bounds",
    ),
    "results beyond the last row": (
        "implicit_gemm.cu",
        "m < g.images * g.rows * g.cols ? m : -1",
        "m",
        "write out of bounds",
    ),
    "tiles that are still read": (
        "implicit_gemm.cu",
        "    REAL totals[2][TN] = {};\n    __syncthreads();",
        "    REAL totals[2][TN] = {};",
        "race",
    ),
    "no barrier before the sums of columns": (
        "implicit_gemm.cu",
        "sums[k][j];\n    __syncthreads();",
        "sums[k][j];",
        "race",
    ),
    "no barrier before the last sum": ("loss.cu", "    }\n    __syncthreads();", "    }", "race read/write"),
    "shared memory too small": ("loss.cu", "losses[WARPS], hits[WARPS]", "losses[1], hits[1]", "race|out of bounds"),
}


def run_all(run, module):
    for schedule in SCHEDULES:
        run(module, schedule)


@pytest.fixture
def source(device):
    from incnet.kernels.cuda.loader import source

    return source


@pytest.mark.parametrize("file", RUNS)
def test_the_kernels_pass(source, file):
    run, options = RUNS[file]
    module = Module(source(file), tuple(f"-D{option}" for option in options), checked=True)
    run_all(run, module)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_seeded_fault_is_caught(source, fault):
    file, text, replacement, message = FAULTS[fault]
    run, options = RUNS[file]
    code = source(file)
    assert code.count(text) >= 1, "the fault no longer fits the kernel"
    module = Module(code.replace(text, replacement, 1), tuple(f"-D{option}" for option in options), checked=True)
    with pytest.raises(LaunchError, match=message):
        run_all(run, module)
