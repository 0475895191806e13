"""Colours by name."""

from __future__ import annotations

import re

__all__ = ["COLOURS", "Colour", "parse_colour"]

Colour = tuple[int, int, int]
COLOURS: dict[str, Colour] = {"white": (255, 255, 255), "black": (0, 0, 0)}


def parse_colour(text: str) -> Colour:
    """Return red, green and blue, 0 to 255, of a name in :data:`COLOURS`, or of ``#rrggbb``.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if text in COLOURS:
        return COLOURS[text]
    if not re.fullmatch("#[0-9a-fA-F]{6}", text):
        raise ValueError(f"choose {', '.join(COLOURS)}, or a colour such as #808080")
    red, green, blue = bytes.fromhex(text[1:])
    return red, green, blue
