"""The page in a browser: silent, narrow, sortable, and readable without its script."""

import dataclasses
import shutil

import pytest

from harness.page import html
from tests.page import synthetic

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: the page was not opened in a browser"
)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no chromium on this machine: the page was not opened in a browser")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    made = synthetic.make()
    written = tmp_path_factory.mktemp("page") / "report.html"
    written.write_text(html.render(made.summary, made.samples, made.run, duration_s=312.0), encoding="utf-8")
    return written


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    found = [c for c in synthetic.cells(("torch", "jax")) if c.workload == "rn50_conv1"]
    made = synthetic.make([dataclasses.replace(c, workload=f"layer{i:02}") for i in range(60) for c in found], {})
    written = tmp_path_factory.mktemp("page") / "large.html"
    written.write_text(html.render(made.summary, made.samples, made.run), encoding="utf-8")
    return written


@pytest.fixture
def opened(browser):
    """Opens a page and, at the end, holds it to silence."""
    said, contexts = [], []

    def opens(path, fragment="", **how):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **how})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url) if not request.url.startswith("file:") else None)
        page.goto(path.as_uri() + fragment)
        return page

    yield opens
    for context in contexts:
        context.close()
    assert said == []


def column(page, place):
    return page.eval_on_selector_all(f"#table tbody tr > :nth-child({place})", "cells => cells.map(c => c.textContent)")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_never_scrolls_sideways(opened, path, scheme, width):
    page = opened(path, viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.documentElement.dataset.ready") == "1"
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 24, 29)"}[scheme]


def test_sorting(opened, path):
    page = opened(path)
    button = page.locator("#table th[data-k=median] button")
    button.click()
    assert page.get_attribute("#table th[data-k=median]", "aria-sort") == "descending"
    shown = column(page, 7)
    known = [float(text) for text in shown if text != "–"]
    assert known == sorted(known, reverse=True)
    assert set(shown[len(known) :]) == {"–"}
    button.click()
    assert page.get_attribute("#table th[data-k=median]", "aria-sort") == "ascending"
    shown = column(page, 7)
    assert [float(text) for text in shown[: len(known)]] == sorted(known)
    assert set(shown[len(known) :]) == {"–"}


def test_filtering(opened, path):
    page = opened(path)
    page.fill("#filter", "backward torch.conv2d eager")
    assert page.text_content("#count") == "10 of 66 cells"
    assert set(column(page, 3)) == {"PyTorch"}
    assert page.evaluate("location.hash").startswith("#results?q=backward")
    page.fill("#filter", "wgrad jax compiled")
    assert page.text_content("#count") == "1 of 66 cells"
    page.fill("#filter", "nothing is called that")
    assert "No cell matches" in page.text_content("#table tbody")
    page.click("#clear")
    assert len(column(page, 1)) == 66


def test_a_link_to_the_filtered_table(opened, path):
    page = opened(path, "#results?q=oom&sort=-workload")
    assert column(page, 6) == ["oom", "oom"]


def test_the_theme_button_stays_pressed(opened, path):
    page = opened(path, color_scheme="light")
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 29)"
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_a_large_table_comes_in_pages(opened, large):
    page = opened(large)
    assert page.text_content("#count") == "Rows 1–50 of 360 (360 cells in all)"
    page.click("#next")
    assert page.text_content("#count") == "Rows 51–100 of 360 (360 cells in all)"
    assert len(column(page, 1)) == 50
    page.fill("#filter", "layer07 jax")
    assert column(page, 1) == ["layer07"] * 3
    assert page.eval_on_selector("#table tbody use", "use => document.querySelector(use.getAttribute('href')) !== null")


def test_without_script_all_is_there(opened, path):
    page = opened(path, java_script_enabled=False)
    assert page.locator("svg.chart").count() == 4
    assert page.locator("#table tbody tr").count() == 66
    assert page.locator("#controls").is_hidden()
    assert "60 of 66 cells" in page.inner_text(".verdict")


def test_printing(opened, path, tmp_path):
    page = opened(path, color_scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("nav.toc").is_hidden()
    page.pdf(path=str(tmp_path / "page.pdf"))
    assert (tmp_path / "page.pdf").stat().st_size > 10_000
