"""What the measurement shows on a terminal: the table."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.progress_bar import ProgressBar
from rich.table import Table

from incnet.names import up_to
from incnet.report.numbers import NOTHING, share
from incnet.savings.boundaries import Measured, Setting
from incnet.timing.turns import Quartiles

__all__ = ["table"]

# Columns of a terminal, at most: of the bar, and of a name that is not broken.
BAR, LONGEST = 12, 20


def table(title: str, subnetworks: Sequence[str], rows: Sequence[Measured]) -> Table:
    """Return a row for each setting of a network with these sub-networks; 80 columns are enough."""
    found = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    names = [_name(row.setting, subnetworks) for row in rows]
    found.add_column("frozen", overflow="fold", no_wrap=max(map(len, names)) <= LONGEST)
    for heading in ("backward\nskipped", "predicted\ntime", "measured\ntime", "share of\nwhole"):
        found.add_column(heading, justify="right", no_wrap=True)
    found.add_column("", max_width=BAR)  # gives way where the numbers are wide
    found.add_column("memory", justify="right", no_wrap=True)
    whole = rows[0].timing.seconds.median
    for name, row in zip(names, rows, strict=True):
        found.add_row(
            name,
            "" if row.setting.cached else share(row.expected.skipped, 0),
            f"{_milliseconds(row.expected.ratio * whole)} ms",
            f"{_spread(row.timing.seconds)} ms",
            f"{row.ratio.median:.2f}",
            ProgressBar(total=1, completed=min(1, row.ratio.median)),
            _size(row.expected.memory),
        )
    return found


def _name(setting: Setting, subnetworks: Sequence[str]) -> str:
    if setting.cached:
        return "  cached"
    return up_to(subnetworks[: setting.frozen]) if setting.frozen else "nothing"


def _spread(seconds: Quartiles) -> str:
    """Return the median, and half of what lies between the quartiles, in milliseconds."""
    half = 1e3 * (seconds.upper - seconds.lower) / 2
    digits = _digits(seconds.median)
    return f"{1e3 * seconds.median:,.{digits}f} ± {half:,.{digits}f}"


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:,.{_digits(seconds)}f}"


def _digits(seconds: float) -> int:
    """Digits after the point for a time in milliseconds: three that count."""
    return 2 if seconds < 0.00995 else 1 if seconds < 0.0995 else 0


def _size(size: int | None) -> str:
    if size is None:
        return NOTHING
    return f"{size / 1e6:,.0f} MB" if size < 9.995e8 else f"{size / 1e9:.2f} GB"
