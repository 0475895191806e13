"""The CPU's convolutions, in every algorithm, against the definition in float64."""

import itertools

import numpy as np
import pytest

from incnet.kernels import cpu, reference
from incnet.kernels.cpu import blocks, convolution, fused, memory, winograd
from incnet.kernels.operands import BackwardEpilogue, Normalised, NormGradient
from incnet.kernels.reference import fused as definition
from incnet.kernels.shapes import output_size

TOLERANCE = {np.float32: 1e-5, np.float64: 1e-13}

# N, H, W, C, K, kernel size, stride, padding
WINOGRAD = [
    (1, 4, 4, 16, 16, (3, 3), 1, 1),
    (3, 7, 9, 16, 32, (3, 3), 1, 1),
    (1, 5, 2, 32, 16, (3, 3), 1, 1),
    (7, 8, 8, 64, 64, (3, 3), 1, 1),
    (2, 12, 13, 48, 48, (3, 3), 1, 1),
    (1, 1, 1, 16, 16, (3, 3), 1, 1),
    (2, 32, 32, 16, 16, (3, 3), 1, 1),
    (66, 3, 4, 128, 96, (3, 3), 1, 1),
]
DIRECT = [
    (3, 8, 8, 3, 16, (3, 3), 1, 1),
    (5, 9, 7, 10, 32, (3, 2), 2, 1),
    (4, 32, 32, 16, 32, (3, 3), 2, 1),
    (7, 8, 8, 64, 64, (1, 1), 2, 0),
    (2, 12, 13, 48, 48, (5, 5), 3, 2),
    (3, 9, 9, 16, 32, (1, 1), 3, 2),
    (5, 9, 9, 16, 32, (1, 1), 1, 0),
    (1, 1, 1, 16, 16, (1, 1), 1, 0),
    (7, 4, 4, 128, 512, (3, 3), 1, 1),
    (1, 6, 6, 16, 64, (2, 2), 2, 0),
    (2, 5, 5, 32, 16, (3, 3), 1, 0),
    (1, 1, 1, 16, 16, (1, 1), 2, 0),
    (1, 1, 4, 16, 16, (1, 1), 2, 1),
    (2, 1, 1, 16, 16, (1, 1), 2, 1),
]
PANELS = [
    (33, 4, 4, 128, 512, (3, 3), 1, 1),
    (9, 7, 5, 80, 96, (3, 3), 1, 1),
    (11, 2, 2, 96, 80, (3, 3), 1, 1),
    (70, 2, 2, 64, 128, (3, 3), 1, 1),
    (11, 1, 1, 96, 80, (3, 3), 1, 1),
    (70, 1, 1, 64, 128, (3, 3), 1, 1),
    (40, 1, 3, 64, 80, (3, 3), 1, 1),
    (31, 8, 8, 272, 496, (3, 3), 1, 1),
]
GENERAL = [
    (3, 7, 9, 3, 10, (3, 3), 1, 1),
    (1, 8, 8, 16, 20, (3, 3), 2, 1),
    (7, 5, 6, 1, 3, (1, 1), 2, 0),
    (2, 9, 7, 5, 4, (5, 2), 3, 2),
    (1, 64, 64, 64, 3, (3, 3), 1, 1),
    (3, 4, 4, 3, 8, (2, 2), 1, 2),
]


def normal(rng, dtype, *shape):
    return rng.standard_normal(shape).astype(dtype)


def operands(rng, case, dtype):
    N, H, W, C, K, size, stride, padding = case
    x, weight, bias = normal(rng, dtype, N, H, W, C), normal(rng, dtype, *size, C, K), normal(rng, dtype, K)
    shape = [output_size(s, k, stride, padding) for s, k in zip((H, W), size, strict=True)]
    return x, weight, bias, normal(rng, dtype, N, *shape, K)


def assert_close(actual, expected, tolerance):
    assert actual.shape == expected.shape
    error = np.linalg.norm(actual - expected)
    assert error <= tolerance * max(np.linalg.norm(expected), 1e-30)


def check_all(rng, case, dtype):
    """All three passes, their dtype, and that they leave their inputs alone."""
    *_, size, stride, padding = case
    x, weight, bias, dy = inputs = operands(rng, case, dtype)
    before = [array.copy() for array in inputs]
    results = (
        convolution.conv2d(x, weight, bias, stride, padding),
        convolution.conv2d_input_grad(dy, weight, x.shape, stride, padding),
        convolution.conv2d_weight_grad(x, dy, size, stride, padding),
    )
    x, weight, bias, dy = (array.astype(np.float64) for array in inputs)
    expected = (
        reference.conv2d(x, weight, bias, stride, padding),
        reference.conv2d_input_grad(dy, weight, x.shape, stride, padding),
        reference.conv2d_weight_grad(x, dy, size, stride, padding),
    )
    for actual, exact in zip(results, expected, strict=True):
        assert actual.dtype == dtype
        assert actual.flags.c_contiguous
        assert_close(actual, exact, TOLERANCE[dtype])
    for array, copy in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(array, copy)


def chosen(case, dtype=np.float32):
    N, H, W, C, K, size, stride, padding = case
    return convolution.algorithm((N, H, W, C), (*size, C, K), stride, padding, dtype)


@pytest.mark.parametrize("case", WINOGRAD)
def test_winograd(case, rng, threads):
    assert chosen(case) == "winograd"
    check_all(rng, case, np.float32)


@pytest.mark.parametrize("case", PANELS)
def test_panels(case, rng, threads):
    assert chosen(case) == "panels"
    check_all(rng, case, np.float32)


@pytest.mark.parametrize("case", [*WINOGRAD, *PANELS[:7]])
def test_winograd_off(case, rng, monkeypatch):
    monkeypatch.setattr(convolution, "USE_WINOGRAD", False)
    assert chosen(case) == "direct"
    check_all(rng, case, np.float32)


@pytest.mark.parametrize("case", DIRECT)
def test_direct(case, rng, threads):
    assert chosen(case) == "direct"
    check_all(rng, case, np.float32)


@pytest.mark.parametrize("case", GENERAL)
def test_general(case, rng):
    assert chosen(case) == "general"
    check_all(rng, case, np.float32)


@pytest.mark.parametrize("case", [*WINOGRAD[:3], *DIRECT[:5], *GENERAL])
def test_float64(case, rng):
    assert chosen(case, np.float64) == "general"
    check_all(rng, case, np.float64)


@pytest.mark.parametrize(
    ("size", "stride", "padding", "C", "K"),
    [(k, s, p, C, K) for k, s, p, (C, K) in itertools.product((1, 2, 3, 5), (1, 2, 3), (0, 1, 2), [(1, 16), (32, 48)])],
)
def test_every_geometry(size, stride, padding, C, K, rng):
    check_all(rng, (2, 9, 7, C, K, (size, size), stride, padding), np.float32)


@pytest.mark.parametrize("case", [WINOGRAD[1], PANELS[1], DIRECT[2], GENERAL[0]])
def test_inputs_of_any_layout(case, rng):
    *_, size, stride, padding = case
    x, weight, _, dy = operands(rng, case, np.float32)
    strange = [np.repeat(a, 2, axis=-1)[..., ::2] for a in (x, weight, dy)]
    strange[0].flags.writeable = False
    for ours, plain in (
        (convolution.conv2d(strange[0], strange[1], None, stride, padding),
         convolution.conv2d(x, weight, None, stride, padding)),
        (convolution.conv2d_input_grad(strange[2], strange[1], x.shape, stride, padding),
         convolution.conv2d_input_grad(dy, weight, x.shape, stride, padding)),
        (convolution.conv2d_weight_grad(strange[0], strange[2], size, stride, padding),
         convolution.conv2d_weight_grad(x, dy, size, stride, padding)),
    ):  # fmt: skip
        np.testing.assert_array_equal(ours, plain)


def test_same_bits_again(rng, threads):
    """A result depends on the number of threads at most."""
    for case in (WINOGRAD[4], PANELS[1], PANELS[2], DIRECT[2], DIRECT[8]):
        *_, size, stride, padding = case
        x, _, _, dy = operands(rng, case, np.float32)
        first = convolution.conv2d_weight_grad(x, dy, size, stride, padding)
        for _ in range(3):
            np.testing.assert_array_equal(convolution.conv2d_weight_grad(x, dy, size, stride, padding), first)


def test_scratch_memory_may_hold_anything(rng):
    """Buffers are recycled: what an earlier kernel left there, even NaN, must not show."""
    poison = [np.full_like(memory.aligned_empty(size), np.nan) for size in (1 << 12, 1 << 16, 1 << 20)]
    for size in (5_000, 20_000, 60_000, 200_000, 700_000):
        memory.aligned_empty(size)[...] = np.nan
    del poison
    for case in (WINOGRAD[1], WINOGRAD[2], PANELS[1], PANELS[2], DIRECT[0], DIRECT[1], DIRECT[4], DIRECT[5]):
        for workspace in (memory.WORKSPACE, winograd.SECOND_WORKSPACE):
            workspace.carve(1 << 20)
            workspace.array[...] = np.nan
        check_all(rng, case, np.float32)


def test_kernel_larger_than_the_image():
    x, weight = np.zeros((1, 2, 2, 3), np.float32), np.zeros((5, 5, 3, 4), np.float32)
    with pytest.raises(ValueError, match="a window of 5 pixels does not fit into 2"):
        convolution.conv2d(x, weight, None, 1, 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_im2col_and_col2im(dtype, rng):
    for size, stride, padding in itertools.product([(3, 2), (1, 1), (2, 5)], (1, 2, 3), (0, 1, 2)):
        x = normal(rng, dtype, 2, 7, 6, 3)
        patches = cpu.im2col(x, size, stride, padding)
        np.testing.assert_array_equal(patches, reference.im2col(x, size, stride, padding))
        back = cpu.col2im(patches, x.shape, size, stride, padding)
        np.testing.assert_allclose(back, reference.col2im(patches, x.shape, size, stride, padding), rtol=1e-6)


# x shape, K, stride: by winograd with whole tiles, with a part of one, by direct, by panels
FUSED = [((3, 8, 8, 16), 32, 1), ((2, 12, 5, 32), 16, 1), ((5, 8, 8, 64), 64, 1), ((2, 7, 7, 16), 16, 1),
         ((2, 8, 8, 16), 32, 2), ((2, 8, 8, 3), 16, 1), ((35, 4, 4, 80), 96, 1)]  # fmt: skip


def in_float64(operand):
    """Turn the arrays of an operand into float64."""
    if isinstance(operand, tuple):
        return type(operand)(*(None if a is None else a.astype(np.float64) for a in operand))
    return operand.astype(np.float64)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "K", "stride"), FUSED)
def test_fused(shape, K, stride, dtype, rng, threads):
    """Every fused kernel is the composition that defines it, whatever operands it takes."""
    C = shape[3]

    def draw(*shape):
        return normal(rng, dtype, *shape)

    def check(name, *arguments):
        actual = getattr(fused, name)(*arguments)
        wide = (np.ndarray, Normalised, NormGradient, BackwardEpilogue)
        exact = getattr(definition, name)(*(in_float64(a) if isinstance(a, wide) else a for a in arguments))
        both = (actual, exact) if isinstance(actual, tuple) else ((actual,), (exact,))
        for a, e in zip(*both, strict=True):
            assert_close(a, e, TOLERANCE[dtype])

    x, skip, weight = draw(*shape), draw(*shape), draw(3, 3, C, K)
    scale, shift, mean, bias = draw(C), draw(C), draw(C), draw(K)
    a = np.maximum(draw(*shape), 0)
    size = [output_size(s, 3, stride, 1) for s in shape[1:3]]
    dz, y = draw(shape[0], *size, K), draw(shape[0], *size, K)
    lazy, lazy_gradient = Normalised(x, scale, shift), NormGradient(dz, y, draw(K), draw(K), draw(K))

    for residual in (None, y):
        for factor in (None, draw(K)):
            check("conv2d_bias_relu", x, weight, bias, stride, 1, residual, factor)
    for operand in (x, lazy, lazy._replace(residual=skip)):
        check("conv2d_moments", operand, weight, stride, 1)
        for dy in (dz, lazy_gradient):
            check("fused_weight_grad", operand, dy, (3, 3), stride, 1)
    for operand in (lazy, lazy._replace(residual=skip)):
        check("norm_relu", operand)
        check("norm_conv2d_moments", operand, weight, stride, 1)
    check("norm_gradient", lazy_gradient)
    for below in (
        BackwardEpilogue(x, mean, scale, shift),
        BackwardEpilogue(x, mean, a=a),
        BackwardEpilogue(x, mean, a=a, skip=skip),
        BackwardEpilogue(a=a),
        BackwardEpilogue(x, mean, scale, shift, skip=skip),
        BackwardEpilogue(a=a, skip=skip),
    ):
        check("relu_mask", skip, below)
        check("relu_mask", np.broadcast_to(np.ascontiguousarray(skip[:, :1, :1]), shape), below)
        for dy in (dz, lazy_gradient):
            check("masked_input_grad", dy, weight, shape, stride, 1, below)
            for operand in (x, lazy):
                check("masked_grads", operand, dy, weight, stride, 1, below)
    for dy in (dz, lazy_gradient):
        check("fused_input_grad", dy, weight, shape, stride, 1)


@pytest.mark.parametrize(("N", "H", "W", "C", "K", "size", "stride", "padding"), DIRECT)
def test_direct_moments(N, H, W, C, K, size, stride, padding, rng, threads, monkeypatch):
    monkeypatch.setattr(fused, "LARGE", 0)
    x, weight = normal(rng, np.float32, N, H, W, C), normal(rng, np.float32, *size, C, K)
    assert convolution.algorithm(x.shape, weight.shape, stride, padding, x.dtype) == "direct"
    y, mean, var = fused.conv2d_moments(x, weight, stride, padding)
    np.testing.assert_array_equal(y, convolution.conv2d(x, weight, None, stride, padding))
    m = y.size // K
    tolerance = 1e-6 * np.square(y).max()  # not of the variance: a single pixel has none
    np.testing.assert_allclose(mean, y.reshape(m, K).mean(0, dtype=np.float64), atol=tolerance)
    np.testing.assert_allclose(var, y.reshape(m, K).var(0, dtype=np.float64), atol=tolerance)


@pytest.mark.parametrize("shape", [(9, 12, 12, 16), (5, 8, 8, 32), (1, 4, 4, 16)])
@pytest.mark.parametrize("piece", [1 << 17, 1 << 12, 1 << 9])
def test_gradients_in_turns_have_the_bits_of_each_alone(shape, piece, rng, threads, monkeypatch):
    """However many pieces the images are cut into, more than there are rows of tiles too."""
    monkeypatch.setattr(winograd, "PIECE", piece)
    C = shape[3]
    y, skip, dz, y_above, weight = (normal(rng, np.float32, *s) for s in (shape, shape, shape, shape, (3, 3, C, C)))
    scale, shift, mean, *coefficients = (normal(rng, np.float32, C) for _ in range(6))
    dy = NormGradient(dz, y_above, *coefficients)
    a = np.maximum(skip, 0)
    for x, below in (
        (Normalised(y, scale, shift), BackwardEpilogue(y, mean, scale, shift)),
        (a, BackwardEpilogue(y, mean, a=a, skip=skip)),
        (a, BackwardEpilogue(a=a)),
    ):
        assert fused.in_turns(x, weight.shape, 1, 1, below)
        dw, *rest = fused.masked_grads(x, dy, weight, 1, 1, below)
        np.testing.assert_array_equal(dw, fused.fused_weight_grad(x, dy, (3, 3), 1, 1))
        for actual, expected in zip(rest, fused.masked_input_grad(dy, weight, shape, 1, 1, below), strict=True):
            np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "K", "stride"), FUSED)
def test_the_result_may_take_the_residuals_memory(shape, K, stride, dtype, rng):
    x, weight, bias, scale = (normal(rng, dtype, *s) for s in (shape, (3, 3, shape[3], K), (K,), (K,)))
    size = [output_size(s, 3, stride, 1) for s in shape[1:3]]
    residual = normal(rng, dtype, shape[0], *size, K)
    expected = fused.conv2d_bias_relu(x, weight, bias, stride, 1, residual, scale)
    actual = fused.conv2d_bias_relu(x, weight, bias, stride, 1, residual, scale, overwrite=True)
    np.testing.assert_array_equal(actual, expected)
    assert actual is residual


def test_memory_is_recycled_only_when_the_last_view_is_gone():
    array = memory.aligned_empty((100, 1000))
    place, row = array.ctypes.data, array[3:].reshape(-1)[::2].view(np.int32)
    del array
    other = memory.aligned_empty((100, 1000))
    assert other.ctypes.data != place
    del row
    assert memory.aligned_empty((100, 1000)).ctypes.data == place


def test_memory_is_aligned_and_bounded():
    rng = np.random.default_rng(0)
    for size in rng.integers(0, 300_000, 300):
        for dtype in (np.float32, np.float64):
            array = memory.aligned_empty((int(size),), dtype)
            assert array.ctypes.data % blocks.ALIGNMENT == 0
            assert array.flags.c_contiguous
            assert array.flags.writeable
    pool = blocks.Pool()
    for size in range(100_000, 10_000_000, 100_000):
        pool.allocate(size)
    assert (
        pool.allocated + pool.waiting_bytes
        <= blocks.SLACK * pool.peak_allocated + blocks.size_class(size) + 2 * blocks.PAGE
    )
