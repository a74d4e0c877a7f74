"""The page of all runs: what it says of each, what it joins and what it keeps apart, and that it stays small."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from harness.digest import SCHEMA, Digest, Ratio, Validity
from harness.outcome import Result
from harness.page import index
from tests.page.soundness import HOSTILE, Page

START = datetime(2026, 1, 1, 2, 30, tzinfo=UTC)
LEVELS = ("quiet", "quiet", "quiet", "suspect", "regression", "improved", "machine_event", "partial")


def digest(at: int, machine: int = 1, **overrides: object) -> Digest:
    started = START + timedelta(days=at)
    level = LEVELS[at % len(LEVELS)]
    moved = at % 5
    plain = {
        "schema": SCHEMA, "run_id": f"{started:%Y%m%dT%H%M%S}-nightly-{at:04x}", "suite": "nightly", "started_at": started,
        "duration_s": 3600.0, "machine_id": f"machine-{machine}", "machine": f"Some CPU {machine}, 2 cores",
        "commit": f"{at:012x}", "baseline_id": "before", "level": level, "code": 0,
        "sentence": f"Night {at}: what the gate said.",
        "verdicts": {"confirmed": moved, "suspect": 1, "improved": 2, "steady": 80}, "statuses": {"ok": 83, "oom": 1},
        "new_failures": moved, "over_baseline": (Ratio("torch", 1.012, 40), Ratio("jax", 0.9996, 40)),
        "over_first": (Ratio("torch", 1 + at / 500, 40), Ratio("jax", 1 - at / 900, 38)),
        "validity": (Validity("foreign load", Result.WARNING if at % 3 else Result.PASS, "12 %"),),
        "changes": ("torch 2.13 → 2.14",) if at % 10 == 9 else (), "report_bytes": 1_000_000,
    }  # fmt: skip
    return Digest(**{**plain, **overrides})


def nights(count: int) -> dict[str, Digest | None]:
    """So many nights, oldest first; every fourth on another machine."""
    found = [digest(at, 2 if at % 4 == 3 else 1) for at in range(count)]
    return {each.run_id: each for each in found}


def rendered(digests: dict[str, Digest | None], pages: list[str] | None = None) -> str:
    made = index.render(digests, list(digests) if pages is None else pages)
    assert made.broken == ()
    return made.text


def sound(text: str) -> Page:
    page = Page(text)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.tags:
        assert "style" not in attributes, tag
        assert not [name for name in attributes if name.startswith("on")], tag
        assert not re.match("(?i)[a-z]+:|//", str(attributes.get("href") or "")), attributes
    return page


def rows(text: str) -> list[list[str]]:
    body = re.search(r'<table id="table">.*?<tbody>(.*?)</tbody>', text, re.S)[1]
    return [
        [re.sub(r"<[^>]*>", "", cell).strip() for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S)]
        for row in re.findall(r"<tr[^>]*>(.*?)</tr>", body, re.S)
    ]


def test_the_latest_run_in_its_own_words():
    digests = nights(30)
    text = rendered(digests)
    sound(text)
    latest = list(digests.values())[-1]
    assert latest.sentence in text
    assert f'href="{latest.run_id}/report.html"' in text
    assert "last quiet run: 2026-01-30" in text  # improved is good news too
    assert "last invalid run: none" in text


def test_a_row_per_run_newest_first():
    digests = nights(12)
    shown = rows(rendered(digests))
    assert [row[0] for row in shown] == [f"{each.started_at:%Y-%m-%d %H:%M}" for each in reversed(digests.values())]
    # PyTorch stands before JAX in every table.
    assert shown[0] == [
        "2026-01-12 02:30", "machine-2", "0000000", "▲ suspect", "2", "", "2", "1", "+1.2", "0.0", "! 1 warning",
        "83 / 84", "",
    ]  # fmt: skip
    assert shown[2][-1] == "torch 2.13 → 2.14"


def test_machines_and_suites_are_not_joined():
    charts = re.findall(r'<figcaption id="[^"]*">(.*?)</figcaption>', rendered(nights(20)))
    assert charts == ["nightly on machine-2", "nightly on machine-1"]
    other = digest(3, suite="other"), digest(7, suite="other")
    charts = re.findall(
        r'<figcaption id="[^"]*">(.*?)</figcaption>', rendered(nights(3) | {each.run_id: each for each in other})
    )
    assert charts == ["other on machine-1", "nightly on machine-1"]


def test_a_missed_night_is_a_gap():
    whole = rendered({each.run_id: each for each in (digest(at) for at in range(8))})
    broken = rendered({each.run_id: each for each in (digest(at) for at in (0, 1, 2, 3, 5, 6, 7))})
    lines = re.compile(r'<path [^>]*class="s-(?:pt|jx)" [^>]*d="M[^"]*L')
    assert len(lines.findall(whole)) == 2
    assert len(lines.findall(broken)) == 4


def test_a_plain_run_was_not_judged():
    plain = digest(1, level="", verdicts={}, over_baseline=(), over_first=(), validity=(), new_failures=0)
    text = rendered({plain.run_id: plain})
    assert rows(text)[0][3:] == ["not judged", "–", "83 / 84", ""]  # no column for what no run has
    judged = digest(2)
    shown = rows(rendered({each.run_id: each for each in (plain, judged)}))
    assert shown[1][3:] == ["not judged", "–", "", "–", "–", "–", "–", "–", "83 / 84", ""]
    assert "No machine has two judged nights" in text


def note(text: str) -> str:
    return text[text.index('<section id="runs"') :].partition('<p class="note">')[2].partition("</p>")[0]


def test_a_column_or_word_is_explained_only_where_it_stands():
    judged = rendered(nights(3))
    assert "geomean %" in judged
    assert "Geomean: " in note(judged)
    assert "Not judged: " not in note(judged)
    plain = digest(1, level="", verdicts={}, over_baseline=(), validity=(), new_failures=0)  # a trend has its backends yet
    text = rendered({plain.run_id: plain})
    assert "geomean %" not in text
    assert "Geomean: " not in note(text)
    assert "Not judged: the run was held against no other." in note(text)


def test_dashes_in_a_trend_are_explained_only_where_there_is_one():
    still = {each.run_id: each for each in (digest(at, changes=()) for at in range(3))}
    assert "Dashed: " not in rendered(still)
    assert "Dashed: " in rendered({each.run_id: each for each in (digest(at) for at in (8, 9, 10))})


def test_several_warnings_are_warnings():
    several = digest(1, validity=(Validity("one", Result.WARNING, ""), Validity("two", Result.WARNING, "")))
    failed = digest(2, validity=(Validity("one", Result.FAILED, ""),) * 2)
    shown = rows(rendered({each.run_id: each for each in (several, failed)}))
    assert [row[-3] for row in shown] == ["✕ 2 failed", "! 2 warnings"]


def test_a_run_without_a_digest_is_listed_and_one_without_a_page_has_no_link():
    digests = nights(3)
    digests["20260104T000000-first-abcd"] = None
    kept = list(digests)[1:]
    text = rendered(digests, kept)
    shown = rows(text)
    assert shown[-1][0] == "20260104T000000-first-abcd"
    assert shown[-1][3] == "no summary"
    assert f'href="{next(iter(digests))}/report.html"' not in text
    assert all(f'href="{run_id}/report.html"' in text for run_id in kept)


def test_why_a_night_was_invalid_stands_in_its_row():
    bad = digest(4, level="invalid", sentence="Only 40 of 84 cells were measured.")
    text = rendered({bad.run_id: bad})
    assert rows(text)[0][-1] == "Only 40 of 84 cells were measured."
    assert "last invalid run: 2026-01-05" in text


def test_nothing_at_all():
    text = rendered({})
    sound(text)
    assert "No run has been reported." in text


@pytest.mark.parametrize("nasty", HOSTILE)
def test_hostile_text_stays_text(nasty):
    nasty = nasty.replace("\ud800", "")
    found = [
        digest(
            at, suite=nasty, machine=nasty, machine_id=nasty, commit=nasty, sentence=nasty, changes=(nasty,), level=nasty,
            over_first=(Ratio(nasty, 1.0, 3),), over_baseline=(Ratio(nasty, 1.0, 3),),
            validity=(Validity(nasty, Result.FAILED, ""),),
        )
        for at in range(3)
    ]  # fmt: skip
    text = rendered({each.run_id: each for each in found})
    page = sound(text)
    assert len([tag for tag, _ in page.tags if tag == "script"]) == 1
    assert "<img" not in text


def test_a_year_is_small_and_twice_the_same():
    digests = nights(365)
    text = rendered(digests)
    assert len(text.encode()) <= 300_000
    assert rendered(dict(reversed(digests.items()))) == text
