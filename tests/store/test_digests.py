"""summary.json: what is written is read again, and what cannot be read costs its own night only."""

import dataclasses
import json
from pathlib import Path

import pytest

from harness import codec
from harness.digest import SCHEMA, Digest, Ratio, Validity
from harness.errors import UserError
from harness.outcome import Result
from harness.store import digests
from tests import builders


def digest(run_id: str = "20260301T023000-nightly-aaaa", **overrides: object) -> Digest:
    plain = {
        "schema": SCHEMA, "run_id": run_id, "suite": "nightly", "started_at": builders.START, "duration_s": 61.5,
        "machine_id": "machine-1", "machine": "Some CPU, 2 cores", "commit": "0123456789ab", "baseline_id": "",
        "level": "quiet", "code": 0, "sentence": "No case changed beyond its noise.", "verdicts": {"no_change": 3},
        "statuses": {"ok": 3, "oom": 1}, "new_failures": 0, "over_baseline": (Ratio("torch", 1.01, 3),),
        "validity": (Validity("foreign load", Result.WARNING, "12 % of one CPU"),), "changes": ("torch 2.13 → 2.14",),
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


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "nan", '{"schema": 1}', '{"schema": 1, "more": 2}', "[" * 10_000, '{"schema": ' + "1" * 5000 + "}"]
)
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


@pytest.mark.fault("a digest names another run", "no link is made of it")
@pytest.mark.parametrize("id", ["../../elsewhere", "//evil.example", "20260302T0-b"])
def test_a_digest_of_another_run_is_none_since_its_id_becomes_a_link(tmp_path: Path, id: str) -> None:
    path = digests.write(tmp_path, digest("20260301T0-a"))
    path.write_text(codec.dumps(digest(id)))
    assert digests.read(tmp_path) == {"20260301T0-a": None}


@pytest.mark.parametrize("figure", ["NaN", "Infinity", "1e999"])
def test_a_digest_with_a_figure_that_is_none_is_none(tmp_path: Path, figure: str) -> None:
    path = digests.write(tmp_path, digest())
    path.write_text(path.read_text().replace("61.5", figure))
    assert list(digests.read(tmp_path).values()) == [None]


def test_half_a_surrogate_pair_becomes_a_mark(tmp_path: Path) -> None:
    digests.write(tmp_path, digest(sentence="it said \udcff"))
    (found,) = digests.read(tmp_path).values()
    assert found is not None
    assert found.sentence == "it said \ufffd"


def test_nothing_is_written_through_links(tmp_path: Path) -> None:
    outside, elsewhere, reports = tmp_path / "outside", tmp_path / "elsewhere", tmp_path / "reports"
    outside.write_text("mine")
    elsewhere.mkdir()
    (reports / "20260301T0-a").mkdir(parents=True)
    for name in ("summary.json", "summary.json.tmp"):
        (reports / "20260301T0-a" / name).symlink_to(outside)
    (reports / "20260302T0-b").symlink_to(elsewhere)
    digests.write(reports, digest("20260301T0-a"))
    with pytest.raises(UserError, match="20260302T0-b is a link"):
        digests.write(reports, digest("20260302T0-b"))
    assert outside.read_text() == "mine"
    assert list(elsewhere.iterdir()) == []


def test_a_folder_that_may_not_be_looked_into_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for id in ("20260301T0-a", "20260302T0-b"):
        digests.write(tmp_path, digest(id))
    is_file = Path.is_file

    def refused(path: Path) -> bool:
        if "20260301T0-a" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", refused)
    with pytest.warns(UserWarning, match="left out: .*Permission denied.*20260301T0-a"):
        assert list(digests.read(tmp_path)) == ["20260302T0-b"]


def test_drafts_of_a_killed_process_go_when_the_run_is_reported_again(tmp_path: Path) -> None:
    path = digests.write(tmp_path, digest())
    (path.parent / ".report.html.0a1b2c3d.draft").write_text("half")
    digests.write(tmp_path, digest())
    assert [each.name for each in path.parent.iterdir()] == ["summary.json"]
