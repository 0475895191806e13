"""Random changes that leave an image's class as it is: small shifts and mirror images."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from .dataset import DataError


@dataclass(frozen=True)
class Augmentation:
    """Shift and mirror each image at random.

    Parameters
    ----------
    shift : int
        Largest shift, in pixels, in each of the four directions; what it uncovers becomes the mean colour.
    flip : bool
        Mirror every other image, left to right.

    Raises
    ------
    DataError
        The shift is negative.
    """

    shift: int
    flip: bool

    def __post_init__(self) -> None:
        if self.shift < 0:
            raise DataError(f"augmentation shift {self.shift} is negative; 0 turns shifting off")

    @classmethod
    def default_for(cls, name: str) -> Self:
        """Return what suits the data set `name`.

        Raises
        ------
        DataError
            No such data set.
        """
        if name not in _DEFAULTS:
            raise DataError(f"no augmentation for {name!r}; choose one of {', '.join(_DEFAULTS)}")
        return cls(*_DEFAULTS[name])

    def draw(self, n: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Draw for `n` images: shifts int64 (n, 2), down and to the right, and flips bool (n,)."""
        shifts = rng.integers(-self.shift, self.shift, size=(n, 2), endpoint=True)
        flips = rng.random(n) < 0.5 if self.flip else np.zeros(n, np.bool_)
        return shifts, flips


# Shift and flip. Digits are small, and mirrored they are other signs, or none.
_DEFAULTS = {
    "digits": (1, False),
    "cifar10": (4, True),
    "cifar100": (4, True),
    "cifar100-coarse": (4, True),
    "fashion-mnist": (2, True),
}
