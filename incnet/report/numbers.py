"""Numbers as a page shows them."""

from __future__ import annotations

from collections.abc import Sequence

from incnet.report.arms import Spread
from incnet.report.interval import Interval

__all__ = ["NOTHING", "between", "duration", "engineering", "listing", "percent", "plain", "share", "whole"]

NOTHING = "\N{EN DASH}"
PREFIXES = ("", "k", "M", "G", "T", "P", "E")


def percent(value: Spread | None) -> str:
    """Return a fraction in percent, with its deviation where there is one: 82.8 ± 0.7."""
    if value is None:
        return NOTHING
    deviation = "" if value.deviation is None else f" ± {100 * value.deviation:.1f}"
    return f"{100 * value.mean:.1f}{deviation}"


def between(interval: Interval | None) -> str:
    """Return an interval of fractions in percent: 95.7 to 98.9."""
    return NOTHING if interval is None else f"{100 * interval.low:.1f} to {100 * interval.high:.1f}"


def share(fraction: float, digits: int = 1) -> str:
    """Return a fraction in percent, with the sign: 74.2 %."""
    return f"{100 * fraction:.{digits}f} %"


def engineering(value: Spread | float | None, unit: str = "") -> str:
    """Three digits and a prefix: 156 T, or 156 TFLOP with a unit."""
    if value is None:
        return NOTHING
    number = value.mean if isinstance(value, Spread) else float(value)
    power = 0
    while abs(number) >= 999.5 and power < len(PREFIXES) - 1:
        number, power = number / 1000, power + 1
    return f"{plain(number)} {PREFIXES[power]}{unit}".rstrip()


def plain(number: float) -> str:
    """Three digits, without a power of ten, and without a point in whole numbers."""
    if number == int(number) and abs(number) < 1000:
        return str(int(number))
    return f"{number:.{max(0, 3 - len(str(int(abs(number)))))}f}"


def whole(value: Spread | None) -> str:
    """Return a count, which as a mean may have a tenth."""
    return NOTHING if value is None else f"{value.mean:,.1f}".removesuffix(".0")


def duration(value: Spread | float | None) -> str:
    """Return seconds as s, min or h: 39 s, 2 min 34 s, 5 h 7 min."""
    if value is None:
        return NOTHING
    seconds = value.mean if isinstance(value, Spread) else value
    if seconds < 100:
        return f"{plain(seconds) if seconds < 10 else round(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def listing(words: Sequence[str]) -> str:
    """Join words as a sentence does: a, b and c."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
