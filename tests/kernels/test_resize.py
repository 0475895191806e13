"""Images of another size: by hand, and against PyTorch."""

import importlib

import numpy as np
import pytest

BACKENDS = ["reference", "cpu"]


def kernel(backend):
    return importlib.import_module(f"incnet.kernels.{backend}.resize").resize_bilinear


@pytest.mark.parametrize("backend", BACKENDS)
class TestEachBackend:
    def test_twice_as_wide(self, backend):
        row = np.array([0, 4, 8], np.float32).reshape(1, 1, 3, 1)
        assert kernel(backend)(row, (1, 6)).ravel().tolist() == [0, 1, 3, 5, 7, 8]

    def test_twice_as_high_and_wide(self, backend):
        image = np.array([[0, 4], [8, 20]], np.float32).reshape(1, 2, 2, 1)
        expected = [[0, 1, 3, 4], [2, 3.5, 6.5, 8], [6, 8.5, 13.5, 16], [8, 11, 17, 20]]
        assert kernel(backend)(image, (4, 4))[0, :, :, 0].tolist() == expected

    def test_the_same_size_is_the_same_image(self, backend, rng):
        x = rng.standard_normal((2, 5, 4, 3), np.float32)
        np.testing.assert_array_equal(kernel(backend)(x, (5, 4)), x)

    def test_writes_where_it_is_told(self, backend, rng):
        x = rng.standard_normal((2, 4, 4, 3), np.float32)
        expected = kernel(backend)(x, (8, 6))
        for out in (np.full((2, 8, 6, 3), np.nan, np.float32), np.full((2, 8, 6, 6), np.nan, np.float32)[..., ::2]):
            assert kernel(backend)(x, (8, 6), out=out) is out
            np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("size", [(224, 224), (64, 48), (32, 32), (33, 45)])
def test_as_pytorch_does_it(size, rng):
    torch = pytest.importorskip("torch")
    x = rng.standard_normal((3, 32, 32, 3), np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(x).permute(0, 3, 1, 2), size=size, mode="bilinear", align_corners=False, antialias=False
    )
    found = kernel("reference")(x, size)
    np.testing.assert_allclose(found, expected.permute(0, 2, 3, 1).numpy(), rtol=1e-4, atol=2e-5)


def area(backend):
    return importlib.import_module(f"incnet.kernels.{backend}.resize").resize_area


@pytest.mark.parametrize("backend", BACKENDS)
class TestAreasOnEachBackend:
    def test_four_pixels_become_one(self, backend):
        image = np.array([[0, 4, 1, 1], [8, 20, 1, 1]], np.float32).reshape(1, 2, 4, 1)
        assert area(backend)(image, (1, 2)).ravel().tolist() == [8, 1]

    def test_edges_that_cut_pixels(self, backend):
        row = np.array([3, 6, 9], np.float32).reshape(1, 1, 3, 1)
        np.testing.assert_allclose(area(backend)(row, (1, 2)).ravel(), [4, 8], rtol=1e-6)

    @pytest.mark.parametrize("size", [(16, 16), (24, 24), (7, 31), (1, 1)])
    def test_as_every_pixel_cut_into_squares(self, backend, size, rng):
        """Enlarged by a factor without interpolation, every edge lies between two pixels."""
        x = rng.standard_normal((2, 32, 32, 3), np.float32)
        squares = x.astype(np.float64).repeat(size[0], axis=1).repeat(size[1], axis=2)
        expected = squares.reshape(2, size[0], 32, size[1], 32, 3).mean((2, 4))
        np.testing.assert_allclose(area(backend)(x, size), expected, rtol=1e-5, atol=1e-6)

    def test_the_same_size_is_the_same_image(self, backend, rng):
        x = rng.standard_normal((2, 5, 4, 3), np.float32)
        np.testing.assert_array_equal(area(backend)(x, (5, 4)), x)

    def test_writes_where_it_is_told(self, backend, rng):
        x = rng.standard_normal((2, 8, 6, 3), np.float32)
        expected = area(backend)(x, (4, 4))
        for out in (np.full((2, 4, 4, 3), np.nan, np.float32), np.full((2, 4, 4, 6), np.nan, np.float32)[..., ::2]):
            assert area(backend)(x, (4, 4), out=out) is out
            np.testing.assert_array_equal(out, expected)
