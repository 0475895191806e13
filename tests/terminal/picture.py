"""Pictures of a screen: ``python -m tests.terminal.picture FOLDER COLUMNS COMMAND...`` takes one a second.

Needs Pillow, and a monospaced font: DejaVu, as matplotlib brings it.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont

from .screen import Session

FONT = Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSansMono.ttf"
SIZE = 15
COLOURS = {
    "default": "#d8d8d8", "black": "#555555", "red": "#e06c75", "green": "#98c379", "brown": "#e5c07b",
    "blue": "#61afef", "magenta": "#c678dd", "cyan": "#56b6c2", "white": "#ffffff",
}  # fmt: skip
PAPER = "#1e1e1e"


def draw(session: Session, path: Path) -> None:
    """Write the screen as a PNG."""
    font = ImageFont.truetype(str(FONT), SIZE)
    bold = ImageFont.truetype(str(FONT.with_name("DejaVuSansMono-Bold.ttf")), SIZE)
    width, height = round(font.getlength("M")), SIZE + 4
    screen = session.screen
    image = Image.new("RGB", (width * screen.columns + 8, height * screen.lines + 8), PAPER)
    pen = ImageDraw.Draw(image)
    for row in range(screen.lines):
        for column in range(screen.columns):
            cell = screen.buffer[row][column]
            name = cell.fg.removeprefix("bright")
            colour = COLOURS.get(name, f"#{name}" if len(name) == 6 else COLOURS["default"])
            pen.text((4 + width * column, 4 + height * row), cell.data, colour, bold if cell.bold else font)
    image.save(path)


def main(folder: str, columns: str, *command: str) -> int:
    """Run the command, and draw."""
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    with Session(" ".join(command) if len(command) == 1 else command, columns=int(columns), rows=30) as session:
        start, taken = time.monotonic(), 0

        def due() -> bool:
            nonlocal taken
            if time.monotonic() - start > taken:
                draw(session, out / f"{taken:03d}.png")
                taken += 1
            return False

        try:
            session.wait_until(due)
        except AssertionError:  # it has ended
            draw(session, out / "end.png")
        return session.wait()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
