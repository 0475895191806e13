"""Units: of memory, as people write it (512MB, 2GB, 1.5GiB), and of computation."""

from __future__ import annotations

import re

__all__ = ["FLOPS_PER_MAC", "parse_size"]

# A multiplication and an addition.
FLOPS_PER_MAC = 2

# Decimal and binary prefixes, as IEC 80000-13 has them.
UNITS = {
    "B": 1,
    **{f"{prefix}B": 10 ** (3 * power) for power, prefix in enumerate("kMGT", start=1)},
    **{f"{prefix}iB": 2 ** (10 * power) for power, prefix in enumerate("KMGT", start=1)},
}
_SIZE = re.compile(rf"(\d{{1,9}}(?:\.\d{{1,9}})?) ?({'|'.join(UNITS)})", re.ASCII)


def parse_size(text: str) -> int:
    """Bytes in ``text``: a number and one of B, kB, MB, GB, TB, KiB, MiB, GiB, TiB.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    if (match := _SIZE.fullmatch(text)) is None:
        raise ValueError(f"{text!r:.40} is no size: write a number and a unit, such as 500MB, 2GB or 1.5GiB")
    return int(float(match[1]) * UNITS[match[2]])
