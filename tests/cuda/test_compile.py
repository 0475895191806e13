"""Every CUDA source compiles with NVRTC, as CuPy would have it compiled, for each architecture; no register spills."""

import io
import itertools
import re
from functools import cache

import numpy as np
import pytest

from incnet import backend
from incnet.backend import asarray, asnumpy, ops
from incnet.doctor.cases import cases, results

from . import strict_cupy

core = pytest.importorskip("cuda.core", reason="cubins need cuda-core and nvidia-cuda-nvrtc")

ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
NO_SPILLS = ("sm_80", "sm_90")
# What training uses: pass, what the left and the right matrix are read as, and epilogue, numbered as in product.py.
FORMS = (
    (0, (0, 0), 0),
    (0, (0, 0), 1),
    (0, (0, 0), 2),
    (0, (1, 0), 2),
    (1, (0, 0), 0),
    (1, (0, 0), 3),
    (1, (2, 0), 3),
    (2, (0, 0), 0),
    (2, (0, 2), 0),
    (2, (1, 2), 0),
)


PARTS = 8  # tests that share the modules, so that several processes can


@cache
def modules():
    """Source and options of all modules that the cases load, and of the convolution for every tile of training."""
    with strict_cupy.installed(run=False) as device:
        backend.use("cuda")
        from incnet.kernels.cuda import product, tiles

        for case in cases(np.float32, np.random.default_rng(0)):
            results(case, ops, asarray, asnumpy)
        for case in cases(np.float64, np.random.default_rng(0)):
            if "conv2d" not in case.kernel and "grad" not in case.kernel:
                results(case, ops, asarray, asnumpy)
        every = {tile for candidates in tiles.TILES.values() for tile in candidates}
        for (pass_, reads, epilogue), tile, tf32 in itertools.product(FORMS, sorted(every), (False, True)):
            if tile.bm == 256 and (reads[0] or pass_ == product.INPUT_GRAD):  # never chosen
                continue
            product.product_kernel(pass_, tile, (4, 4, 4), np.float32, reads, epilogue, tf32=tf32)
        backend.use("cpu")
        return sorted(device.sources)


def architectures(index: int, options: tuple[str, ...]) -> tuple[str, ...]:
    """The two most common ones, and one of the others in turn; TF32, which comes with sm_80, in turn altogether."""
    if "-DTF32=1" in options:
        return (ARCHITECTURES[1:][index % (len(ARCHITECTURES) - 1)],)
    others = [name for name in ARCHITECTURES if name not in NO_SPILLS]
    return (*NO_SPILLS, others[index % len(others)])


def compiled(code: str, options: tuple[str, ...], architecture: str) -> str:
    """Compile a module to a cubin; return the assembler's report."""
    macros = [tuple(option[2:].split("=")) for option in options if option.startswith("-D")]
    settings = core.ProgramOptions(arch=architecture, std="c++17", ftz=True, define_macro=macros, ptxas_options="-v")
    report = io.StringIO()
    core.Program(code, "c++", settings).compile("cubin", logs=report)
    return report.getvalue()


@pytest.mark.parametrize("part", range(PARTS))
def test_cubins(record_property, subtests, part):
    count = 0
    for i, (code, options) in list(enumerate(modules()))[part::PARTS]:
        for architecture in architectures(i, options):
            with subtests.test(architecture=architecture, options=options):
                report = compiled(code, options, architecture)
                spills = re.findall(r"(\d+) bytes spill stores", report)
                assert spills
                # Double precision and odd numbers of channels, read value by value, are for checks and not tuned.
                tuned = "-DREAL=float" in options and "-DVEC_LEFT=1" not in options
                if architecture in NO_SPILLS and tuned:
                    assert not any(map(int, spills)), report
                count += 1
    record_property("cubins", count)
