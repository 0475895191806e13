"""A link to a folder of the repository, which has no page of its own, is its text."""

from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx


def unlink_folders(app: Sphinx, doctree: nodes.document) -> None:
    """Replace references to folders by what they show."""
    for node in list(doctree.findall(pending_xref)):
        if node["reftype"] == "myst" and node["refdomain"] is None:
            _, path = app.env.relfn2path(node["reftarget"])
            if Path(path).is_dir():
                node.replace_self(node.children)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("doctree-read", unlink_folders)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
