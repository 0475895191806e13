"""Which images of a batch a process has."""

from typing import NamedTuple

__all__ = ["Shard"]


class Shard(NamedTuple):
    """One of ``size`` parts of every batch, as equal as can be; all of it by default.

    Parameters
    ----------
    rank, size : int
        Its number, from 0, and how many there are.
    """

    rank: int = 0
    size: int = 1

    def of(self, n: int) -> slice:
        """Return where it lies in a batch of ``n`` images."""
        return slice(self.rank * n // self.size, (self.rank + 1) * n // self.size)
