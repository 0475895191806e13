"""Training images that grow over a run: small ones cost little, and a network with global pooling takes any size."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Self

__all__ = ["ImageSizes"]

LONGEST = 6  # digits of a number that is read


@dataclass(frozen=True)
class ImageSizes:
    """Height and width of the training images in each epoch.

    Attributes
    ----------
    sizes : tuple of int
        Pixels, one size after the other.
    epochs : tuple of int
        Of each but the last, which has those that are left.
    """

    sizes: tuple[int, ...]
    epochs: tuple[int, ...]

    @classmethod
    def parse(cls, text: str, budget: int) -> Self:
        """Read ``16,24,32``, which share the epochs of the run equally; ``16:4,24:4,32``, for four epochs each; or
        ``16:33%,24:25%,32``, for parts of the run.

        The last size has what is left.

        Raises
        ------
        ValueError
            If it is spelt otherwise, the sizes do not rise, or the last one is left without an epoch of ``budget``.
        """
        *smaller, last = text.split(",")
        entries = [entry.partition(":") for entry in smaller]
        sizes = (*(_number(size, text) for size, _, _ in entries), _number(last, text))
        equal = max(1, budget // len(sizes))
        epochs = tuple(_epochs(own, budget, text) if colon else equal for _, colon, own in entries)
        if any(size >= larger for size, larger in pairwise(sizes)):
            raise ValueError(f"{text:.80}: choose sizes that rise")
        if sum(epochs) >= budget:
            raise ValueError(
                f"{text:.80}: the smaller sizes take {sum(epochs)} of {budget} epochs; leave one to the last, or more"
            )
        return cls(sizes, epochs)

    def at(self, epoch: int) -> int:
        """Size in an epoch of the run; they count from 0."""
        return self.sizes[bisect_right(list(accumulate(self.epochs)), epoch)]


def _epochs(own: str, budget: int, text: str) -> int:
    if own.endswith("%"):
        return max(1, round(budget * _number(own[:-1], text) / 100))
    return _number(own, text)


def _number(digits: str, text: str) -> int:
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= LONGEST and int(digits) > 0):
        raise ValueError(
            f"{text!r:.80} does not have the form 16,24,32, or with epochs or parts of the run for all but the last, "
            "16:4,24:4,32 or 16:33%,24:25%,32"
        )
    return int(digits)
