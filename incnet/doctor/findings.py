"""What was found, and whether it is as it should be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    name, value : str
        What, and what it is.
    state : {"fact", "good", "missing", "wrong"}
        ``missing`` is what may be missing. What is ``wrong`` keeps incnet from working as it should.
    remedy : str
        What to do.
    """

    name: str
    value: str
    state: Literal["fact", "good", "missing", "wrong"] = "fact"
    remedy: str = ""
