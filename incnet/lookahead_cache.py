"""What a look-ahead computes once: the meaning of ``--lookahead-cache``."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Cache"]


@dataclass(frozen=True)
class Cache:
    """What is computed once.

    Parameters
    ----------
    views : int
        Features of each image, at least 1.
    augmented : bool
        Whether of augmented images; else of the images as they are, in a single view.
    """

    views: int
    augmented: bool

    def computes(self, epoch: int) -> bool:
        """Whether the prefix runs in this epoch of a look-ahead, for which nothing was computed before."""
        return epoch < self.views

    def keeps(self, epoch: int, epochs: int) -> bool:
        """Whether a later one of the look-ahead's ``epochs`` reads what this one computes, or reads itself."""
        return epoch % self.views + self.views < epochs

    @classmethod
    def parse(cls, text: str) -> Cache | None:
        """Read ``off`` (None), ``fixed`` or ``views:V``.

        Raises
        ------
        ValueError
            If it is anything else.
        """
        if text == "off":
            return None
        if text == "fixed":
            return cls(1, augmented=False)
        if match := re.fullmatch(r"views:([1-9]\d{0,5})", text, re.ASCII):
            return cls(int(match[1]), augmented=True)
        raise ValueError(f"{text!r:.40} is none of off, fixed, and views:V with a number V of at least 1")
