"""Batches of features that were computed before, in the order in which the loader serves their images."""

from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from incnet.backend import Array, asarray

from .loader import Batch, Loader, _aligned_empty, _Plan

__all__ = ["FeatureLoader", "ResidentFeatureLoader"]


class FeatureLoader(Loader):
    """Serve features in place of images, in the same batches.

    Parameters
    ----------
    images : Loader
        Whose order is followed.
    features : float32 or float16 (N, ...)
        Of each image. Batches are float32.
    """

    def __init__(self, images: Loader, features: Array) -> None:
        super().__init__(
            images.split,
            images.normalisation,
            images.batch_size,
            seed=images.seed,
            shuffle=images.shuffle,
            least=images.least,
            shard=images.shard,
            prefetch=images.prefetch,
        )
        self.features = features

    def _buffer(self) -> NDArray[np.float32]:
        most = -(-min(self.batch_size, len(self.split)) // self.shard.size)
        return _aligned_empty((most, *self.features.shape[1:]))

    def _prepare(self, plan: _Plan, number: int, buffer: NDArray[np.float32]) -> Batch:
        rows = plan.rows[self.part(number)]
        x = buffer[: len(rows)]
        if self.features.dtype == x.dtype:
            # The rows are known to be there; looking would take a copy of them all.
            np.take(self.features, rows, axis=0, out=x, mode="clip")
        else:
            x[...] = np.take(self.features, rows, axis=0)
        return Batch(x, self.split.labels[rows])


class ResidentFeatureLoader(FeatureLoader):
    """A :class:`FeatureLoader` whose features lie in the memory of a device, where its batches are gathered."""

    def _serve(self, plan: _Plan, numbers: Sequence[int]) -> Generator[Batch, None, None]:
        rows, labels = asarray(plan.rows), asarray(self.split.labels[plan.rows])
        for number in numbers:
            part = self.part(number)
            x: Any = self.features.take(rows[part], axis=0)
            yield Batch(x.astype(np.float32, copy=False), labels[part])

    def _serve_ahead(self, plan: _Plan, numbers: Sequence[int]) -> Generator[Batch, None, None]:
        return self._serve(plan, numbers)  # launches return at once
