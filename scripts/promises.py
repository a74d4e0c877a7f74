#!/usr/bin/env python3
"""Write docs/promises.md from the tests marked `fault`; with --check, exit 1 if the page is not what would be written.

A test that shows what is promised under a fault bears `@pytest.mark.fault("what goes wrong", "what is promised")`. The tests
are parsed, not imported: this needs Python 3.11 and nothing else.
"""

import argparse
import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"
PAGE = ROOT / "docs" / "promises.md"

INTRODUCTION = """\
# What is promised, and under which fault

<!-- Written by scripts/promises.py from the tests marked `fault`: change the mark there and run the script. -->

Something goes wrong on every machine: a worker crashes, a disk fills up, a store was copied, a result is wrong in its 17th
call. Each row names such a fault, what convbench promises under it, and the test that makes the fault and looks. A test in
*italics* takes minutes or needs an environment of its own; `./scripts/test --long` runs it, the rest is in every run of
`./scripts/test`.
"""

# Where a test stands says what its row is about; the first that fits.
AREAS = {
    "tests/isolate": "Workers",
    "tests/backends": "Workers",
    "tests/measure": "Measuring and checking",
    "tests/doctor": "Measuring and checking",
    "tests/store": "What stands on disk",
    "tests/nights/test_retention.py": "What stands on disk",
    "tests/ask": "What is asked",
    "tests/captures": "What is asked",
    "tests/analysis": "What is said",
    "tests/page": "What is said",
    "tests/cli/test_tables.py": "What is said",
    "tests/nights/test_notify.py": "What is said",
    "tests/test_unfinished.py": "What is said",
    "tests/nights/test_pruned.py": "What is said",
    "tests/test_units.py": "What is said",
    "tests/test_wheel.py": "Installing",
    "tests/test_installed.py": "Installing",
    "tests/test_lower_bounds_script.py": "Installing",
}
ELSEWHERE = "The life of a run"
ORDER = ("Installing", "What is asked", ELSEWHERE, "Workers", "Measuring and checking", "What stands on disk", "What is said")


class Row(NamedTuple):
    """A fault, what is promised under it, and the test; `long`: it is not in every run."""

    fault: str
    promise: str
    test: str
    long: bool


def rows(tests: Path = TESTS) -> Iterator[Row]:
    """Every marked test, in the order of files and lines. Raises ValueError for a mark that is not two texts."""
    for path in sorted(tests.rglob("test_*.py")):
        tree = ast.parse(path.read_text())
        whole = any(isinstance(node, ast.Assign) and _mark(node.value) == "long" for node in tree.body)
        for node in tree.body:
            if not isinstance(node, ast.FunctionDef):
                continue
            marks = {_mark(each): each for each in node.decorator_list}
            if isinstance(mark := marks.get("fault"), ast.Call):
                texts = [each.value for each in mark.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
                where = f"{path.relative_to(tests.parent)}::{node.name}"
                if len(texts) != 2 or mark.keywords:
                    raise ValueError(f"{where}: the mark `fault` takes two texts, the fault and the promise")
                yield Row(texts[0], texts[1], where, whole or "long" in marks)


def _mark(node: ast.expr) -> str:
    """`long` for `pytest.mark.long`, called or not; empty for what is no mark."""
    node = node.func if isinstance(node, ast.Call) else node
    found = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr == "mark"
    return node.attr if found and isinstance(node, ast.Attribute) else ""


def page(found: list[Row]) -> str:
    """The whole page."""
    by_area: dict[str, list[Row]] = {}
    for row in found:
        area = next((words for start, words in AREAS.items() if row.test.startswith(start)), ELSEWHERE)
        by_area.setdefault(area, []).append(row)
    parts = [INTRODUCTION]
    for area in ORDER:
        if area in by_area:
            lines = [_line(row) for row in by_area[area]]
            parts.append("\n".join([f"## {area}\n", "| Fault | Promise | Test |", "| --- | --- | --- |", *lines]) + "\n")
    return "\n".join(parts)


def _line(row: Row) -> str:
    path, _, name = row.test.partition("::")
    told = f"[{name.removeprefix('test_').replace('_', ' ')}](../{path})"
    cells = (row.fault, row.promise, f"*{told}*" if row.long else told)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def main() -> int:
    """Write the page, or say that it is stale."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="exit 1 if the page is stale, write nothing")
    parser.add_argument("--out", type=Path, default=PAGE)
    asked = parser.parse_args()
    text = page(list(rows()))
    if not asked.check:
        asked.out.write_text(text)
    elif not asked.out.exists() or asked.out.read_text() != text:
        print(f"{asked.out} is stale; run scripts/promises.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
