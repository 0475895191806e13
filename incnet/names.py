"""Names that options choose among, which can be listed without loading what they name; and near misses of them.

And what parts of a network are called.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

__all__ = ["ARCHITECTURES", "DATASETS", "DEEPEST", "DEPTH", "counted", "did_you_mean", "up_to"]

DATASETS = ("digits", "cifar10", "cifar100", "cifar100-coarse", "mnist", "fashion-mnist")
# Besides them resnetN, for any other N = 6n + 2 up to the deepest of its paper: a bound for what a file can ask for.
ARCHITECTURES = ("resnet20", "resnet32", "resnet44", "resnet56", "vgg16", "vgg16-bn")
DEEPEST = 1202
NUMBERED = re.compile(r"S1-S\d+", re.ASCII)
# Partitions that grow a network within its widths, in 2 sub-networks or more.
DEPTH = re.compile(r"depth(?::([2-9]|[1-9]\d{1,3}))?", re.ASCII)


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """Return ``"; did you mean NAME?"`` for the name that is nearest to ``word``, or "" if none is near."""
    plain = {_plain(name): name for name in names}
    near = get_close_matches(_plain(word), plain, n=1)
    return f"; did you mean {plain[near[0]]}?" if near else ""


def counted(number: int, one: str, several: str = "") -> str:
    """Return a number of things: ``1 epoch``, ``1,797 images``."""
    return f"{number:,} {one if number == 1 else several or f'{one}s'}"


def up_to(subnetworks: Sequence[str]) -> str:
    """Name the network that has these sub-networks: S1, S1-S3; stem, up to top, if they are called otherwise."""
    first, last = subnetworks[0], subnetworks[-1]
    if len(subnetworks) == 1:
        return last
    return f"{first}-{last}" if NUMBERED.fullmatch(f"{first}-{last}") else f"up to {last}"


def _plain(name: str) -> str:
    """Letters, digits and ``+`` alone: hyphens and capitals are what people mistake most."""
    return "".join(character for character in name.lower() if character.isalnum() or character == "+")
