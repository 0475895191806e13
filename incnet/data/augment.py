"""Random changes that leave an image's class as it is: small shifts and mirror images."""

import re
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from .error import DataError


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
        The shift is negative, or no whole number.
    """

    shift: int
    flip: bool

    def __post_init__(self) -> None:
        if not isinstance(self.shift, int | np.integer):
            raise DataError(f"augmentation shift {self.shift!r:.40} is no whole number of pixels")
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

    @classmethod
    def fitting(cls, shape: tuple[int, int, int]) -> Self:
        """Return what suits images (H, W, C) of which nothing else is known: shifts by an eighth, mirrored in colour.

        Grey pictures often are of signs, which mirrored are other ones, or none.
        """
        height, width, channels = shape
        return cls(min(height, width) // 8, channels == 3)

    @classmethod
    def parse(cls, text: str, default: Self) -> Self:
        """Return what an option names: none, shift or shift+mirror, with :N for the pixels of the largest shift.

        Raises
        ------
        ValueError
            If it names none of these.
        """
        found = re.fullmatch(r"(none)|(shift)(\+mirror)?(?::(\d{1,3}))?", text)
        if found is None:
            raise ValueError(f"{text!r:.40}: choose none, shift, shift+mirror, or with pixels shift:4, shift+mirror:4")
        none, _, mirror, pixels = found.groups()
        if none:
            return cls(0, False)
        return cls(default.shift if pixels is None else int(pixels), bool(mirror))

    def __str__(self) -> str:
        """As :meth:`parse` reads it."""
        if not self.shift and not self.flip:
            return "none"
        return f"shift{'+mirror' if self.flip else ''}:{self.shift}"

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
    "mnist": (2, False),
    "fashion-mnist": (2, True),
}
