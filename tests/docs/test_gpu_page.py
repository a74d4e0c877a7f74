"""docs/gpu.md: its links lead somewhere, and every test that it names as holding something is there."""

import re
from pathlib import Path

from scripts.gpu_acceptance import checks

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")


def test_every_test_that_holds_something_is_there() -> None:
    table = TEXT.partition("<!-- holds: begin -->")[2].partition("<!-- holds: end -->")[0]
    rows = table.strip().splitlines()[2:]
    named = [re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", row.rpartition(" | ")[2]) for row in rows]
    assert len(rows) > 20
    assert all(named)
    lacking = [
        f"{file}::{name}"
        for file, name in (each for row in named for each in row)
        if not re.search(rf"^def {name}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert lacking == []


def test_its_questions_are_those_of_the_checks() -> None:
    asked = re.findall(r"^\| (\d+) \| ([^|]+) \|", TEXT, re.MULTILINE)
    assert [(int(number), question) for number, question in asked] == [
        (check.number, check.question) for check in checks.CHECKS
    ]


def test_links_lead_somewhere_and_the_readme_leads_here() -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", TEXT)
    assert targets
    assert [target for target in targets if not (ROOT / "docs" / target).exists()] == []
    assert "(docs/gpu.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_it_says_plainly_that_nothing_was_run_on_a_gpu() -> None:
    assert "**None of this has been run on a GPU yet.**" in TEXT.partition("## ")[0]
