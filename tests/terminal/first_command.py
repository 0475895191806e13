"""The README's first command in a pseudo-terminal of 80 columns: ``python -m tests.terminal.first_command``.

It installs the clone in the environment of this Python, and trains, word for word as a reader copies it. Exits with 0
if the command does, and its screen looks right.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from .screen import Session

__all__ = ["first_command"]

README = Path(__file__).parents[2] / "README.md"


def first_command() -> str:
    """Return the first line of code in the README."""
    found = re.search(r"^    (\S.*)$", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert found
    return found[1]


def main() -> int:
    """Run the command as a person does; return the exit code."""
    command = first_command()
    print(command)
    with Session(command, columns=80, rows=24, cwd=README.parent) as session:
        code = session.wait()
    print(session.text)
    if code:
        return code
    session.check(begin="digits from scikit-learn: ")
    assert re.search(r"test accuracy \d\d\.\d\d% \(S1-S3, best validation weights\)$", session.rows[-1]), "no result"
    return 0


if __name__ == "__main__":
    sys.exit(main())
