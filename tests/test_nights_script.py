"""What scripts/nights.py makes of the nights in a store; the nights themselves are scripted ones."""

from pathlib import Path

import pytest

from harness.nights import nightly
from harness.record import NIGHTLY
from scripts import nights as script
from tests import stored


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve quiet nights, two with a cell slowed by a fifth, and one that ended before it was judged."""
    store = tmp_path_factory.mktemp("series")
    folders = stored.nights(store / "results", 12)
    for day in (12, 13):
        tags = (NIGHTLY, "slowed", "factor-1.200")
        folders.append(stored.night(store / "results", day, {stored.SLOW: 1.2}, tags=tags))
    for folder in folders:
        nightly.conclude(folder, store / "reports", page=False)
    (store / "reports" / folders[0].name / "summary.json").unlink()
    (store / "reports" / folders[0].name / "report.html").touch()
    return store


def test_every_night_has_its_line(store: Path) -> None:
    _, _, first, *others = script.rows(store, stored.SLOW)
    assert first.endswith("not judged | | | | | it ended before that |")
    assert len(others) == 13
    assert all("| 0 | 6 of 6 |" in line and "| quiet | 0 |" in line for line in others[:11])
    suspect, confirmed = others[11:]
    assert "| two 1.20× | 4 | 6 of 6 |" in suspect
    assert "| suspect | 4 | Suspect: two " in suspect
    assert "| two 1.20× | 3 | 6 of 6 |" in confirmed
    assert "| regression | 3 | Regression: two " in confirmed


def test_in_a_copy_with_another_version_that_is_the_cause(store: Path) -> None:
    *_, suspect, confirmed = script.upgraded(store)
    assert suspect.startswith("- suspect, code 4: ")
    assert "with torch 2.13 → 2.99.0" in suspect
    assert confirmed.startswith("- regression, code 3: ")
    assert "with torch 2.13 → 2.99.0" in confirmed
    assert "2.99.0" not in "".join(script.rows(store, stored.SLOW))  # it was a copy
