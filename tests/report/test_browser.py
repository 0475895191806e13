"""The page in a real browser. Needs playwright from PyPI and a Chromium on the path: ``apt-get install chromium``."""

import shutil
from contextlib import contextmanager

import pytest

from incnet.report import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# Root has no sandbox; the others keep the browser itself from asking for updates.
OPTIONS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the path")


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(OPTIONS))
        yield browser
        browser.close()


@contextmanager
def shown(chromium, path, width, scheme):
    """Open a page, and fail if it complains or asks for anything but itself."""
    complaints = []
    page = chromium.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: None if request.url == path.as_uri() else complaints.append(request.url))
    page.goto(path.as_uri())
    yield page
    page.close()
    assert complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_and_shows_its_figures(chromium, runs, tmp_path, width, scheme):
    path = tmp_path / "report.html"
    write_report([runs], path)
    with shown(chromium, path, width, scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        boxes = [figure.bounding_box() for figure in page.locator(".figures > figure > svg").all()]
        assert len(boxes) == 8
        for box in boxes:
            assert box["width"] > 300
            assert box["height"] > 150
            assert 0 <= box["x"] <= box["x"] + box["width"] <= width
        columns = {round(box["x"]) for box in boxes}
        assert len(columns) == (2 if width == 1280 else 1)


def test_figures_change_colour_with_the_page(chromium, run, tmp_path):
    path = tmp_path / "report.html"
    write_report([run], path)
    colours = {}
    for scheme in ("light", "dark"):
        with shown(chromium, path, 1280, scheme) as page:
            text = page.locator(".figures figure svg text").first
            colours[scheme] = text.evaluate("element => getComputedStyle(element).fill")
            page.emulate_media(media="print", color_scheme="dark")
            assert text.evaluate("element => getComputedStyle(element).fill") == "rgb(29, 35, 41)"
    assert colours == {"light": "rgb(29, 35, 41)", "dark": "rgb(232, 235, 238)"}


def test_decisions_open_and_close(chromium, runs, tmp_path):
    path = tmp_path / "report.html"
    write_report([runs], path)
    with shown(chromium, path, 390, "light") as page:
        reason = page.get_by_text("the reason at 4").first
        assert not reason.is_visible()
        page.locator("summary").filter(has_text="look-ahead, seed 0").click()
        assert reason.is_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_drawing_of_the_network_fits(chromium, run, tmp_path):
    path = tmp_path / "report.html"
    write_report([run], path)
    for width, shown_one in ((1280, "wide"), (390, "narrow")):
        with shown(chromium, path, width, "light") as page:
            (drawing,) = [svg for svg in page.locator("svg.growth").all() if svg.is_visible()]
            assert drawing.evaluate("element => element.parentElement.className") == shown_one
            frame = drawing.bounding_box()
            for text in drawing.locator("text").all():
                box = text.bounding_box()
                assert frame["x"] <= box["x"] <= box["x"] + box["width"] <= frame["x"] + frame["width"] + 1
                assert box["height"] > 9  # it can be read


COLLISIONS = """svg => {
    const shown = [...svg.querySelectorAll("text")].filter(text => getComputedStyle(text).visibility == "visible");
    const boxes = shown.map(text => [text.textContent, text.getBoundingClientRect()]).filter(([_, box]) => box.width);
    const found = [];
    boxes.forEach(([one, a], i) => boxes.slice(0, i).forEach(([other, b]) => {
        const apart = a.right <= b.left + 1 || b.right <= a.left + 1 || a.bottom <= b.top + 3 || b.bottom <= a.top + 3;
        if (!apart) found.push([one, other]);
    }));
    return found;
}"""


@pytest.mark.parametrize("folder", ["run", "runs"])
def test_no_labels_of_a_figure_collide(chromium, folder, tmp_path, request):
    """With one seed and with several."""
    path = tmp_path / "report.html"
    write_report([request.getfixturevalue(folder)], path)
    with shown(chromium, path, 1280, "light") as page:
        for svg in page.locator("figure svg").all():
            assert svg.evaluate(COLLISIONS) == []


def test_values_show_under_the_pointer(chromium, run, tmp_path):
    path = tmp_path / "report.html"
    write_report([run], path)
    with shown(chromium, path, 1280, "light") as page:
        hint = page.locator("#n0-learning-curves g.hint").nth(5)
        assert not hint.locator("text").is_visible()
        hint.locator("circle").hover(force=True)
        assert hint.locator("text").is_visible()
        assert "validation accuracy 60 %" in hint.text_content()
