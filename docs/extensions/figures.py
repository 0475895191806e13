"""Figures follow the page's colours: each SVG that is drawn in the light ones of a report gets a dark form beside it.

Those of the results, of the book and of the how-to pages are drawn so. The theme shows the one or the other form.
"""

import os
import re
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

from incnet.report.style import COLOURS

# Light and dark; the dark paper is the theme's.
DARK = dict(COLOURS.values()) | {COLOURS["paper"][0]: "#131416"}


def in_the_dark(svg: str) -> str:
    """Return a drawing in dark colours, or as it was where it has none of the light ones."""
    return re.sub("|".join(DARK), lambda match: DARK[match[0]], svg)


def add_dark_forms(app: Sphinx, doctree: nodes.document) -> None:
    """Put a dark form behind each figure of a page."""
    folder = Path(app.outdir).parent / "dark"
    folder.mkdir(parents=True, exist_ok=True)
    for image in list(doctree.findall(nodes.image)):
        path = Path(app.env.relfn2path(image["uri"])[1])
        if path.suffix != ".svg" or {"only-light", "only-dark"} & set(image["classes"]):
            continue
        svg = path.read_text(encoding="utf-8")
        dark = in_the_dark(svg)
        if dark != svg:
            (folder / path.name).write_text(dark, encoding="utf-8")
            twin = image.deepcopy()
            twin["uri"] = "/" + os.path.relpath(folder / path.name, app.srcdir)
            image["classes"].append("only-light")
            twin["classes"].append("only-dark")
            image.parent.insert(image.parent.index(image) + 1, twin)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("doctree-read", add_dark_forms, priority=400)  # before the images of a page are collected
    return {"parallel_read_safe": True, "parallel_write_safe": True}
