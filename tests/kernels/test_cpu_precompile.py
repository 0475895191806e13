"""Kernels are compiled before they are called, by several processes; if these come to nothing, by this one."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from incnet.kernels import cpu
from incnet.kernels.cpu import coefficients, optimise, pool, precompile, record

PROGRAM = textwrap.dedent("""
    import sys
    from incnet.kernels.cpu import precompile, coefficients, loss, pointwise, pool

    if "lost" in sys.argv:
        precompile.__name__ = precompile.compile_kernels.__globals__["__name__"] = "incnet.no_such_module"
    kernels = [pool.average_pixels, pointwise.add_floats, loss.cross_entropy, coefficients.add_up]
    seen = []
    count = precompile.compile_kernels(kernels, lambda done, total: seen.append((done, total)), 2)
    assert all(kernel.compiled is not None for kernel in kernels)
    assert seen == sorted(seen) and {total for _, total in seen} <= {count}
    assert not count or (seen[0], seen[-1]) == ((0, 4), (4, 4))
    print(count, sum(kernel.compiled.from_disk for kernel in kernels))
""")


def run(folder, *arguments):
    """Run the program with a cache of its own; returns how many kernels were missing, and how many came from disk."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=os.environ | {"NUMBA_CACHE_DIR": str(folder)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return tuple(map(int, done.stdout.split()))


@pytest.mark.slow
def test_several_processes_compile(tmp_path):
    missing, _ = run(tmp_path)
    assert missing == 4
    assert run(tmp_path) == (0, 4)


@pytest.mark.slow
def test_a_process_that_cannot_help(tmp_path):
    missing, from_disk = run(tmp_path, "lost")
    assert (missing, from_disk) == (4, 0)


def test_what_is_needed_is_not_computed():
    """Kernels are collected in place of being called, and nothing changes."""
    data, square, velocity = np.ones((3, 4, 16), np.float32)
    x = np.ones((2, 4, 4, 16), np.float32)

    def work():
        cpu.global_avg_pool(x)
        cpu.rmsprop_step_all([(data, data, square, velocity, 0.0)], 0.1, 0.9, 0.9, 1e-7)
        cpu.move_statistics(data[0], square[0], velocity[0], velocity[0], 0.5, 1.0)

    assert precompile.needed([work]) == [pool.average_pixels, optimise.rmsprop_stored, coefficients.mix_statistics]
    assert (data == 1).all()
    assert (square == 1).all()
    work()
    assert (data < 1).any()


def test_each_kernel_is_needed_once():
    recorder = record.Recorder()
    target = recorder.empty((64,), np.dtype(np.float32))
    work = [lambda: recorder.fill(target, np.zeros(64, np.float32))] * 3
    assert precompile.needed(work) == [record.copy_floats]


def test_a_watcher_ends_the_compilation(monkeypatch):
    """What it raises comes out, and no process is left."""

    def stop(done, total):
        raise KeyboardInterrupt

    monkeypatch.setattr(pool.average_pixels, "load", lambda: False)
    with pytest.raises(KeyboardInterrupt):
        precompile.compile_kernels([pool.average_pixels], stop, 2)
