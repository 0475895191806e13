"""A run on the digits, trained while the site is made: its report as a page, and the pictures of its growth.

    python docs/extensions/live.py RUN

writes the pictures that README.md shows, from the run folder RUN, to ``docs/pictures``.
"""

import re
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory

from sphinx.application import Sphinx

from incnet.report import read_runs
from incnet.report.growth import draw_growth
from incnet.report.style import COLOURS

PICTURES = Path(__file__).parents[1] / "pictures"
FONT = "font-family: system-ui, sans-serif;"


def train(app: Sphinx) -> None:
    """Train on the digits, as the first command of the README does, unless it was done for the pages made before."""
    folder = Path(app.srcdir, "live")
    if not (folder / "digits.html").exists():
        folder.mkdir(exist_ok=True)
        with TemporaryDirectory() as temporary:
            run = Path(temporary, "digits")
            command = [sys.executable, "-m", "incnet.train", "digits", "--out", run]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            shutil.copy(run / "report.html", folder / "digits.html")
    app.config.html_extra_path.append(str(folder))


def picture(run: Path, scheme: int, width: str) -> str:
    """Return how a run grew, as SVG in light (0) or dark (1) colours, wide or narrow: the drawing of its report."""
    histories, _ = read_runs([run])
    drawing = draw_growth(histories[0])
    assert drawing is not None
    css = (resources.files("incnet.report") / "page.css").read_text(encoding="utf-8")
    rules = re.findall(r"^\.growth (.*})$", css, re.MULTILINE)
    colours = " ".join(f"--{name}: {pair[scheme]};" for name, pair in COLOURS.items())
    style = "\n".join([f".growth {{ {colours} {FONT} }}", *rules])
    return (
        str(getattr(drawing, width)).replace(">", f' xmlns="http://www.w3.org/2000/svg"><style>{style}</style>', 1)
        + "\n"
    )


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("builder-inited", train)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    for scheme, name in enumerate(("light", "dark")):
        for width in ("wide", "narrow"):
            path = PICTURES / f"growing-{width}-{name}.svg"
            path.write_text(picture(Path(sys.argv[1]), scheme, width), encoding="utf-8")
