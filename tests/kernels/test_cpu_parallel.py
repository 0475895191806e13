"""How threads wait does not depend on what was imported before."""

import os
import re
import subprocess
import sys
import textwrap

import pytest

PROGRAM = textwrap.dedent("""
    import sys
    import {first}
    from incnet.kernels.cpu.memory import address, aligned_zeros
    from incnet.kernels.cpu.record import copy_floats

    a, b = aligned_zeros(64), aligned_zeros(64)
    copy_floats(address(a), address(b), a.size, threads=2)
""")


@pytest.mark.skipif(not hasattr(os, "RTLD_DEEPBIND"), reason="needs the GNU C library")
@pytest.mark.parametrize("first", ["numpy", "torch"])
def test_numba_has_an_openmp_library_of_its_own(first):
    """The one that reads the environment as it was set for it: PyTorch has brought another one, and has started it."""
    pytest.importorskip(first)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(first=first)],
        env=os.environ | {"LD_DEBUG": "bindings", "NUMBA_THREADING_LAYER": "omp", "NUMBA_NUM_THREADS": "2"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (library,) = re.findall(r"omppool\S* \S+ to (\S+) .*`GOMP_parallel'", done.stderr)
    assert "gomp" in library
    assert "torch" not in library
