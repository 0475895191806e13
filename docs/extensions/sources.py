"""Links from documents to the source: to the page of a module, where there is one.

A link to a Python file or to a package of incnet leads to its description, whose names link to their source. A link to
any other folder, which has no page, is its text.
"""

from pathlib import Path

from api import modules
from docutils import nodes
from sphinx.addnodes import download_reference, pending_xref
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]


def link_modules(app: Sphinx, doctree: nodes.document) -> None:
    """Replace links to files and folders of the source."""
    for node in [*doctree.findall(download_reference), *doctree.findall(pending_xref)]:
        if node["reftype"] != "myst" or node["refdomain"] is not None:
            continue
        _, name = app.env.relfn2path(node["reftarget"])
        path = Path(name).resolve()
        module = module_of(path)
        if module in modules():
            attributes = {"refdomain": "py", "reftype": "mod", "reftarget": module, "refexplicit": True}
            node.replace_self(pending_xref("", *node.children, **attributes))
        elif path.is_dir():
            node.replace_self(node.children)


def module_of(path: Path) -> str:
    """Return the name that a file or folder of the repository has as a module."""
    if not path.is_relative_to(ROOT):
        return ""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("incnet", *parts) if parts[:1] == ("kernels",) else parts)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("doctree-read", link_modules)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
