"""Batches of normalised, augmented images, prepared ahead on a background thread."""

import math
import threading
from collections.abc import Generator, Sequence
from copy import copy
from dataclasses import dataclass
from queue import SimpleQueue
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from incnet.backend import host_kernels
from incnet.kernels.pages import pages

from .augment import Augmentation
from .dataset import DataError, Normalisation, Split
from .shard import Shard


class Batch(NamedTuple):
    """Images and labels of one step.

    Parameters
    ----------
    x : float32 (n, H, W, C)
        Normalised images, aligned to 64 bytes. The loader writes over them once the next batch is asked for.
    labels : int64 (n,)
        Class of each image.
    """

    x: NDArray[np.float32]
    labels: NDArray[np.int64]


class Loader:
    """Serve a split in batches, the same ones for the same seed and epoch.

    Parameters
    ----------
    split : Split
        N images.
    normalisation : Normalisation
        Fitted to the training part.
    batch_size : int
        Images a batch; the last one of an epoch may be shorter. It may be changed between two epochs.
    seed : int
        Order and augmentation of an epoch are a function of the seed and the epoch's index alone.
    augmentation : Augmentation, optional
        None leaves the images as they are.
    shuffle : bool
        A new order every epoch.
    resize : int, optional
        Height and width to which the images, augmented, are interpolated.
    image_size : int, optional
        Height and width to which they are then averaged, area by area. It may be changed between two epochs.
    least : int
        Images that a batch has at least: a shorter one at the end is left out. It may be changed between two epochs.
    shard : Shard
        Which part of every batch to serve, where several processes share it. A batch too small for all of them to have
        one is served to some of them only.
    prefetch : int
        Batches prepared ahead. 0 prepares each in the calling thread, when it is asked for.

    Raises
    ------
    DataError
        A size or seed out of range, or a normalisation for another number of channels.

    Notes
    -----
    An iterator reuses ``prefetch + 1`` buffers in turn, so a steady state allocates nothing: a batch stays valid until
    the next one is asked for, and the last one for good.
    """

    def __init__(
        self,
        split: Split,
        normalisation: Normalisation,
        batch_size: int,
        *,
        seed: int,
        augmentation: Augmentation | None = None,
        shuffle: bool = False,
        resize: int | None = None,
        image_size: int | None = None,
        least: int = 1,
        shard: Shard = Shard(),  # noqa: B008 - a tuple
        prefetch: int = 2,
    ) -> None:
        for name, value, lowest in (
            ("batch size", batch_size, 1),
            ("seed", seed, 0),
            ("least", least, 1),
            ("prefetch", prefetch, 0),
            ("resize", resize, 1),
            ("image size", image_size, 1),
        ):
            if value is not None and value < lowest:
                raise DataError(f"{name} {value} is below {lowest}")
        channels = split.images.shape[-1]
        if normalisation.mean.shape != (channels,):
            raise DataError(f"{len(normalisation.mean)} channels in the normalisation, {channels} in the images")
        self.split = Split(np.ascontiguousarray(split.images), split.labels, split.rows)
        self.normalisation = normalisation
        self.batch_size = batch_size
        self.seed = seed
        self.augmentation = augmentation if augmentation is not None else Augmentation(shift=0, flip=False)
        self.shuffle = shuffle
        self.resize = resize
        self.image_size = image_size
        self.least = least
        self.shard = shard
        self.prefetch = prefetch

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        whole, rest = divmod(len(self.split), self.batch_size)
        return whole + (rest >= self.least)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of the images that are served."""
        height, width, channels = self.split.images.shape[1:]
        for _, size in self._resizings():
            height, width = size
        return height, width, channels

    def epoch(self, index: int, start: int = 0) -> Generator[Batch, None, None]:
        """Return an iterator over the batches of epoch `index`, from batch `start` on.

        Closing the iterator, or dropping it, ends its thread. What goes wrong in the thread is raised here.

        Raises
        ------
        DataError
            The index is negative, or there is no such batch to start from (the number of batches is allowed, and
            leaves none).
        """
        if index < 0:
            raise DataError(f"epoch {index} is negative; epochs count from 0")
        if not 0 <= start <= len(self):
            raise DataError(f"batch {start} to start from, but an epoch has {len(self)} batches")
        plan = self._plan(index)
        parts = ((number, self.part(number)) for number in range(start, len(self)))
        numbers = [number for number, part in parts if part.start < part.stop]
        return self._serve_ahead(plan, numbers) if self.prefetch else self._serve(plan, numbers)

    def order(self, index: int) -> NDArray[np.int64]:
        """Rows of the split, int64 (N,), in the order in which epoch `index` visits them."""
        return self._plan(index).rows

    def part(self, number: int) -> slice:
        """Return where batch `number`, or what is served of it, lies in that order."""
        start = number * self.batch_size
        shard = self.shard.of(min(self.batch_size, len(self.split) - start))
        return slice(start + shard.start, start + shard.stop)

    def unaugmented(self) -> Self:
        """Return a loader of the same batches of images as they are."""
        plain = copy(self)
        plain.augmentation = Augmentation(shift=0, flip=False)
        return plain

    def unsharded(self) -> Self:
        """Return a loader of the whole batches of which this one serves a part."""
        whole = copy(self)
        whole.shard = Shard()
        return whole

    def at_size(self, image_size: int | None) -> Self:
        """Return a loader of the same batches of images that are averaged to another size, or not at all."""
        other = copy(self)
        other.image_size = image_size
        return other

    def _resizings(self) -> list[tuple[str, tuple[int, int]]]:
        """Operations that give the augmented images their size, in order, and the height and width after each."""
        sizes = {"resize_bilinear": self.resize, "resize_area": self.image_size}
        return [(operation, (size, size)) for operation, size in sizes.items() if size is not None]

    def _plan(self, index: int) -> "_Plan":
        """Draw the order and the augmentation of a whole epoch, so that no batch depends on those before it."""
        rng = np.random.default_rng([self.seed, index])
        n = len(self.split)
        rows = rng.permutation(n) if self.shuffle else np.arange(n)
        return _Plan(rows, *self.augmentation.draw(n, rng))

    def _buffer(self) -> NDArray[np.float32]:
        most = -(-min(self.batch_size, len(self.split)) // self.shard.size)
        return _aligned_empty((most, *self.image_shape))

    def _prepare(self, plan: "_Plan", number: int, buffer: NDArray[np.float32]) -> Batch:
        """Write batch `number` into `buffer`."""
        kernels = host_kernels()
        part = self.part(number)
        rows = plan.rows[part]
        buffer, resizings = buffer[: len(rows)], self._resizings()
        x = kernels.augment(
            self.split.images,
            self.split.places(rows),
            plan.shifts[part],
            plan.flips[part],
            self.normalisation.mean,
            self.normalisation.std,
            out=None if resizings else buffer,
        )
        for number, (operation, size) in enumerate(resizings, start=1):
            x = getattr(kernels, operation)(x, size, out=buffer if number == len(resizings) else None)
        return Batch(x, self.split.labels[rows])

    def _serve(self, plan: "_Plan", numbers: Sequence[int]) -> Generator[Batch, None, None]:
        buffer = self._buffer()
        for number in numbers:
            yield self._prepare(plan, number, buffer)

    def _serve_ahead(self, plan: "_Plan", numbers: Sequence[int]) -> Generator[Batch, None, None]:
        # Buffers go round: free -> the thread fills one -> ready -> the consumer uses it -> free. Their number bounds
        # how far ahead the thread runs, so that it only ever waits for a free buffer.
        free: SimpleQueue[NDArray[np.float32] | None] = SimpleQueue()
        ready: SimpleQueue[tuple[NDArray[np.float32], Batch] | BaseException] = SimpleQueue()
        stopped = threading.Event()

        def work() -> None:
            try:
                for number in numbers:
                    buffer = free.get()
                    if buffer is None or stopped.is_set():
                        return
                    ready.put((buffer, self._prepare(plan, number, buffer)))
            except BaseException as error:
                ready.put(error)

        for _ in range(self.prefetch + 1):
            free.put(self._buffer())
        thread = threading.Thread(target=work, name="incnet-loader", daemon=True)
        thread.start()
        try:
            for _ in numbers:
                result = ready.get()
                if isinstance(result, BaseException):
                    raise result
                buffer, batch = result
                yield batch
                free.put(buffer)
        finally:
            stopped.set()
            free.put(None)  # wakes the thread, should it wait for a buffer
            thread.join()


@dataclass(frozen=True, eq=False)
class _Plan:
    """What becomes of each image in an epoch, in the order of the batches."""

    rows: NDArray[np.int64]
    shifts: NDArray[np.int64]
    flips: NDArray[np.bool_]


def _aligned_empty(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return an uninitialised float32 array in pages of its own."""
    return pages(math.prod(shape) * np.dtype(np.float32).itemsize).view(np.float32).reshape(shape)
