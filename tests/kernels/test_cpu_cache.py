"""Kernels are compiled once for a machine: a second process finds them all on disk. And other CPUs get correct ones."""

import os
import subprocess
import sys
import textwrap

import pytest

PROGRAM = textwrap.dedent("""
    import gc
    import numpy as np
    from incnet.kernels import reference
    from incnet.kernels.cpu import convolution, emit, norm, optimise, parallel
    from incnet.kernels.cpu.linear import linear, linear_input_grad, linear_weight_grad
    from incnet.kernels.operands import OuterProduct
    parallel.SERIAL = 0  # the arrays are small

    rng = np.random.default_rng(0)
    def draw(*shape): return rng.standard_normal(shape).astype(np.float32)
    def check(a, b): assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b)

    layers = [((3, 8, 8, 16), 16, 1), ((2, 8, 8, 32), 32, 1), ((2, 9, 9, 16), 32, 2), ((2, 8, 8, 3), 16, 1)]
    for shape, K, stride in layers:
        x, w = draw(*shape), draw(3, 3, shape[3], K)
        y = convolution.conv2d(x, w, None, stride, 1)
        check(y, reference.conv2d(x, w, None, stride, 1))
        dy = draw(*y.shape)
        check(convolution.conv2d_input_grad(dy, w, x.shape, stride, 1),
              reference.conv2d_input_grad(dy, w, x.shape, stride, 1))
        check(convolution.conv2d_weight_grad(x, dy, (3, 3), stride, 1),
              reference.conv2d_weight_grad(x, dy, (3, 3), stride, 1))
        mean, var = norm.batch_norm_stats(y)
        for a, b in zip(norm.batch_norm_grad(dy, y, mean, var, var, 1e-5),
                        reference.batch_norm_grad(dy, y, mean, var, var, 1e-5)):
            check(a, b)
    x, w, b, dy = draw(41, 528), draw(528, 96), draw(96), draw(41, 96)
    check(linear(x, w, b), reference.linear(x, w, b))
    check(linear_input_grad(dy, w), reference.linear_input_grad(dy, w))
    check(linear_weight_grad(x, dy), reference.linear_weight_grad(x, dy))
    for module in (optimise, reference):
        state = w.copy(), OuterProduct(x, dy), w * w, w.copy()
        module.rmsprop_step_all([(*state, 0.1)], 0.1, 0.9, 0.9, 1e-7)
        if module is optimise: found = state
    check(found[0], state[0])
    kernels = [k for k in gc.get_objects() if isinstance(k, emit.Kernel) and k.compiled is not None]
    hits = sum(k.compiled.from_disk for k in kernels) + sum(emit.launch.stats.cache_hits.values())
    print(hits, len(kernels) + 1 - hits)
""")


def run(tmp_path, **environment):
    """Run the program with a cache of its own; returns how many kernels it found there, and how many it compiled."""
    variables = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_NUM_THREADS": "2", **environment}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return tuple(map(int, done.stdout.split()))


@pytest.mark.slow
def test_a_second_process_compiles_nothing(tmp_path):
    hits, compiled = run(tmp_path)
    assert hits == 0
    assert compiled > 5
    assert run(tmp_path) == (compiled, 0)


@pytest.mark.slow
def test_without_avx512(tmp_path):
    """Vectors of 16 lanes are split where registers are shorter."""
    _, compiled = run(tmp_path, NUMBA_CPU_NAME="haswell", NUMBA_CPU_FEATURES="+avx,+avx2,+fma,+sse4.2,+bmi,+bmi2")
    assert compiled > 5
