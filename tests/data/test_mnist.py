import gzip
import struct
from dataclasses import replace

import numpy as np
import pytest

from incnet.data.dataset import DataError
from incnet.data.mnist import FASHION_MNIST, MNIST

# Each of the official size, and with few images of noise.
OFFICIAL = {"mnist": MNIST, "fashion-mnist": FASHION_MNIST}
TINY = {name: replace(each, train_images=12, test_images=10) for name, each in OFFICIAL.items()}
LABELS = {"mnist": [7, 2, 1, 0, 4, 1, 4, 9, 5, 9], "fashion-mnist": [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]}

pytestmark = pytest.mark.parametrize("name", OFFICIAL)


def write_idx(path, array):
    content = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write(folder, test_labels, suffix=""):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    written = {}
    for stem, labels in (("train", rng.integers(0, 10, 12)), ("t10k", test_labels)):
        images, labels = rng.integers(0, 256, (len(labels), 28, 28), np.uint8), np.array(labels, np.uint8)
        write_idx(folder / f"{stem}-images-idx3-ubyte{suffix}", images)
        write_idx(folder / f"{stem}-labels-idx1-ubyte{suffix}", labels)
        written[stem] = images, labels
    return written


PLACES = {"mnist": ("", "mnist", "MNIST/raw"), "fashion-mnist": ("", "fashion-mnist", "FashionMNIST/raw")}


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("place", range(3))
def test_reads(tmp_path, name, place, suffix):
    written = write(tmp_path / PLACES[name][place], LABELS[name], suffix)
    dataset = TINY[name].read(tmp_path)
    assert (dataset.name, dataset.image_shape, dataset.num_classes) == (name, (28, 28, 1), 10)
    for stem, split in (("train", dataset.train), ("t10k", dataset.test)):
        np.testing.assert_array_equal(split.images[..., 0], written[stem][0])
        np.testing.assert_array_equal(split.labels, written[stem][1])


def test_is_not_there(tmp_path, name):
    assert TINY[name].read(tmp_path) is None


def test_a_missing_file_is_named(tmp_path, name):
    write(tmp_path, LABELS[name])
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="train-labels-idx1-ubyte is missing"):
        TINY[name].read(tmp_path)


def test_a_file_that_is_cut_off(tmp_path, name):
    write(tmp_path, LABELS[name])
    file = tmp_path / "t10k-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match="t10k-images-idx3-ubyte holds 7,855 bytes, expected 7,856; fetch it again"):
        TINY[name].read(tmp_path)


def test_another_number_of_images(tmp_path, name):
    write(tmp_path, LABELS[name])
    with pytest.raises(DataError, match=r"holds an array of \(12, 28, 28\), expected \(60000, 28, 28\)"):
        OFFICIAL[name].read(tmp_path)


def test_label_out_of_range(tmp_path, name):
    labels = [*LABELS[name][:9], 10]
    write(tmp_path, labels)
    with pytest.raises(DataError, match=r"holds another data set, .* test labels are \(\d, 2, 1, .*, 10\), not \("):
        TINY[name].read(tmp_path)
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.full(12, 10, np.uint8))
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", np.array(LABELS[name], np.uint8))
    with pytest.raises(DataError, match="training label 10, but there are 10 classes"):
        TINY[name].read(tmp_path)


def test_one_is_not_taken_for_the_other(tmp_path, name):
    (other,) = OFFICIAL.keys() - {name}
    write(tmp_path, LABELS[other])
    expected = f"holds {OFFICIAL[other].title}, not {OFFICIAL[name].title} .*; pass another folder"
    with pytest.raises(DataError, match=expected):
        TINY[name].read(tmp_path)
