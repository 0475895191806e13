import dataclasses
import pickle
import tarfile
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from incnet.data.cifar import CIFAR10, CIFAR100, CIFAR100_COARSE, read_binary, read_python
from incnet.data.dataset import DataError

# The real ones with fewer images: everything else stays as it is.
TINY = {
    "cifar10": dataclasses.replace(CIFAR10, train_records=4, test_records=3),
    "cifar100": dataclasses.replace(CIFAR100, train_records=6, test_records=3),
    "cifar100-coarse": dataclasses.replace(CIFAR100_COARSE, train_records=6, test_records=3),
}


def make_images(n, seed):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, 32, 32, 3), np.uint8), rng.integers(0, 10, n, np.uint8)


def parts(cifar):
    """Yield (stem, images, labels) for every file."""
    for seed, stem in enumerate(cifar.train_files):
        yield stem, *make_images(cifar.train_records, seed)
    yield cifar.test_file, *make_images(cifar.test_records, 99)


def write_binary(root, cifar):
    folder = root / cifar.binary.folder
    folder.mkdir(parents=True)
    for stem, images, labels in parts(cifar):
        written = np.full((len(labels), cifar.label_bytes), 77, np.uint8)
        written[:, cifar.label_byte] = labels
        planes = images.transpose(0, 3, 1, 2).reshape(len(labels), -1)
        np.concatenate([written, planes], axis=1).tofile(folder / f"{stem}.bin")
    return folder


def write_python(root, cifar):
    folder = root / cifar.python.folder
    folder.mkdir(parents=True)
    for stem, images, labels in parts(cifar):
        planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(labels), -1)
        batch = {b"data": planes, cifar.label_key: labels.tolist(), b"filenames": [b"x.png"] * len(labels)}
        (folder / stem).write_bytes(pickle.dumps(batch, protocol=2))
    return folder


WRITERS = {"binary": write_binary, "python": write_python}


def pack(folder, archive):
    with tarfile.open(archive, "w:gz") as members:
        members.add(folder, arcname=folder.name)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


@pytest.fixture(params=TINY)
def cifar(request):
    return TINY[request.param]


@pytest.mark.parametrize("layout", WRITERS)
@pytest.mark.parametrize("place", ["parent", "folder", "renamed", "archive", "archive itself"])
def test_reads(tmp_path, cifar, layout, place):
    folder = WRITERS[layout](tmp_path, cifar)
    archive = tmp_path / getattr(cifar, layout).archive.name
    if place.startswith("archive"):
        pack(folder, archive)
    elif place == "renamed":
        folder = folder.rename(tmp_path / "images")
    dataset = cifar.read({"parent": tmp_path, "archive": tmp_path, "archive itself": archive}.get(place, folder))
    assert dataset.name == cifar.name
    assert dataset.source == str(folder)
    assert dataset.image_shape == (32, 32, 3)
    assert dataset.train.images.flags.c_contiguous
    train = list(parts(cifar))[:-1]
    np.testing.assert_array_equal(dataset.train.images, np.concatenate([images for _, images, _ in train]))
    np.testing.assert_array_equal(dataset.train.labels, np.concatenate([labels for _, _, labels in train]))
    images, labels = make_images(cifar.test_records, 99)
    np.testing.assert_array_equal(dataset.test.images, images)
    np.testing.assert_array_equal(dataset.test.labels, labels)


def test_official_numbers():
    assert CIFAR10.train_records * len(CIFAR10.train_files) == 50_000 == CIFAR100.train_records
    assert CIFAR10.test_records == CIFAR100.test_records == 10_000
    assert len(CIFAR10.classes) == 10
    assert len(set(CIFAR100.classes)) == 100
    assert CIFAR100.classes == tuple(sorted(CIFAR100.classes))
    assert len(set(CIFAR100_COARSE.classes)) == 20
    assert CIFAR100_COARSE.classes == tuple(sorted(CIFAR100_COARSE.classes))


def test_is_not_there(tmp_path, cifar):
    assert cifar.read(tmp_path) is None
    assert cifar.read(tmp_path / "nowhere") is None


@pytest.mark.parametrize("layout", WRITERS)
def test_a_missing_file_is_named(tmp_path, cifar, layout):
    folder = WRITERS[layout](tmp_path, cifar)
    path = folder / f"{cifar.train_files[-1]}{getattr(cifar, layout).suffix}"
    path.unlink()
    for place in (tmp_path, folder):
        with pytest.raises(DataError, match="is missing") as caught:
            cifar.read(place)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("change", [-1, 1, -3073])
def test_binary_file_of_another_size(tmp_path, change):
    path = write_binary(tmp_path, TINY["cifar10"]) / "test_batch.bin"
    content = path.read_bytes()
    path.write_bytes((content + b"\0")[: len(content) + change])
    with pytest.raises(DataError, match=f"holds {9219 + change:,} bytes, expected 9,219") as caught:
        TINY["cifar10"].read(tmp_path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("layout", WRITERS)
def test_label_out_of_range(tmp_path, layout):
    few = dataclasses.replace(TINY["cifar10"], classes=("airplane",))
    WRITERS[layout](tmp_path, few)
    with pytest.raises(DataError, match=r"label \d, but there are 1 classes"):
        few.read(tmp_path)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({}, "pixels NoneType"),
        ({b"data": b"x" * 3072, b"labels": [1]}, "pixels bytes"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]}, r"pixels \(2, 3072\), expected \(1, 3072\)"),
        ({b"data": np.zeros((1, 3072), np.uint8)}, "no list of labels"),
        ({b"data": np.zeros((1, 3072), np.uint8), b"labels": [1, 2]}, "holds 2 labels, expected 1"),
        ({b"data": np.zeros((1, 3072), np.uint8), b"labels": [-1]}, "not integers of one byte"),
        ({b"data": np.zeros((1, 3072), np.uint8), b"labels": [True]}, "not integers of one byte"),
        ({b"data": np.zeros((1, 3072), np.uint8), b"labels": [10**30]}, "not integers of one byte"),
    ],
)
def test_python_file_of_another_content(tmp_path, batch, message):
    path = tmp_path / "batch"
    path.write_bytes(pickle.dumps(batch, protocol=2))
    with pytest.raises(DataError, match=message):
        read_python(path, 1, b"labels")


@given(content=st.binary(max_size=100) | st.binary(min_size=6146, max_size=6146))
@settings(max_examples=50, deadline=None)
def test_any_bytes_give_images_or_a_data_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzzed-cifar"
    path.write_bytes(content)
    for reader, extra in ((partial(read_binary, label_byte=0), 1), (read_python, b"labels")):
        try:
            planes, labels = reader(path, 2, extra)
        except DataError:
            continue
        assert planes.shape == (2, 3072)
        assert labels.shape == (2,)
