#!/usr/bin/env python3
"""Write the rooms into docs/architecture.md, each with the first sentences of its file; with --check, exit 1 if it is stale.

The files are parsed, not imported: this needs Python 3.11 and nothing else.
"""

import argparse
import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "harness"
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- rooms: begin, written by scripts/architecture.py from harness/ -->\n", "<!-- rooms: end -->\n"
DOOR, GROUND = "The door", "The ground"
DOORS = ("__init__.py", "__main__.py")
# From the ground up: the wings, then the faces; what is not named here comes last.
ORDER = (
    DOOR, GROUND, "backends", "measure", "isolate", "captures", "ask", "store", "analysis", "page", "page/charts", "execution",
    "review", "nights", "cli", "doctor", "deploy", "pytest_plugin",
)  # fmt: skip


def sentence(path: Path) -> str:
    """The first paragraph of a file's docstring, as one line."""
    told = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(told.split("\n\n")[0].split())


def wing(name: str) -> str:
    """The wing, face or floor of a file, by its path in the package."""
    folder, _, file = name.rpartition("/")
    return folder or (DOOR if file in DOORS else GROUND)


def rows() -> Iterator[tuple[str, str, str]]:
    """Wing, file and sentence of every file of the package, in the order of the page."""
    names = [path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")]
    last = len(ORDER)
    for name in sorted(names, key=lambda name: (ORDER.index(wing(name)) if wing(name) in ORDER else last, name)):
        yield wing(name), name, sentence(PACKAGE / name)


def tables() -> str:
    """A heading and a table for each wing, whose `__init__.py` says what it is."""
    lines, current = [], ""
    for place, name, told in rows():
        if place != current:
            current = place
            lines += ["", f"### {place if place in (DOOR, GROUND) else f'`{place}/`'}", ""]
            lines += ["| room | what it does |", "|---|---|"]
        told = told.replace("|", "\\|")
        lines.append(f"| [`{name}`](../harness/{name}) | {told} |")
    return "\n".join(lines) + "\n\n"


def page(text: str) -> str:
    """The page with the rooms as they are."""
    head, rest = text.split(BEGIN)
    return head + BEGIN + tables() + END + rest.split(END)[1]


def main() -> int:
    """The exit code: 1 if --check finds a stale page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if the page is stale")
    options = parser.parse_args()
    text = PAGE.read_text(encoding="utf-8")
    if page(text) == text:
        return 0
    if options.check:
        print(f"{PAGE} is stale; run scripts/architecture.py", file=sys.stderr)
        return 1
    PAGE.write_text(page(text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
