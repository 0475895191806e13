"""How far an accuracy that was measured on some images may be from that on all such images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

__all__ = ["CONFIDENCE", "Interval", "wilson"]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """From ``low`` to ``high``, fractions."""

    low: float
    high: float

    def overlaps(self, other: Interval) -> bool:
        """Whether some value is in both."""
        return self.low <= other.high and other.low <= self.high


def wilson(accuracy: float, images: int) -> Interval:
    """Return Wilson's score interval of 95 % for a share ``accuracy`` of ``images`` images, at least one.

    With z the normal quantile, p the share and n the number::

        (p + z^2 / 2n  +-  z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)

    Source: E. B. Wilson (1927), Probable inference, the law of succession, and statistical inference.
    """
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    middle = accuracy + z * z / (2 * images)
    half = z * math.sqrt(accuracy * (1 - accuracy) / images + z * z / (4 * images * images))
    scale = 1 + z * z / images
    low, high = (middle - half) / scale, (middle + half) / scale
    return Interval(low if accuracy > 0 else 0.0, high if accuracy < 1 else 1.0)  # which rounding would miss
