"""docs/architecture.md: every file of the package stands in it, nothing else does, and what it says leads somewhere."""

import re
import subprocess
import sys
from pathlib import Path

from scripts import architecture

ROOT = Path(__file__).parents[1]
TEXT = architecture.PAGE.read_text(encoding="utf-8")


def test_the_rooms_on_the_page_are_those_of_the_package() -> None:
    check = [sys.executable, ROOT / "scripts" / "architecture.py", "--check"]
    result = subprocess.run(check, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    files = {path.relative_to(ROOT / "harness").as_posix() for path in (ROOT / "harness").rglob("*.py")}
    listed = re.findall(r"^\| \[`([\w/]+\.py)`\]", TEXT, re.M)
    assert sorted(listed) == sorted(files)


def test_every_room_says_what_it_does() -> None:
    assert [name for _, name, told in architecture.rows() if len(told) < 15] == []


def test_a_file_that_comes_or_goes_makes_the_page_stale(monkeypatch) -> None:
    rows = list(architecture.rows())
    assert architecture.page(TEXT) == TEXT
    monkeypatch.setattr(architecture, "rows", lambda: iter(rows[:-1]))
    assert architecture.page(TEXT) != TEXT


def test_every_file_that_the_page_names_is_there() -> None:
    written = TEXT.split(architecture.BEGIN)[0] + TEXT.split(architecture.END)[1]
    named = {name for name in re.findall(r"`([\w/.-]+)`", written) if "/" in name or name.endswith((".py", ".toml", ".md"))}
    assert named
    places = (ROOT, ROOT / "harness")
    assert [name for name in sorted(named) if "NAME" not in name and not any((place / name).exists() for place in places)] == []
