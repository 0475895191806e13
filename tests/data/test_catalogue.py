import hashlib
from pathlib import Path

import numpy as np
import pytest

from incnet.data import DATASETS, DataError, Dataset, Split, catalogue, load_dataset
from incnet.data.cifar import CIFAR10, CIFAR100, CIFAR100_COARSE
from incnet.data.download import RemoteFile
from incnet.data.mnist import FASHION_MNIST, MNIST


class Marked:
    """A data set that is there where a folder holds a file of its name."""

    looked_for = "a marked folder"
    downloads = (RemoteFile("http://127.0.0.1/cifar10", md5=hashlib.md5(b"").hexdigest()),)

    def __init__(self, image):
        self.split = image

    def read(self, folder):
        if not (folder / "cifar10").exists():
            return None
        return Dataset("cifar10", ("a",), self.split, self.split, str(folder))


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Give the folders that are searched, all of them below a temporary one, in the order of the search."""
    home = tmp_path / "home"
    (tmp_path / "work").mkdir()
    (tmp_path / "named").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(Path, "home", lambda: home)
    monkeypatch.setattr(catalogue.pooch, "os_cache", lambda name: tmp_path / "cache" / name)
    monkeypatch.setenv("INCNET_DATA", str(tmp_path / "named"))
    split = Split(np.zeros((1, 2, 2, 1), np.uint8), np.zeros(1, np.int64))
    monkeypatch.setitem(catalogue._SOURCES, "cifar10", Marked(split))
    return [
        tmp_path / "named",
        tmp_path / "cache" / "incnet" / "cifar10",
        tmp_path / "work" / "data",
        home / "data",
        home / ".keras" / "datasets",
        home / ".keras" / "datasets" / "cifar-10-batches-py-target",
    ]


def put(folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cifar10").write_bytes(b"")


def test_every_data_set_has_a_source():
    assert set(catalogue._SOURCES) | {"digits"} == set(DATASETS)
    for source in (CIFAR10, CIFAR100, CIFAR100_COARSE, MNIST, FASHION_MNIST):
        assert catalogue._SOURCES[source.name] is source
        for file in source.downloads:
            assert file.url.startswith("https://")
            assert len(file.md5) == 32


def test_digits_need_no_place():
    assert load_dataset("digits").name == "digits"


def test_unknown_name():
    with pytest.raises(DataError, match="no data set 'svhn'; choose one of digits, cifar10"):
        load_dataset("svhn")


def test_places_in_their_order(places):
    for folder in reversed(places):
        put(folder)
        assert Path(load_dataset("cifar10").source).absolute() == folder


def test_given_folder_alone_counts(places, tmp_path):
    put(places[0])
    with pytest.raises(DataError, match="given holds no cifar10; looked for a marked folder"):
        load_dataset("cifar10", tmp_path / "given")
    put(tmp_path / "given")
    assert load_dataset("cifar10", tmp_path / "given").source == str(tmp_path / "given")


def test_a_folder_that_cannot_be_searched(tmp_path):
    with pytest.raises(DataError, match="cannot be searched"):
        load_dataset("cifar10", tmp_path / ("x" * 300))


def test_nowhere(places):
    with pytest.raises(DataError, match="no copy of cifar10 in") as caught:
        load_dataset("cifar10", download=False)
    assert str(places[1]) in str(caught.value)


def test_a_named_place_that_is_not_there(places, monkeypatch):
    """A folder that is misspelt, or not mounted, must not end in a download."""
    monkeypatch.setattr(catalogue, "fetch", lambda file, folder: pytest.fail("downloads"))
    places[0].rmdir()
    put(places[1])
    with pytest.raises(DataError, match=f"INCNET_DATA is {places[0]}, which does not exist"):
        load_dataset("cifar10")


def test_downloads_into_the_cache(places, monkeypatch):
    monkeypatch.setattr(catalogue, "fetch", lambda file, folder: put(folder))
    assert load_dataset("cifar10").source == str(places[1])
