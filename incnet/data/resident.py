"""Batches of a data set that lies in the memory of a device, augmented there."""

from collections.abc import Generator, Sequence
from functools import cached_property

from incnet.backend import Array, asarray, ops

from .loader import Batch, Loader, _Plan

__all__ = ["ResidentLoader"]


class ResidentLoader(Loader):
    """A :class:`Loader` whose images (uint8) are copied to the device once, and whose batches are made there.

    Order and augmentation are those of the :class:`Loader`: they are drawn on the host and copied once per epoch, by
    way of page-locked memory, which CuPy takes for every copy to a device: the host does not wait for it.
    """

    @cached_property
    def _resident(self) -> tuple[Array, Array, Array]:
        """Images, mean and std; copied when the first batch is asked for."""
        return asarray(self.split.pixels()), asarray(self.normalisation.mean), asarray(self.normalisation.std)

    def _serve(self, plan: _Plan, numbers: Sequence[int]) -> Generator[Batch, None, None]:
        images, mean, std = self._resident
        rows, shifts, flips = map(asarray, (plan.rows, plan.shifts, plan.flips))
        labels = asarray(self.split.labels[plan.rows])
        for number in numbers:
            part = self.part(number)
            x = ops.augment(images, rows[part], shifts[part], flips[part], mean, std)
            for operation, size in self._resizings():
                x = getattr(ops, operation)(x, size)
            yield Batch(x, labels[part])

    def _serve_ahead(self, plan: _Plan, numbers: Sequence[int]) -> Generator[Batch, None, None]:
        # Launches return at once, so the host is ahead of the device as it is.
        return self._serve(plan, numbers)
