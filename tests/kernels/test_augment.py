"""The fast augmentation equals its definition, and the definition does what its docstring says."""

import importlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from incnet.kernels.shapes import checked

BACKENDS = ["reference", "cpu"]


def kernel(backend):
    return importlib.import_module(f"incnet.kernels.{backend}.augment").augment


def plain(n, channels):
    """No shift, no flip, no normalisation."""
    return np.zeros((n, 2), np.int64), np.zeros(n, np.bool_), np.zeros(channels, "f4"), np.ones(channels, "f4")


@st.composite
def cases(draw):
    n, height, width, channels, batch = (draw(st.integers(1, 6)) for _ in range(5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    reach = draw(st.integers(0, 8))  # at times beyond the image
    return (
        rng.integers(0, 256, (n, height, width, channels), np.uint8),
        rng.integers(0, n, batch),
        rng.integers(-reach, reach, (batch, 2), endpoint=True).astype(draw(st.sampled_from([np.int32, np.int64]))),
        rng.random(batch) < 0.5,
        rng.uniform(0, 255, channels).astype(np.float32),
        rng.uniform(1e-3, 100, channels).astype(np.float32),
    )


@given(cases())
@settings(max_examples=150, deadline=None)
def test_cpu_equals_reference_bit_for_bit(case):
    expected = kernel("reference")(*case)
    np.testing.assert_array_equal(kernel("cpu")(*case), expected)
    out = np.full(expected.shape, np.nan, np.float32)
    assert kernel("cpu")(*case, out=out) is out
    np.testing.assert_array_equal(out, expected)


@given(cases())
@settings(max_examples=30, deadline=None)
def test_non_contiguous_arguments(case):
    images, rows, shifts, flips, mean, std = case
    expected = kernel("reference")(*case)
    strided = [np.repeat(a, 2, axis=0)[::2] for a in (rows, shifts, flips, mean, std)]
    out = np.full((*expected.shape[:3], 2 * expected.shape[3]), np.nan, np.float32)[..., ::2]
    assert kernel("cpu")(np.asfortranarray(images), *strided, out=out) is out
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("backend", BACKENDS)
class TestEachBackend:
    image = np.arange(9, dtype=np.uint8).reshape(1, 3, 3, 1)

    def augment(self, backend, down=0, right=0, flip=False, mean=0.0, std=1.0):
        result = kernel(backend)(
            self.image,
            np.array([0]),
            np.array([[down, right]]),
            np.array([flip]),
            np.array([mean], np.float32),
            np.array([std], np.float32),
        )
        assert result.dtype == np.float32
        return result[0, :, :, 0].tolist()

    def test_identity(self, backend):
        assert self.augment(backend) == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]

    def test_down_and_left(self, backend):
        assert self.augment(backend, down=1, right=-1) == [[0, 0, 0], [1, 2, 0], [4, 5, 0]]

    def test_up_and_right(self, backend):
        assert self.augment(backend, down=-1, right=2) == [[0, 0, 3], [0, 0, 6], [0, 0, 0]]

    def test_flip_comes_before_the_shift(self, backend):
        assert self.augment(backend, right=1, flip=True) == [[0, 2, 1], [0, 5, 4], [0, 8, 7]]

    @pytest.mark.parametrize("shift", [(3, 0), (0, 3), (-3, 0), (0, -3), (9, -9)])
    def test_shift_out_of_sight(self, backend, shift):
        assert self.augment(backend, *shift) == [[0.0] * 3] * 3

    def test_uncovered_pixels_have_the_mean_colour(self, backend):
        assert self.augment(backend, down=2, mean=4.0, std=2.0) == [[0] * 3, [0] * 3, [-2, -1.5, -1]]

    def test_no_rows(self, backend):
        rows = np.array([], np.int64)
        assert kernel(backend)(self.image, rows, *plain(0, 1)).shape == (0, 3, 3, 1)

    @pytest.mark.parametrize("row", [-1, 1])
    def test_row_outside_the_data_set(self, backend, row):
        with pytest.raises(IndexError, match="data set of 1 images"):
            kernel(backend)(self.image, np.array([row]), *plain(1, 1))

    @pytest.mark.parametrize("name", ["shifts", "flips", "mean", "std", "out"])
    def test_shapes_that_do_not_fit(self, backend, name):
        arguments = dict(zip(["shifts", "flips", "mean", "std"], plain(1, 1), strict=True))
        arguments["out"] = np.empty((1, 3, 3, 1), np.float32)
        arguments[name] = np.repeat(arguments[name], 2, axis=0)
        with pytest.raises(ValueError, match="do not fit together"):
            checked("augment", kernel(backend))(self.image, np.array([0]), **arguments)

    def test_inputs_are_left_alone(self, backend):
        arguments = [self.image.copy(), np.array([0]), np.array([[1, 1]]), np.array([True]), *plain(1, 1)[2:]]
        before = [a.copy() for a in arguments]
        kernel(backend)(*arguments)
        for argument, copy in zip(arguments, before, strict=True):
            np.testing.assert_array_equal(argument, copy)
