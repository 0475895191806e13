"""What the site is made of: pages from the source, and checks. Sphinx makes the pages themselves, and follows links."""

import importlib
import inspect
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import incnet
from incnet.__main__ import COMMANDS
from incnet.commandline import entries
from incnet.config import Config

pytest.importorskip("sphinx", reason="Sphinx is not installed")

ROOT = Path(__file__).parents[1]


@pytest.fixture
def extension(monkeypatch):
    """Import an extension, as docs/conf.py does."""
    monkeypatch.syspath_prepend(ROOT / "docs" / "extensions")
    yield importlib.import_module
    for name in ("api", "figures", "links", "live", "options", "sources"):
        sys.modules.pop(name, None)


def test_every_public_name_has_a_page_and_stands_in_a_group(extension):
    api = extension("api")
    assert [name for names in api.groups().values() for name in names] == incnet.__all__
    assert list(api.public().values()) == incnet.__all__
    where = {name: place for place, name in api.public().items()}
    assert where["Graph"] == ("incnet.graph", "Graph")
    assert where["residual_block"] == ("incnet.layers.residual", "residual_block")
    for name, (module, at_home) in where.items():
        assert getattr(importlib.import_module(module), at_home) is getattr(incnet, name)


def test_what_is_public_is_described_once(extension):
    api = extension("api")
    pages = [api.module_page(module) for name, module in api.modules().items() if name.count(".") == 1]
    pages += [api.object_page(*place, name) for place, name in api.public().items()]
    described = re.findall(r"^\.\. auto(?:class|function):: (\S+)", "\n".join(pages), re.MULTILINE)
    assert len(described) == len(set(described)) > 300
    assert {"incnet.Graph", "incnet.growth.criterion.Verdict", "incnet.kernels.reference.conv.im2col"} <= set(described)
    assert "incnet.graph.Graph" not in described


@pytest.mark.parametrize("name", incnet.__all__)
def test_every_parameter_of_a_public_name_is_described(name):
    """By its name in a list of parameters or attributes, or in the text; the page of options has those of Config."""
    described = getattr(incnet, name)
    if name in ("Array", "ops", "Config") or (isinstance(described, type) and issubclass(described, Exception)):
        return
    document = inspect.getdoc(described)
    listed = {word for names in re.findall(r"^([\w, ]+) : ", document, re.MULTILINE) for word in names.split(", ")}
    parameters = [each for each in inspect.signature(described).parameters if each not in ("args", "kwargs")]
    assert [each for each in parameters if each not in listed and f"``{each}``" not in document] == []


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("incnet.growth.insertion.insert", ("incnet.growth.insertion", "insert", "")),
        ("incnet.layers.residual_block", ("incnet.layers.residual", "residual_block", "")),
        ("incnet.graph.Graph.cost", ("incnet.graph", "Graph", ".cost")),
        ("incnet.report.Path", ("pathlib", "Path", "")),
        ("incnet.nothing.of_the_kind", None),
    ],
)
def test_names_are_found_where_they_are_defined(target, found, extension):
    assert extension("api").locate(target) == found


def test_the_page_of_options_has_every_option_of_every_command(extension):
    options = extension("options")
    for command, (module, name, _) in COMMANDS.items():
        kind = getattr(importlib.import_module(module), name)
        page = "\n".join(options.section(command))
        inherited = issubclass(kind, Config) and kind is not Config
        for entry in entries(kind):
            call = entry.call.replace("[no-]", "")
            assert inherited or f".. option:: {call}" in page, (command, call)
    train = "\n".join(options.section("train"))
    assert ".. option:: --augment, --no-augment" in train
    assert "*Default:* 5." in train.split(".. option:: --window N")[1].split(".. option")[0]
    assert "With :option:`--growth <--growth>` slope-angle." in train
    assert ":option:`--threads <incnet train --threads>`" in "\n".join(options.section("study"))


def test_text_of_options_stands_for_itself(extension):
    linked = extension("options").linked
    assert linked(Config, "'a*b' | x_y, --lr or --no-average, --nothing") == (
        r"'a\*b' \| x\_y, :option:`--lr <--lr>` or :option:`--no-average <--no-average>`, ``--nothing``"
    )


def test_figures_have_a_form_for_dark_pages(extension):
    """Those of the results and those of the book have the colours that have a dark one, and no text without."""
    figures = extension("figures")
    assert figures.in_the_dark("fill: #ffffff; stroke: #0072b2; x: #777777") == (
        "fill: #131416; stroke: #58b0ea; x: #777777"
    )
    for path in ROOT.glob("docs/results/*.svg"):
        svg = path.read_text()
        assert {"#ffffff", "#1d2329"} <= set(re.findall("#[0-9a-f]{6}", svg)) <= set(figures.DARK), path.name
        assert not re.search("|".join(figures.DARK), figures.in_the_dark(svg))
    style = (ROOT / "docs" / "book" / "book.mplstyle").read_text()
    assert {f"#{colour}" for colour in re.findall(r"\b[0-9a-f]{6}\b", style)} <= set(figures.DARK)


def test_broken_links_are_found(extension, tmp_path):
    (tmp_path / "a.html").write_text('<a href="b.html#here">x</a><a href="https://x.org">x</a><a href="#top" id="top">')
    (tmp_path / "b.html").write_text('<h1 id="here">x</h1>')
    assert list(extension("links").broken_links(tmp_path)) == []
    (tmp_path / "c.html").write_text('<a href="b.html#there">x</a><img src="c.svg"><a href="d%20e.html">x</a>')
    found = [target for _, target in extension("links").broken_links(tmp_path)]
    assert found == ["b.html#there", "c.svg", "d%20e.html"]


@pytest.mark.parametrize(
    "document", ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))]
)
def test_documents_link_to_what_is_there(document):
    """In the repository as well; the site's pages that are made from the source are not there."""
    made = {"options.rst", "api/index.rst", "digits.html"}
    text = (ROOT / document).read_text()
    for link in re.findall(r"\]\((?!https?:)([^)#]+)|(?:src|srcset|href)=\"(?!https?:)([^\"#]+)", text):
        target = "".join(link)
        assert target in made or ((ROOT / document).parent / target).exists(), target


def test_the_pictures_are_those_of_a_run_that_grew():
    pictures = {path.stem: path.read_text() for path in (ROOT / "docs" / "pictures").glob("growing-*.svg")}
    assert len(pictures) == 4
    for picture in pictures.values():
        assert ElementTree.fromstring(picture).tag == "{http://www.w3.org/2000/svg}svg"
        assert all(
            f">{word}" in picture or f" {word}" in picture
            for word in ("S1", "S2", "S3", "frozen", "trained", "epoch 30")
        )
    assert len({re.sub("--[a-z]+: #[0-9a-f]+", "", picture) for picture in pictures.values()}) == 2
