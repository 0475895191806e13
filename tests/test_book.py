"""The book's chapters and the how-to pages as text; building the site executes them."""

import ast
import inspect
import operator
import re
from pathlib import Path

import pytest

import incnet

ROOT = Path(__file__).parents[1]
CHAPTERS = sorted((ROOT / "docs" / "book").glob("[1-9]-*.md"))
HOWTO = sorted((ROOT / "docs" / "howto").glob("*.md"))
CELL = re.compile(r"```\{code-cell\} ipython3\n(?:---\n.*?---\n|:.*?\n)*(.*?)```", re.DOTALL)
# What fits into a cell on the page, without scrolling.
WIDTH = 86

of_chapters, of_pages = (
    pytest.mark.parametrize(name, [pytest.param(path.read_text(), id=path.stem) for path in paths])
    for name, paths in (("chapter", CHAPTERS), ("page", [*CHAPTERS, *HOWTO]))
)


def cells(page):
    """Yield the code of each cell, without what only IPython reads."""
    for code in CELL.findall(page):
        yield re.sub(r"^%.*\n", "", code, flags=re.MULTILINE)


def prose(chapter):
    """Text outside of cells, formulas, code, quotations and links' targets."""
    text = re.sub(r"\A---\n.*?\n---\n", "", chapter, flags=re.DOTALL)
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    text = re.sub(r'\{[\w:]+\}`[^`]*`|`[^`]*`|"[^"]*"', "", text)
    return re.sub(r"\]\([^)]*\)", "]", text)


@of_chapters
def test_code_uses_the_public_names_only(chapter):
    used = set()
    for code in cells(chapter):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Attribute):
                assert not node.attr.startswith("_") or node.attr.endswith("__"), f"{node.attr} is private"
                if isinstance(node.value, ast.Name) and node.value.id == "incnet":
                    used.add(node.attr)
    assert used
    assert used <= set(incnet.__all__)


@of_pages
def test_calls_name_parameters_that_there_are(page):
    for code in cells(page):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Call) and (name := re.fullmatch(r"incnet\.([\w.]+)", ast.unparse(node.func))):
                parameters = inspect.signature(operator.attrgetter(name[1])(incnet)).parameters
                unknown = {keyword.arg for keyword in node.keywords if keyword.arg} - set(parameters)
                assert not unknown, f"{ast.unparse(node)}: there is no {unknown}"


@of_pages
def test_code_fits_the_page(page):
    wide = [line for code in cells(page) for line in code.splitlines() if len(line) > WIDTH]
    assert wide == []


@of_chapters
def test_measured_numbers_come_from_cells(chapter):
    """What was measured has a point or a unit; such a number in the text would go stale."""
    assert not re.findall(r"\b\d+\.\d+\b|\b\d+ ?%|\b\d+ (?:ms|s|seconds|MB)\b", prose(chapter))


@of_chapters
def test_there_are_figures_exercises_and_answers(chapter):
    exercises = re.findall(r"^\*\*(\d)\.\*\* ", chapter, re.MULTILINE)
    assert exercises == [str(number) for number in range(1, len(exercises) + 1)]
    assert len(exercises) >= 3
    assert chapter.count("<details>\n<summary>Answer</summary>\n\n") == len(exercises)
    assert chapter.count("\n\n</details>\n") == len(exercises)
    assert "plt.subplots(" in chapter


@of_chapters
def test_it_ends_in_the_source(chapter):
    *_, end = re.split(r"^## ", chapter, flags=re.MULTILINE)
    assert end.startswith("In the source\n")
    links = re.findall(r"\]\(\.\./\.\./([^)]*)\)", end)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
