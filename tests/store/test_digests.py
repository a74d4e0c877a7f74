"""summary.json: what is written is read again, and what cannot be read costs its own night only."""

import dataclasses
import json
from pathlib import Path

import pytest

from harness.digest import SCHEMA, Digest, Ratio, Validity
from harness.store import digests
from tests import builders


def digest(run_id: str = "20260301T023000-nightly-aaaa", **overrides: object) -> Digest:
    plain = {
        "schema": SCHEMA, "run_id": run_id, "suite": "nightly", "started_at": builders.START, "duration_s": 61.5,
        "machine_id": "machine-1", "machine": "Some CPU, 2 cores", "commit": "0123456789ab", "baseline_id": "",
        "level": "quiet", "code": 0, "sentence": "No case changed beyond its noise.", "verdicts": {"no_change": 3},
        "statuses": {"ok": 3, "oom": 1}, "new_failures": 0, "over_baseline": (Ratio("torch", 1.01, 3),),
        "validity": (Validity("foreign load", "warning", "12 % of one CPU"),), "changes": ("torch 2.13 -> 2.14",),
    }  # fmt: skip
    return Digest(**{**plain, **overrides})


def test_a_digest_comes_back_as_it_was_written(tmp_path: Path) -> None:
    written = digest()
    path = digests.write(tmp_path, written)
    assert path == tmp_path / written.run_id / "summary.json"
    assert digests.read(tmp_path) == {written.run_id: written}
    assert (written.measured, written.cells) == (3, 4)
    assert [each.name for each in path.parent.iterdir()] == ["summary.json"]  # no draft is left


def test_the_newest_is_last_and_a_page_without_a_digest_is_named(tmp_path: Path) -> None:
    digests.write(tmp_path, digest("20260302T0-b"))
    digests.write(tmp_path, digest("20260301T0-a"))
    (tmp_path / "20260303T0-c").mkdir()
    (tmp_path / "20260303T0-c" / "report.html").write_text("page")
    (tmp_path / "samples").mkdir()
    found = digests.read(tmp_path)
    assert list(found) == ["20260301T0-a", "20260302T0-b", "20260303T0-c"]
    assert found["20260303T0-c"] is None


@pytest.mark.parametrize("text", ["", "[]", "{", "nan", '{"schema": 1}', '{"schema": 1, "more": 2}'])
def test_a_damaged_one_is_none(tmp_path: Path, text: str) -> None:
    digests.write(tmp_path, digest()).write_text(text)
    assert list(digests.read(tmp_path).values()) == [None]


def test_one_of_another_schema_is_none(tmp_path: Path) -> None:
    digests.write(tmp_path, dataclasses.replace(digest(), schema=SCHEMA + 1))
    assert list(digests.read(tmp_path).values()) == [None]


def test_a_figure_that_json_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        digests.write(tmp_path, digest(over_baseline=(Ratio("torch", float("nan"), 3),)))
    assert digests.read(tmp_path) == {}


def test_no_reports_are_no_error(tmp_path: Path) -> None:
    assert digests.read(tmp_path / "nowhere") == {}
    assert json.loads(digests.write(tmp_path, digest()).read_text())["level"] == "quiet"
