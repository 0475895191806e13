"""Look-ahead on features that are computed once.

In look-ahead the prefix is frozen and, with running statistics, a fixed function: the same image always gives the same
features. So they are computed in the first epoch that needs them and read in later ones, where only the new sub-network
and the classifier are left to run::

    epoch of the look-ahead    1            2            3            4            5
    fixed                      compute      read         read         read         read        the images as they are
    views:2                    compute 1    compute 2    read 1       read 2       read 1      two augmentations of each

Only what a later epoch reads is kept, so ``views`` as many as there are epochs is what no cache would do, bit for bit.
An epoch has its own order all the same: the images are shuffled as ever, only their augmentation comes back.

Several ranks each compute their part, and then give it to all others: in later epochs each sees other images.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing

import numpy as np

from incnet.backend import Array, asarray, asnumpy, ops, recorder
from incnet.communicator import ALONE, Communicator
from incnet.data.features import FeatureLoader, ResidentFeatureLoader
from incnet.data.loader import Batch, Loader
from incnet.graph import Graph
from incnet.lookahead_cache import Cache
from incnet.storage.spill import SpillStore

# Bytes of features that ranks exchange at once.
PORTION = 1 << 26

__all__ = ["Cache", "LookaheadFeatures"]


class LookaheadFeatures:
    """Batches of features for one look-ahead.

    Parameters
    ----------
    graph : Graph
        Its prefix is frozen, on running statistics, and stays as it is.
    train, validation : Loader
        Of images.
    cache : Cache
        What is computed once; the validation images' features always are.
    dtype : float16 or float32
        That the features are rounded to, whether they are kept or not.
    first, epochs : int
        Index of the look-ahead's first epoch, and how many it has.
    store : SpillStore
        Where they are kept.
    check : callable, optional
        Called after each batch of features that had to be computed once more; what it raises ends that.
    communicator : Communicator
        Of the ranks that share the loaders' batches; what is kept of the training images each of them keeps in full.

    Notes
    -----
    A run that is resumed in the middle of a look-ahead has lost what was kept, and computes it again in the same
    batches: the bits are the same.
    """

    def __init__(
        self,
        graph: Graph,
        train: Loader,
        validation: Loader,
        cache: Cache,
        *,
        dtype: str,
        first: int,
        epochs: int,
        store: SpillStore,
        check: Callable[[], None] = lambda: None,
        communicator: Communicator = ALONE,
    ) -> None:
        self._cache, self._first, self._epochs, self._store = cache, first, epochs, store
        prefix = Prefix(graph)

        def view(images: Loader, index: int, read_again: bool) -> View:
            return View(images, index, prefix, np.dtype(dtype), store if read_again else None, check, communicator)

        images = train if cache.augmented else train.unaugmented()
        self._views = [view(images, first + v, cache.keeps(v, epochs)) for v in range(min(cache.views, epochs))]
        self._validation = view(validation, 0, epochs > 1)

    def computes(self, index: int) -> bool:
        """Whether the prefix runs in epoch ``index`` of the run."""
        return self._cache.computes(index - self._first)

    def keeps(self, index: int) -> bool:
        """Whether the features of epoch ``index`` of the run are still there when it is over."""
        return self._cache.keeps(index - self._first, self._epochs)

    def train(self, index: int, start: int = 0) -> Generator[Batch, None, None]:
        """Return an iterator over the batches of epoch ``index`` of the run, from batch ``start`` on."""
        return self._views[(index - self._first) % len(self._views)].epoch(index, start)

    def validation(self) -> Generator[Batch, None, None]:
        """Return an iterator over the batches of the validation images."""
        return self._validation.epoch(0)

    def close(self) -> None:
        """Give up what was kept."""
        self._views.clear()
        self._validation.forget()
        self._store.close()


class View:
    """Features of a loader's images, as they are in one of its epochs."""

    def __init__(
        self,
        images: Loader,
        index: int,
        prefix: Prefix,
        dtype: np.dtype,
        store: SpillStore | None,
        check: Callable[[], None],
        communicator: Communicator,
    ) -> None:
        self.images, self.index, self.prefix, self.dtype = images, index, prefix, dtype
        self.store, self.check, self.communicator = store, check, communicator
        self.kept: Array | None = None
        self.complete = False

    def epoch(self, index: int, start: int = 0) -> Generator[Batch, None, None]:
        """Serve the features in the order of epoch ``index``."""
        if not self.complete and index == self.index:
            return self._compute(start)
        if not self.complete:
            for _ in self._compute(0):
                self.check()
        resident = not isinstance(self.kept, np.ndarray)
        return (ResidentFeatureLoader if resident else FeatureLoader)(self.images, self.kept).epoch(index, start)

    def _compute(self, start: int) -> Generator[Batch, None, None]:
        """Serve them in the order of their own epoch, while they are computed, batch by batch."""
        order = self.images.order(self.index)
        with closing(self.images.epoch(self.index, start)) as batches:
            for number, (images, labels) in enumerate(batches, start):
                features = self.prefix(asarray(images))
                rounded = features.astype(self.dtype, copy=False)
                if self.store is not None:
                    self._keep(order[self.images.part(number)], rounded, self.store)
                yield Batch(rounded.astype(features.dtype, copy=False), labels)
        self.complete = self.store is not None and start == 0
        if self.complete and self.communicator.size > 1 and self.images.shuffle:  # else ranks read what they computed
            self._exchange()

    def _keep(self, rows: np.ndarray, features: Array, store: SpillStore) -> None:
        if self.kept is None:
            self.kept = store.array((len(self.images.split), *features.shape[1:]), self.dtype)
            if self.communicator.size > 1:
                self.kept[...] = 0
        if isinstance(self.kept, np.ndarray):
            self.kept[rows] = asnumpy(features)
        else:
            self.kept[asarray(rows)] = features

    def _exchange(self) -> None:
        """Put together the rows that ranks computed: elsewhere they are zero, and a sum of bytes keeps the bits."""
        assert self.kept is not None
        rows = max(1, PORTION // self.kept[:1].nbytes)
        for start in range(0, len(self.kept), rows):
            there = self.kept[start : start + rows]
            here = asarray(there)  # the same memory, but for a file on a device
            self.communicator.allreduce(here.reshape(-1).view(np.uint8))
            if ops.on_device and isinstance(there, np.ndarray):
                there[...] = asnumpy(here)

    def forget(self) -> None:
        """Drop what was kept."""
        self.kept, self.complete = None, False


class Prefix:
    """The frozen prefix as a function of a batch; on a device recorded once for each size of batch, then replayed.

    There the result is valid until the next call.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._recorder = recorder()
        self._recordings: dict[int, tuple[Array, Array, Callable[[], None]]] = {}

    def __call__(self, images: Array) -> Array:
        """Return the features of images (N, H, W, C)."""
        if not ops.on_device:
            return self.graph.features(images)
        if len(images) not in self._recordings:
            self._recordings[len(images)] = self._record(images)
        x, features, replay = self._recordings[len(images)]
        x[...] = images
        replay()
        return features

    def _record(self, images: Array) -> tuple[Array, Array, Callable[[], None]]:
        x, features = images.copy(), self.graph.features(images).copy()

        def compute() -> None:
            features[...] = self.graph.features(x)

        return x, features, self._recorder(compute)
