import gzip
import struct

import numpy as np
import pytest

from incnet.data.dataset import DataError
from incnet.data.fashion_mnist import FashionMnist

TINY = FashionMnist(train_images=12, test_images=10)
MNIST_LABELS = np.array([7, 2, 1, 0, 4, 1, 4, 9, 5, 9], np.uint8)


def write_idx(path, array):
    content = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write(folder, suffix="", test_labels=None):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    written = {}
    for stem, n in (("train", 12), ("t10k", 10)):
        images, labels = rng.integers(0, 256, (n, 28, 28), np.uint8), rng.integers(0, 10, n, np.uint8)
        if stem == "t10k" and test_labels is not None:
            labels = test_labels
        write_idx(folder / f"{stem}-images-idx3-ubyte{suffix}", images)
        write_idx(folder / f"{stem}-labels-idx1-ubyte{suffix}", labels)
        written[stem] = images, labels
    return written


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("place", ["", "fashion-mnist", "FashionMNIST/raw"])
def test_reads(tmp_path, place, suffix):
    written = write(tmp_path / place, suffix)
    dataset = TINY.read(tmp_path)
    assert dataset.image_shape == (28, 28, 1)
    assert dataset.num_classes == 10
    for stem, split in (("train", dataset.train), ("t10k", dataset.test)):
        np.testing.assert_array_equal(split.images[..., 0], written[stem][0])
        np.testing.assert_array_equal(split.labels, written[stem][1])


def test_is_not_there(tmp_path):
    assert TINY.read(tmp_path) is None


def test_a_missing_file_is_named(tmp_path):
    write(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="train-labels-idx1-ubyte is missing"):
        TINY.read(tmp_path)


def test_another_number_of_images(tmp_path):
    write(tmp_path)
    with pytest.raises(DataError, match=r"holds an array of \(12, 28, 28\), expected \(60000, 28, 28\)"):
        FashionMnist().read(tmp_path)


def test_label_out_of_range(tmp_path):
    write(tmp_path, test_labels=np.full(10, 10, np.uint8))
    with pytest.raises(DataError, match="test label 10, but there are 10 classes"):
        TINY.read(tmp_path)


def test_mnist_is_not_taken_for_it(tmp_path):
    write(tmp_path, test_labels=MNIST_LABELS)
    with pytest.raises(DataError, match="holds MNIST"):
        TINY.read(tmp_path)
