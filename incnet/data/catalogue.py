"""The data sets by name, and where to look for them."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import pooch

from incnet.names import DATASETS

from .cifar import CIFAR10, CIFAR100, CIFAR100_COARSE
from .dataset import DataError, Dataset
from .digits import load_digits
from .download import RemoteFile, fetch
from .mnist import FASHION_MNIST, MNIST


class Source(Protocol):
    """A data set that is read from files."""

    @property
    def looked_for(self) -> str:
        """What `read` accepts in a folder, in words."""

    @property
    def downloads(self) -> tuple[RemoteFile, ...]:
        """What to fetch where there is no copy."""

    def read(self, folder: Path) -> Dataset | None:
        """Return the data set in `folder`, or None where it is not there."""


_SOURCES: dict[str, Source] = {
    "cifar10": CIFAR10,
    "cifar100": CIFAR100,
    "cifar100-coarse": CIFAR100_COARSE,
    "mnist": MNIST,
    "fashion-mnist": FASHION_MNIST,
}


def load_dataset(name: str, data_dir: Path | str | None = None, *, download: bool = True) -> Dataset:
    """Return the data set `name`, from the first place that has a copy.

    The places are, in this order: `data_dir`, and then no other; the folder in the environment variable INCNET_DATA;
    the user's cache folder for incnet; the usual folders of torchvision, Keras and Debian; the publisher's server.

    Parameters
    ----------
    name : str
        One of `DATASETS`. The digits are part of a package, and are read from no folder.
    data_dir : Path or str, optional
        Folder that holds the files, or the folder or archive that they come in.
    download : bool
        Fetch the files into the cache folder where no place has them.

    Raises
    ------
    DataError
        No such data set, no copy found, a copy that is damaged or incomplete, or a download that failed; a folder for
        the digits.
    """
    if name not in DATASETS:
        raise DataError(f"no data set {name!r}; choose one of {', '.join(DATASETS)}")
    if name == "digits":
        if data_dir is not None:
            raise DataError(f"the digits come with scikit-learn, and are read from no folder: leave out {data_dir}")
        return load_digits()
    source = _SOURCES[name]
    if data_dir is not None:
        if (dataset := _read(source, Path(data_dir))) is None:
            raise DataError(f"{data_dir} holds no {name}; looked for {source.looked_for}")
        return dataset
    if (named := os.environ.get("INCNET_DATA")) and not Path(named).exists():
        raise DataError(f"INCNET_DATA is {named}, which does not exist; let it name a folder that does, or unset it")
    for folder in _usual_folders(name):
        if (dataset := _read(source, folder)) is not None:
            return dataset
    cache = cache_folder(name)
    if download and cache is None:
        raise DataError(f"no copy of {name} was found, and there is no home folder to download it to; pass --data-dir")
    if download and cache is not None:
        for file in source.downloads:
            fetch(file, cache)
        if (dataset := _read(source, cache)) is not None:
            return dataset
    looked_in = ", ".join(str(folder) for folder in _usual_folders(name))
    raise DataError(
        f"no copy of {name} in {looked_in}; looked for {source.looked_for}; "
        f"nothing is downloaded here: pass --data-dir, or let incnet train {name} fetch it"
    )


def _read(source: Source, folder: Path) -> Dataset | None:
    try:
        return source.read(folder)
    except OSError as error:
        raise DataError(f"{folder} cannot be searched ({error}); pass another folder") from error


def cache_folder(name: str) -> Path | None:
    """Return the user's; None without a home: it would be a folder called ~ in the current one."""
    with suppress(RuntimeError):
        folder = Path(pooch.os_cache("incnet")) / name.removesuffix("-coarse")  # labels of the same files
        return folder if folder.is_absolute() else None
    return None


def _usual_folders(name: str) -> Iterator[Path]:
    """Yield the folders in which a copy may lie, from the most to the least particular."""
    if named := os.environ.get("INCNET_DATA"):
        yield Path(named)
    if (cache := cache_folder(name)) is not None:
        yield cache
    yield Path("data")
    with suppress(RuntimeError):  # there is no home
        home = Path.home()
        yield home / "data"
        yield home / ".keras" / "datasets"
        yield home / ".keras" / "datasets" / "cifar-10-batches-py-target"
        yield home / ".keras" / "datasets" / "cifar-100-python-target"
    yield Path("/usr/share/datasets")
