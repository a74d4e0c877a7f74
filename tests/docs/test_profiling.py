"""The page on profiles: every rule has its example there, and every kind and part its meaning."""

import re
from pathlib import Path

from harness.page import ran
from harness.profile import Kind
from tests.test_rules import EXAMPLES

DOCS = Path(__file__).resolve().parents[2] / "docs"
TEXT = (DOCS / "profiling.md").read_text()


def test_every_rule_has_a_row_with_the_line_of_its_example() -> None:
    rows = re.findall(r"^\| ([a-z0-9 ]+) \| [^|]+ \| `([^`|]+)`[^|]* \| [^|]+ \| [^|]+ \|$", TEXT, re.MULTILINE)
    assert rows == [(rule, cells[0].line) for rule, cells in EXAMPLES.items()]


def test_every_kind_and_every_part_is_explained() -> None:
    assert [kind for kind in Kind if f"`{kind}`" not in TEXT] == []
    assert [part for part in ran.PARTS if f"| {part} |" not in TEXT] == []


def test_links_lead_somewhere() -> None:
    targets = [target for target in re.findall(r"\]\(([^)#:]+)\)", TEXT) if target]
    assert targets
    assert [target for target in targets if not (DOCS / target).exists()] == []
