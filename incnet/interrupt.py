"""Ctrl-C while a command's modules are loaded, which takes a second or two, ends in a line and not in a traceback.

Imported where a module of the package is run, ``python -m incnet.train``. The script ``incnet`` loads modules when it
has begun, and needs none of this; later on each command says itself what is left of its work.
"""

from __future__ import annotations

import sys
from types import TracebackType

__all__: list[str] = []


def _tell(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)  # and Python ends as a process that SIGINT has ended
    else:
        sys.__excepthook__(kind, error, traceback)


sys.excepthook = _tell
