"""The pages in a browser: silent, accessible, reachable by keyboard and by link, narrow, on paper, and without their script."""

import csv
import gzip
import io
import json
import os
import re
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest

from harness.axes import Device, Direction, Mode
from harness.page import html, index
from harness.page.sections import Given
from harness.review import pages
from harness.review.reading import Reading
from harness.spec import Cell, ConvSpec
from tests import builders, settings
from tests.page import synthetic
from tests.page.test_index import nights
from tests.page.test_worth import OTHERS

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
SAMPLE = Path(__file__).parents[2] / "results" / "samples" / "first-cpu-2-cores"
AXE = (Path(__file__).parent / "axe" / "axe.min.js").read_text()
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
ARTEFACTS = os.environ.get("CONVBENCH_SCREENSHOTS", "")  # a folder that screenshots are kept in, for people

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
def made():
    return synthetic.make(synthetic.cells() + synthetic.cells(("torch", "jax"), "gpu:0"))


@pytest.fixture(scope="module")
def path(made, tmp_path_factory):
    worth, (summary, ran) = synthetic.modes(made), synthetic.ran(made, synthetic.calls(made, synthetic.cells()))
    given = Given(summary, made.samples, made.run, duration_s=312.0, index="../index.html", worth=worth, ran=ran)
    return written(tmp_path_factory, html.build(given).text)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """The page of a run of one backend that has a depthwise convolution beside the others."""
    spec = ConvSpec(1, 32, 32, (28, 28), (3, 3), (1, 1), (1, 1), ((1, 1), (1, 1)), groups=32)
    depthwise = Cell("dw", spec, Direction.FPROP, backend="torch", device=Device("cpu"))
    made = synthetic.make([*synthetic.cells(("torch",)), depthwise])
    return written(tmp_path_factory, html.build(Given(made.summary, made.samples, made.run)).text)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The page that `convbench report` makes of the run of three frameworks that is kept in results/samples."""
    return pages.publish(Reading(SAMPLE), tmp_path_factory.mktemp("real")).path


@pytest.fixture(scope="module")
def cut(tmp_path_factory):
    """The page of a run of three backends in two modes that was cut off in its fourth trial."""
    every = settings.cells(
        workload=("conv1", "conv2"), backend=("jax", "tensorflow", "torch"), mode=(Mode.EAGER, Mode.COMPILED)
    )
    folder = settings.run(tmp_path_factory.mktemp("cut"), every, trials=3, finished=False)
    return written(tmp_path_factory, pages.page(Reading(folder)).text)


@pytest.fixture(scope="module")
def settled(tmp_path_factory):
    """The page of a run of one backend whose cells differ in every setting that a page has a table of."""
    plain = builders.cell(threads=1)
    folder = settings.run(
        tmp_path_factory.mktemp("settled"), [plain, *(replace(plain, **{axis: value}) for axis, value in OTHERS.items())]
    )
    return written(tmp_path_factory, pages.page(Reading(folder)).text)


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    digests = nights(40)
    return written(tmp_path_factory, index.render(digests, list(digests)).text)


def written(factory, text):
    place = factory.mktemp("page") / "page.html"
    place.write_text(text, encoding="utf-8")
    return place


@pytest.fixture
def opened(browser):
    """Opens a page and, at the end, holds it to silence: no message, no error, no request but for its own file."""
    said, contexts = [], []

    def opens(path, fragment="", **how):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **how})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url) if not request.url.startswith(("file:", "blob:")) else None)
        page.goto(path.as_uri() + fragment)
        if how.get("java_script_enabled", True):
            until(page, "document.documentElement.dataset.ready === '1'")
        return page

    yield opens
    for context in contexts:
        context.close()
    assert said == []


def column(page, label):
    heads = page.eval_on_selector_all("#table thead th", "heads => heads.map(head => head.innerText)")
    place = next(at for at, head in enumerate(heads, 1) if head.startswith(label))
    return page.eval_on_selector_all(f"#table tbody tr > :nth-child({place})", "cells => cells.map(c => c.textContent)")


def until(page, condition):
    """Waits for a condition; by the debugger again and again, since the policy forbids the page to evaluate text itself."""
    for _ in range(200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(25)
    raise AssertionError(f"never came true: {condition}")


def keep(page, name):
    if ARTEFACTS:
        Path(ARTEFACTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(ARTEFACTS) / f"{name}.png", full_page=True)


def violations(page):
    """What axe-core finds; evaluated through the debugger, which the page's policy does not bind."""
    session = page.context.new_cdp_session(page)
    session.send("Runtime.evaluate", {"expression": AXE})
    run = f"axe.run(document, {{runOnly: {json.dumps(RULES)}}}).then(found => JSON.stringify(found.violations))"
    answer = session.send("Runtime.evaluate", {"expression": run, "awaitPromise": True})
    found = json.loads(answer["result"]["value"])
    return [(each["id"], node["target"], node.get("failureSummary", "")) for each in found for node in each["nodes"]]


# --- how it looks and what it is to people and machines ----------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("what", ["path", "real", "listed"])
def test_axe_finds_nothing(opened, request, what, scheme):
    page = opened(request.getfixturevalue(what), color_scheme=scheme)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 24, 29)"}[scheme]
    keep(page, f"{what}-{scheme}")
    assert violations(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("what", ["path", "real"])
def test_axe_finds_nothing_in_the_dialog(opened, request, what, scheme):
    page = opened(request.getfixturevalue(what), color_scheme=scheme)
    page.locator("#table tbody a").first.click()
    page.wait_for_selector("dialog[open]")
    keep(page, f"{what}-dialog-{scheme}")
    assert violations(page) == []


@pytest.mark.parametrize("what", ["path", "real", "listed"])
@pytest.mark.parametrize("width", [390, 760, 1280])
def test_the_page_never_scrolls_sideways(opened, request, what, width):
    page = opened(request.getfixturevalue(what), viewport={"width": width, "height": 800})
    keep(page, f"{what}-{width}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


WIDTHS = (360, 400, 480, 600, 700, 760, 880, 1000, 1001, 1100, 1200, 1300, 1400, 1600)
# What no box that scrolls holds and that reaches beyond the window, and what a box cuts that does not scroll.
CUT = """width => [...document.querySelectorAll('main *')].filter(each => {
    const box = each.getBoundingClientRect(), scrolls = each.closest('.scroll, .fig');
    if (!box.width || each.closest('.sr, .symbols, dialog')) return false;
    if (each === scrolls) return each.scrollWidth > each.clientWidth && getComputedStyle(each).overflowX !== 'auto';
    return !scrolls && box.right > width + 0.5;
}).map(each => each.outerHTML.slice(0, 90))"""


@pytest.mark.parametrize("what", ["path", "real", "cut", "settled", "listed"])
def test_no_table_is_cut_at_any_width(opened, request, what):
    """A table fits, or scrolls in a box of its own; that of the checks fits everywhere."""
    page = opened(request.getfixturevalue(what))
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    assert page.locator("table").count() == page.locator(".scroll > table").count() > 0
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(f"({CUT})({width})") == [], width
        checks = page.locator("[aria-label='Validity checks']")
        if checks.count():
            assert checks.evaluate("box => box.scrollWidth - box.clientWidth") == 0, width
    keep(page, f"{what}-open")


def test_the_checks_of_a_run_that_was_cut_off_say_all_that_they_have_to(opened, cut):
    for width in (1200, 400):
        page = opened(cut, viewport={"width": width, "height": 900})
        box = page.locator("[aria-label='Validity checks']").bounding_box()
        told = page.locator("[aria-label='Validity checks'] td", has_text="Blocks every verdict.").bounding_box()
        assert told["x"] + told["width"] <= box["x"] + box["width"]
    # A phone shows a check as lines, of which each says what it is, since the heads are not over them.
    of_limit = "getComputedStyle(document.querySelector('.checks [data-head=Limit]'), '::before').content"
    assert "Limit" in page.evaluate(of_limit)
    page.set_viewport_size({"width": 1200, "height": 900})
    assert page.evaluate(of_limit) == "none"


def test_the_policy_holds(browser, path):
    """What somebody might smuggle in neither runs nor asks anybody; that it complains is the point, so silence is not asked."""
    page = browser.new_page()
    page.goto(path.as_uri())
    failures = []
    page.on("requestfailed", lambda request: failures.append(request.failure))
    assert page.evaluate("fetch('https://example.invalid/').then(() => 'came through', () => 'blocked')") == "blocked"
    probe = """new Promise(done => {
        const image = new Image();
        image.onload = () => done('came through');
        image.onerror = () => done('blocked');
        image.src = 'https://example.invalid/x.png';
    })"""
    assert page.evaluate(probe) == "blocked"
    assert set(failures) <= {"csp"}
    for inject in ("document.body.insertAdjacentHTML('beforeend', '<b>x</b>')", "document.body.innerHTML = '<b>x</b>'"):
        tried = f"(() => {{ try {{ {inject}; return 'ran'; }} catch (error) {{ return error.name; }} }})()"
        assert page.evaluate(tried) == "TypeError"
    page.context.close()


def test_the_theme_button_stays_pressed(opened, path):
    page = opened(path, color_scheme="light")
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 29)"
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_what_can_be_clicked_is_large_enough_and_shows_its_focus(opened, path):
    page = opened(path)
    small = page.eval_on_selector_all(
        "button, select, input, summary, nav a",
        "all => all.filter(e => e.offsetParent && e.getBoundingClientRect().height < 24).map(e => e.outerHTML.slice(0, 90))",
    )
    assert small == []
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


# --- the table ---------------------------------------------------------------------------------------------------------------


def test_the_table_comes_in_pages(opened, path):
    page = opened(path)
    assert page.text_content("#count") == "Rows 1–50 of 110 (110 cases in all)"
    page.click("#next")
    page.click("#next")
    assert page.text_content("#count") == "Rows 101–110 of 110 (110 cases in all)"
    assert page.is_disabled("#next")


def test_sorting_puts_the_missing_last_either_way(opened, path):
    page = opened(path, "#results?device=cpu&backend=jax")
    button = page.get_by_role("button", name="Median ms")
    for turn, down in (("descending", True), ("ascending", False)):
        button.click()
        assert page.locator("#table th[aria-sort]").get_attribute("aria-sort") == turn
        shown = column(page, "Median")
        known = [float(text) for text in shown if text != "–"]
        assert known == sorted(known, reverse=down)
        assert len(known) < len(shown)
        assert set(shown[len(known) :]) == {"–"}


def test_filters_links_and_the_way_back(opened, path):
    page = opened(path)
    page.fill("#f-q", "wgrad JAX")
    until(page, "location.hash.includes('q=')")
    page.select_option("#f-device", "gpu:0")
    assert page.evaluate("location.hash") == "#results?q=wgrad+JAX&device=gpu%3A0"
    assert set(column(page, "Backend")) == {"JAX"}
    assert set(column(page, "Direction")) == {"backward filter"}
    page.fill("#f-q", "nothing is called that")
    until(page, "document.getElementById('count').textContent.startsWith('No case')")
    assert "No case matches the filters." in page.text_content("#table tbody")
    page.click("#clear")
    assert page.text_content("#count") == "Rows 1–50 of 110 (110 cases in all)"


def test_a_link_to_the_filtered_table_and_what_it_does_not_know(opened, path):
    page = opened(path, "#results?status=oom&sort=-workload&colour=blue&device=moon")
    assert set(column(page, "Status")) == {"oom"}
    assert page.input_value("#f-device") == ""
    page = opened(path, "#results?sort=nothing")
    assert page.text_content("#count") == "Rows 1–50 of 110 (110 cases in all)"


def test_the_rows_that_are_shown_are_saved_as_csv(opened, path, made):
    page = opened(path, "#results?backend=torch&device=cpu&sort=-median")
    with page.expect_download() as waiting:
        page.click("#csv")
    text = Path(waiting.value.path()).read_bytes().decode("utf-8")
    assert text.startswith("\ufeff")
    assert text.count("\n") == text.count("\r\n")
    rows = list(csv.DictReader(io.StringIO(text[1:])))
    mine = made.summary[(made.summary["backend"] == "torch") & (made.summary["device"] == "cpu")]
    assert len(rows) == len(mine)
    times = [float(row["median (ms)"]) for row in rows if row["median (ms)"]]
    assert times == sorted(times, reverse=True)
    assert times == pytest.approx(sorted(mine["median_ns"].dropna() / 1e6, reverse=True), rel=1e-5)
    with page.expect_download() as waiting:
        page.click("#json-all")
    assert json.loads(Path(waiting.value.path()).read_text())["n"] == 110


# --- cases -------------------------------------------------------------------------------------------------------------------

SLUG = "rn50_res2_3x3/dgrad/torch/cpu/eager"


def test_a_case_opens_from_a_link_and_goes_back_to_where_it_was(opened, path, made):
    page = opened(path, "#results?q=res2_3x3+dgrad+torch+cpu")
    link = page.locator("#table tbody a").first
    link.click()
    page.wait_for_selector("dialog[open]")
    assert page.evaluate("location.hash") == "#case=" + SLUG
    assert page.text_content("#case-h") == "rn50_res2_3x3 · backward input · PyTorch · cpu · eager"
    row = made.summary.query(
        "workload == 'rn50_res2_3x3' and direction == 'dgrad' and backend == 'torch' and device == 'cpu'"
    ).iloc[0]
    said = page.text_content("#case-b")
    assert f"{row['median_ns'] / 1e6:.4g}"[:5] in said
    assert f"convbench run first -k {row['cell']}" in said
    ends = [f"{row[name] / 1e6:.4g}" for name in ("time_ns", "time_low_ns", "time_high_ns")]
    assert "Time within this run{} ({} to {}) ms".format(*ends) in said
    assert page.locator("#case-b tbody tr").count() == 15
    assert page.locator("#case-b tr[aria-current=true]").count() == 1
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    assert page.evaluate("location.hash") == "#results?q=res2_3x3+dgrad+torch+cpu"
    assert link.evaluate("link => document.activeElement === link")


def test_back_and_close_leave_the_case(opened, path):
    page = opened(path, "#memory")
    page.evaluate(f"location.hash = '#case={SLUG}'")
    page.wait_for_selector("dialog[open]")
    page.go_back()
    page.wait_for_selector("dialog[open]", state="hidden")
    assert page.evaluate("location.hash") == "#memory"
    page.evaluate(f"location.hash = '#case={SLUG}'")
    page.wait_for_selector("dialog[open]")
    page.click("#case-x")
    assert page.evaluate("location.hash") == "#memory"


@pytest.mark.parametrize("slug", [SLUG, quote(SLUG, safe="")])
def test_a_link_to_a_case(opened, path, slug):
    page = opened(path, "#case=" + slug)
    assert page.is_visible("dialog[open]")
    assert page.text_content("#case-h").startswith("rn50_res2_3x3 · backward input · PyTorch")


@pytest.mark.parametrize("fragment", ["#case=nobody/knows/this", "#case=%E0%A4%A", "#case=", "#nowhere", "#results?"])
def test_what_no_link_can_mean_is_ignored(opened, path, fragment):
    page = opened(path, fragment)
    assert page.locator("dialog[open]").count() == 0


def test_a_failure_says_why(opened, path):
    page = opened(path, "#case=rn50_conv1/dgrad/tensorflow/cpu/eager")
    assert "RESOURCE_EXHAUSTED" in page.text_content("#case-b")
    assert page.locator("#case-b p .tag").first.text_content() == "oom"


# --- figures -----------------------------------------------------------------------------------------------------------------


def test_a_figure_by_keyboard(opened, path):
    page = opened(path)
    figure = page.locator(".fig:has([data-i])").first
    figure.focus()
    page.keyboard.press("ArrowRight")
    first = page.text_content("#live")
    assert page.is_visible("#tip")
    assert page.text_content("#tip b") in first
    assert "median" in first
    page.keyboard.press("ArrowRight")
    second = page.text_content("#live")
    assert second != first
    page.keyboard.press("ArrowLeft")
    assert page.text_content("#live") == first
    page.keyboard.press("PageDown")
    page.keyboard.press("PageUp")
    assert page.text_content("#live") == first
    name = page.text_content("#tip b")
    page.keyboard.press("Escape")
    assert page.is_hidden("#tip")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open]")
    assert page.text_content("#case-h") == name


def test_a_mark_under_the_pointer(opened, path):
    page = opened(path)
    mark = page.locator("svg.chart [data-i]").first
    mark.scroll_into_view_if_needed()
    # The page hears of having been scrolled in its next frame only, and then hides what it says of a mark.
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    mark.hover(force=True)
    assert page.is_visible("#tip")
    name = page.text_content("#tip b")
    mark.click(force=True)
    page.wait_for_selector("dialog[open]")
    assert page.text_content("#case-h") == name


def test_every_mark_is_of_a_case(opened, path):
    page = opened(path)
    rows = page.eval_on_selector_all("[data-i]", "marks => marks.map(mark => +mark.dataset.i)")
    assert rows
    assert set(rows) <= set(range(110))


# --- paper, no script, the index ---------------------------------------------------------------------------------------------


def test_without_script_all_but_the_table_is_there(opened, path):
    page = opened(path, java_script_enabled=False)
    assert page.locator("svg.chart").count() >= 6
    assert page.locator("#table").is_hidden()
    assert page.locator(".controls").is_hidden()
    assert "results.csv" in page.inner_text("#results noscript")
    assert "cells have a checked figure" in page.inner_text(".verdict")
    assert page.locator("[data-part]:visible").count() == page.locator("[data-part]").count()


def test_on_paper_it_is_light_and_open(opened, path, tmp_path):
    page = opened(path, color_scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("nav.toc").is_hidden()
    assert page.locator(".controls").is_hidden()
    assert page.locator("[data-part]:visible").count() == page.locator("[data-part]").count()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    keep(page, "print")
    page.pdf(path=str(tmp_path / "page.pdf"))
    assert (tmp_path / "page.pdf").stat().st_size > 10_000
    assert page.locator("#data-files-h").is_visible()


def test_forced_colours_leave_marks_and_text(opened, path):
    page = opened(path, forced_colors="active")
    assert page.evaluate("matchMedia('(forced-colors: active)').matches")
    keep(page, "forced-colours")


def test_the_index_filters_by_machine_and_level_in_its_fragment(opened, listed):
    page = opened(listed, "#runs?machine=machine-2")
    assert page.text_content("#count") == "10 of 40 runs"
    page.select_option("#f-state", "partial")
    assert page.evaluate("location.hash") == "#runs?machine=machine-2&state=partial"
    assert page.text_content("#count") == "5 of 40 runs"
    assert page.locator("#table tbody tr:visible").count() == 5
    page = opened(listed, "#runs?machine=nobody")
    assert page.text_content("#count") == "40 of 40 runs"


def test_a_page_whose_data_is_compressed_works_alike(opened, tmp_path_factory, monkeypatch):
    made = synthetic.make(synthetic.cells(("torch",)))
    monkeypatch.setattr(html, "_THRIFTS", (html.Thrift(1500, 14, packed=True),))
    page = opened(written(tmp_path_factory, html.build(Given(made.summary, made.samples, made.run)).text))
    assert page.text_content("#count") == "Rows 1–22 of 22 (22 cases in all)"


def test_the_history_of_a_case_is_drawn(opened, made, tmp_path_factory):
    moments = [made.run.started_at - timedelta(days=back) for back in range(5, -1, -1)]
    known = made.summary[made.summary["status"] == "ok"]
    frames = [
        known.assign(
            run_id=f"night-{at}" if at < 5 else made.run.id, started_at=moment, night_ns=known["median_ns"] * (1 + 0.01 * at)
        )
        for at, moment in enumerate(moments)
    ]
    import pandas as pd

    nights_of = pd.concat(frames)[["run_id", "started_at", "cell", "backend", "device", "status", "median_ns", "night_ns"]]
    text = html.build(Given(made.summary, made.samples, made.run, nights=nights_of)).text
    page = opened(written(tmp_path_factory, text), "#case=" + SLUG)
    assert "The last 6 nights" in page.text_content("#case-b")
    assert page.locator("#case-b svg.long path").count() == 1
    assert page.locator("#table svg.spark").count() == 50


@pytest.mark.parametrize(("asked", "found"), [("c=1024", {"rn50_res4_1x1"}), ("f5x5", {"example"}), ("depthwise", {"dw"})])
def test_a_workload_is_found_by_its_shape(opened, shapes, asked, found):
    page = opened(shapes, f"#results?q={asked}")
    until(page, "document.querySelectorAll('#table tbody tr').length > 0")
    assert set(page.eval_on_selector_all("#table tbody th a", "links => links.map(link => link.textContent)")) == found


def test_a_wide_interval_is_told_low_to_high_in_table_and_dialog(opened, tmp_path_factory):
    made = synthetic.make(synthetic.cells(("torch",))[-1:], {})
    wide = made.summary.assign(median_ns=1e6, ci_low_ns=0.5e6, ci_high_ns=1.8e6)
    page = opened(written(tmp_path_factory, html.build(Given(wide, made.samples, made.run)).text))
    assert column(page, "95 %") == ["0.5000 to 1.800 ms"]
    page.evaluate("document.querySelector('#table tbody a').click()")
    until(page, "document.getElementById('case').open")
    shown = page.inner_text("#case-b")
    assert "95 % interval 0.5000 to 1.800 ms" in shown
    assert "n1 c512 k512 7x7 f3x3 p1x1" in shown


def test_a_factor_is_told_with_its_interval_in_table_and_dialog(opened, path, made):
    page = opened(path, "#results?backend=torch")
    factors = [text for text in column(page, "÷ lowest") if text.startswith(("1", "2", "○", "~"))]
    assert factors
    assert all(" to " in text and text.endswith(")") for text in factors)
    best = [text for text in column(page, "÷ lowest") if text.startswith("●")]
    assert set(best) == {"● 1.00"}


def test_what_a_setting_is_worth_is_read_on_a_phone_and_on_paper(opened, path):
    page = opened(path, viewport={"width": 390, "height": 800})
    assert page.locator("#worth").is_visible()
    assert page.locator("#worth ~ h4").first.inner_text() == "Mode: compiled over eager"
    assert page.locator("#worth ~ .scroll .tag.faster").count() > 0
    page.emulate_media(media="print")
    assert page.locator("#worth ~ .scroll table").first.is_visible()
    keep(page, "worth-narrow")


@pytest.mark.parametrize(("width", "media"), [(390, "screen"), (1200, "screen"), (703, "print")])  # A4 within margins
def test_under_each_factor_of_a_table_of_many_columns_stands_its_interval(opened, path, width, media):
    page = opened(path, viewport={"width": width, "height": 900})
    page.emulate_media(media=media)
    table = page.locator("table.heat").first
    factors = table.locator("td[class^=h]")
    assert factors.count() > 9
    assert all(re.search(r"\n[\d.]+ to [\d.]+$", text.strip()) for text in factors.all_inner_texts())
    assert table.locator("small").first.is_visible()
    if media == "print":
        assert table.bounding_box()["width"] <= width


def test_what_ran_in_a_case_is_in_its_dialog_with_its_trace(opened, path):
    page = opened(path, "#case=example/fprop/torch/cpu/eager")
    kernels = page.locator("#case-b [aria-label='Kernels of this case'] td.w")
    assert kernels.first.inner_text().startswith("jit:avx512_core\n")
    with page.expect_download() as waiting:
        page.locator("#case-b a[download]").click()
    assert waiting.value.suggested_filename == "example-fprop-torch-cpu-eager.json.gz"
    assert json.loads(gzip.decompress(Path(waiting.value.path()).read_bytes())) == {"traceEvents": []}
    page.evaluate(f"location.hash = '#case={SLUG}'")
    until(page, "document.getElementById('case-b').textContent.includes('This case was not profiled.')")
    assert page.locator("#case-b a[download]").count() == 0


@pytest.mark.parametrize(("width", "media"), [(390, "screen"), (1280, "screen"), (703, "print")])
def test_what_ran_is_read_on_a_phone_on_a_screen_and_on_paper(opened, path, width, media):
    page = opened(path, viewport={"width": width, "height": 900})
    page.emulate_media(media=media)
    table = page.locator("#what-ran .scroll table").first
    assert table.locator("td svg").first.is_visible()
    if width == 390:  # bars are in sight before the table is scrolled
        box = table.locator("tbody td svg").first.bounding_box()
        assert box["x"] + box["width"] <= width
    if media == "print":
        assert table.bounding_box()["width"] <= width
    assert page.locator("#what-ran li", has_text="In an example it was small or gone with padding SAME.").first.is_visible()
    if ARTEFACTS:
        page.locator("#what-ran").screenshot(path=Path(ARTEFACTS) / f"what-ran-{width}.png")
