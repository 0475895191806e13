"""Links inside the site are followed when it is made: one that leads nowhere is a warning.

Sphinx resolves its own references; this reads what it has written, with whatever came from raw HTML.
"""

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sphinx.application import Sphinx
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)


class Page(HTMLParser):
    """A page's anchors, and what it refers to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.targets: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.anchors.add(value)
            elif name in ("href", "src") and value:
                self.targets.add(value)


def broken_links(site: Path) -> Iterator[tuple[Path, str]]:
    """Yield the links of a site's pages that lead to no file, or to no place in a page: page, target."""
    pages = {path.resolve(): Page(path) for path in site.rglob("*.html")}
    for path, page in pages.items():
        for target in sorted(page.targets):
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            leads_to = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = pages.get(leads_to)
            if not leads_to.exists() or (known and parts.fragment and unquote(parts.fragment) not in known.anchors):
                yield path, target


def check(app: Sphinx, error: Exception | None) -> None:
    """Warn of broken links."""
    if error is None and app.builder.format == "html":
        for path, target in broken_links(Path(app.outdir)):
            LOGGER.warning("%s links to %s, which is not there", path.name, target)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("build-finished", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
