"""What a run sees: its images, split for training, validation and the test, and served in batches."""

from __future__ import annotations

import hashlib
from contextlib import closing
from functools import partial

import numpy as np

from incnet.backend import Array, asarray, asnumpy, ops
from incnet.communicator import Communicator
from incnet.config import Config, ConfigError
from incnet.data.augment import Augmentation
from incnet.data.catalogue import load_dataset
from incnet.data.dataset import DataError, Dataset, Normalisation, Split, split_validation
from incnet.data.folder import PictureOptions, load_folder
from incnet.data.loader import Loader
from incnet.data.npz import load_npz
from incnet.data.resident import ResidentLoader
from incnet.data.shard import Shard
from incnet.image_sizes import ImageSizes
from incnet.names import DATASETS

__all__ = ["RunImages", "load_data"]

# Images at once where nothing is learnt: at most so many, with no more pixels in all than as many of CIFAR's have.
EVALUATION_BATCH = 500
EVALUATION_PIXELS = EVALUATION_BATCH * 32 * 32


class RunImages:
    """The images of a run, as its :class:`Config` says.

    Parameters
    ----------
    config : Config
        Resolved.
    dataset : Dataset or None
        Loaded from disk unless given, by rank 0 for all.
    communicator : Communicator
        Of the ranks, each of which is served a part of every batch.

    Attributes
    ----------
    train, validation, test : Loader
        Of batches. Those to train on are shuffled, augmented, and of a size that is still to be set.
    shape : (H, W, C)
        Of an image as the network sees it, at full size.
    sizes : ImageSizes or None
        Through which the images to train on grow.
    ranks : int
        That share every batch.

    Raises
    ------
    DataError
        If the data set cannot be had, or there is one class alone to learn from.
    ConfigError
        If an option does not go with it, or with the number of ranks.
    """

    def __init__(self, config: Config, dataset: Dataset | None, communicator: Communicator) -> None:
        self.dataset = dataset or communicator.on_root(lambda: load_data(config))
        self.ranks = communicator.size
        train = self.dataset.train
        if config.limit is not None and config.limit < len(train):
            train = train.take(np.arange(config.limit))
        if (validation := self.dataset.validation) is None:
            train, validation = split_validation(train, config.validation, config.seed)
        self._check_classes(train)
        self._check_size(config)
        make = partial(
            ResidentLoader if ops.on_device else Loader,
            normalisation=self.dataset.normalisation or Normalisation.fit(train),
            seed=config.seed,
            resize=config.resize,
            shard=Shard(communicator.rank, communicator.size),
        )
        self.augmentation = self._augmentation(config)
        self.train: Loader = make(train, batch_size=1, augmentation=self.augmentation, shuffle=True)
        self.shape = height, width, _ = self.train.image_shape
        self.sizes: ImageSizes | None = None  # which depends on the network, and with one's own so do the epochs
        at_once = self.ranks * max(1, min(EVALUATION_BATCH, EVALUATION_PIXELS // (height * width)))
        self.validation: Loader = make(validation, batch_size=at_once)
        self.test: Loader = make(self.dataset.test, batch_size=at_once)

    def _check_classes(self, train: Split) -> None:
        if len(train) > 1 and len(found := np.unique(train.labels)) == 1:
            name = self.dataset.classes[found[0]]
            raise DataError(f"all {len(train):,} training images are of {name}: there must be another class beside it")

    def _augmentation(self, config: Config) -> Augmentation | None:
        if not config.augment:
            return None
        suits = self.dataset.augmentation or (
            Augmentation.default_for(config.dataset)
            if config.dataset in DATASETS
            else Augmentation.fitting(self.dataset.image_shape)
        )
        if config.augmentation is None:
            return suits
        try:
            return Augmentation.parse(config.augmentation, suits)
        except ValueError as error:
            raise ConfigError(f"--augmentation {error}") from error

    def _check_size(self, config: Config) -> None:
        height, width, _ = self.dataset.image_shape
        if config.resize is not None and config.resize < max(height, width):
            raise ConfigError(
                f"--resize {config.resize}: the images of {config.dataset} have {height} x {width} pixels; choose more"
            )

    def check_ranks(self, config: Config) -> None:
        """Raise ConfigError if there are several ranks, and they cannot do this."""
        ranks, images = self.ranks, len(self.train.split)
        if ranks == 1:
            return
        if not isinstance(config.batch_size, int):
            raise ConfigError(
                f"--batch-size {config.batch_size}: that looks at the memory of one process; choose a number for "
                f"{ranks} ranks, or start one"
            )
        smallest = images % config.batch_size or min(config.batch_size, images)
        if smallest < ranks:
            raise ConfigError(
                f"--batch-size {config.batch_size}: {images:,} training images end with a batch of {smallest}, too few "
                f"for {ranks} ranks; choose another size, or fewer ranks"
            )

    @property
    def growing(self) -> list[Loader]:
        """Loaders of the images to train on at each of their sizes, one after the other."""
        return [self.train.at_size(size) for size in (self.sizes.sizes if self.sizes else (None,))]

    def begin_epoch(self, epoch: int) -> None:
        """Let training images be as large as they are to be in an epoch of the run, which count from 0."""
        size = self.sizes.at(epoch) if self.sizes else None
        self.train.image_size = None if size == self.shape[0] else size

    def sample(self, epoch: int) -> Array:
        """Training images (N, H, W, C) as epoch ``epoch`` begins with, not more than a rank evaluates at once.

        They are of full size.
        """
        taken, enough = list[np.ndarray](), self.validation.batch_size // self.ranks
        with closing(self.train.unsharded().at_size(None).epoch(epoch)) as batches:
            for images, _ in batches:
                taken.extend(asnumpy(images).copy())
                if len(taken) >= enough:
                    break
        return asarray(np.stack(taken[:enough]))

    def digest(self) -> str:
        """SHA-256 sum of the data set's images and labels."""
        if self.dataset.checksum:
            return self.dataset.checksum
        digest = hashlib.sha256()
        splits = (self.dataset.train, self.dataset.test, self.dataset.validation)
        for split in (split for split in splits if split is not None):
            pixels = split.pixels()
            digest.update(str(pixels.shape).encode())
            digest.update(np.ascontiguousarray(pixels).data)
            digest.update(np.ascontiguousarray(split.labels).data)
        return digest.hexdigest()


def load_data(config: Config, *, download: bool = True) -> Dataset:
    """Read the data set that the options name, from wherever it is.

    Raises
    ------
    DataError, ConfigError
        If it cannot be had; without ``download``, if it is not on this machine.
    """
    own = config.own_data
    if own is None:
        return load_dataset(config.dataset, config.data_dir, download=download)
    if own.suffix == ".npz":
        return load_npz(own)
    if own.is_dir():
        options = PictureOptions(config.image_size, config.channels, config.background, config.damaged)
        return load_folder(own, options, config.seed)
    raise ConfigError(
        f"{own}: no folder of pictures is there; pass --data-dir with where it is now, or, for a data set that was "
        "given in Python, go on there, by incnet.session.resume_run"
    )
