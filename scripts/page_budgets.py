#!/usr/bin/env python3
"""Holds the page to its budgets, for runs of 900 and of 5,400 cases that never were; exit code 1 where one is over.

Run from the root of the project with its Python: .venv/bin/python scripts/page_budgets.py [--slack 2] [--keep FOLDER]. Times
are of this machine, so a busy one may take the slack. Where there is no chromium, what only a browser can say is left out.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

KB, MB = 1024, 1_000_000
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
BUDGETS = {  # name: (limit for 900 cases, for 5,400), unit, whether slack applies
    "report.html": ((1.5 * MB, 4 * MB), "bytes", False),
    "build, imports included": ((30.0, 60.0), "s", True),
    "first paint": ((0.6, 0.8), "s", True),
    "data-ready": ((1.5, 3.0), "s", True),
    "script": ((20 * KB, 20 * KB), "bytes", False),
    "style": ((14 * KB, 14 * KB), "bytes", False),
    "DOM nodes": ((20_000, 40_000), "", False),
}
BUILD = """
import sys, time
begun = time.perf_counter()
sys.path.insert(0, sys.argv[1])
from tests.page import large
given = large.given(int(sys.argv[2]))
made = time.perf_counter()
from harness.page import html
page = html.build(given)
assert not page.broken, page.broken
open(sys.argv[3], "w", encoding="utf-8").write(page.text)
print(time.perf_counter() - made)
"""
IMPORTS = "import time; begun = time.perf_counter(); from harness.page import html; print(time.perf_counter() - begun)"


def build(cases: int, path: Path) -> dict[str, float]:
    """The page of so many cases in a fresh process, and what can be told without a browser."""
    run = {"capture_output": True, "text": True, "check": True, "cwd": ROOT}
    imports = float(subprocess.run([sys.executable, "-c", IMPORTS], **run).stdout)
    seconds = float(subprocess.run([sys.executable, "-c", BUILD, str(ROOT), str(cases), str(path)], **run).stdout)
    text = path.read_text(encoding="utf-8")
    style, script = (text[text.rindex(f"<{tag}>") + len(tag) + 2 : text.rindex(f"</{tag}>")] for tag in ("style", "script"))
    sizes = {"report.html": text, "script": script, "style": style}
    return {name: float(len(part.encode())) for name, part in sizes.items()} | {"build, imports included": imports + seconds}


def look(path: Path) -> dict[str, float]:
    """What a browser says of the page, the median of three visits; nothing where there is none."""
    chromium = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if not chromium:
        return {}
    visits = []
    with sync_playwright() as driver:
        for _ in range(3):
            browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
            page = browser.new_page()
            page.add_init_script(
                "new MutationObserver(() => { if (document.documentElement?.dataset.ready) window.at ??= performance.now() })"
                ".observe(document, { attributes: true, subtree: true, attributeFilter: ['data-ready'] })"
            )
            page.goto(path.as_uri())
            for _ in range(400):
                if page.evaluate("Boolean(window.at)"):
                    break
                page.wait_for_timeout(25)
            visits.append(
                {
                    "first paint": page.evaluate("performance.getEntriesByName('first-paint')[0].startTime") / 1000,
                    "data-ready": page.evaluate("window.at") / 1000,
                    "DOM nodes": float(page.evaluate("document.querySelectorAll('*').length")),
                }
            )
            browser.close()
    return {name: sorted(visit[name] for visit in visits)[1] for name in visits[0]}


def main() -> int:
    """Prints a line per budget; 1 where one is over."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slack", type=float, default=1.0, help="times are allowed this much more")
    parser.add_argument("--keep", type=Path, help="a folder that the pages are kept in")
    options = parser.parse_args()
    over = 0
    with tempfile.TemporaryDirectory() as folder:
        for column, cases in enumerate((900, 5400)):
            path = (options.keep or Path(folder)).resolve() / f"report-{cases}.html"
            path.parent.mkdir(parents=True, exist_ok=True)
            found = build(cases, path) | look(path)
            for name, (limits, unit, timed) in BUDGETS.items():
                limit = limits[column] * (options.slack if timed else 1)
                if name not in found:
                    print(f"{cases:>5} cases  {name:<24} not measured: no chromium")
                    continue
                good = found[name] <= limit
                over += not good
                number = f"{found[name]:,.2f}" if unit == "s" else f"{found[name]:,.0f}"
                print(f"{cases:>5} cases  {name:<24} {number:>12} {unit:<5} of {limit:>12,.6g}  {'ok' if good else 'OVER'}")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
