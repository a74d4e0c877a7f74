"""A run beside another one, and what its digest and its page say of that."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from harness.errors import RunNotFoundError
from harness.outcome import Level, Outcome
from harness.review import comparing, digests
from harness.review.reading import Reading
from harness.store import table
from tests import stored


@pytest.fixture
def pair(tmp_path: Path) -> list[Reading]:
    """Two runs that are no nights; the second has another torch, in which one cell takes half as long again."""
    folders = [stored.night(tmp_path, 0, tags=()), stored.night(tmp_path, 1, {stored.SLOW: 1.5}, tags=(), torch="2.14")]
    return [Reading(folder) for folder in folders]


def test_a_comparison_of_frames_is_that_of_the_runs_that_they_hold(pair: list[Reading]) -> None:
    base, new = pair
    compared = comparing.compare(*(table.load(each.folder) for each in pair))
    assert compared.equals(comparing.between(base, new, base.records, new.records))
    assert compared.attrs == {"base": base.run.id, "new": new.run.id, "noise": "", "machines": ""}
    assert len(compared) == len(stored.CELLS)


def test_a_comparison_says_what_ran_in_either_run(pair: list[Reading]) -> None:
    for reading, kernel in zip(pair, ("brg", "ref:any"), strict=True):
        stored.profiled(reading.folder, {stored.SLOW: kernel, stored.CELLS[0]: "fusion", stored.CELLS[1]: kernel})
    base, new = (Reading(reading.folder) for reading in pair)
    compared = comparing.between(base, new, base.records, new.records)
    assert compared.attrs["base"] == base.run.id
    told = dict(zip(compared["cell"], compared["what_ran"], strict=True))
    said = "`ref:any` in new, `brg` in base"
    assert {cell: words for cell, words in told.items() if words} == {stored.SLOW: said, stored.CELLS[1]: said}
    assert [said in case for case in comparing.junit_of(compared).split("<testcase")[1:]].count(True) == 2
    judged = comparing.standing(new, base).judged
    assert judged is not None
    (note,) = judged.notes
    assert note.startswith(f"2 cases run another kernel: {said} (")
    assert judged.cases.set_index("cell")["what_ran"].to_dict()[stored.SLOW] == said


def test_a_frame_of_two_runs_is_refused(pair: list[Reading]) -> None:
    both = table.load(pair[0].store)
    with pytest.raises(RunNotFoundError, match="a comparison is of one run with another; this frame holds 2"):
        comparing.compare(both, both)


def test_what_has_no_verdict_is_skipped_in_junit(pair: list[Reading]) -> None:
    compared = comparing.compare(*(each.records for each in pair))
    compared["verdict"] = [
        Outcome.SLOWER,
        Outcome.FASTER,
        Outcome.NO_CHANGE,
        Outcome.UNCERTAIN,
        Outcome.ONLY_NEW,
        Outcome.ONLY_BASE,
    ]
    (group,) = ElementTree.fromstring(comparing.junit_of(compared))
    told = [[child.tag for child in case] for case in group]
    assert [tags.count("failure") for tags in told] == [1, 0, 0, 0, 0, 0]
    assert [tags.count("skipped") for tags in told] == [0, 0, 0, 1, 1, 1]


def test_a_run_stands_beside_none_beside_a_baseline_or_among_nights(pair: list[Reading]) -> None:
    base, new = pair
    alone = comparing.standing(new)
    assert (alone.judged, alone.nights, alone.differences) == (None, None, ())
    assert alone.checks == new.checks
    beside = comparing.standing(new, base)
    assert beside.judged is not None
    assert beside.judged.baseline == base.run.id
    assert "torch 2.13 → 2.14" in [each.words for each in beside.differences]
    assert beside.nights is None
    among = comparing.standing(Reading(stored.night(new.store, 2)))
    assert among.judged is not None
    assert among.nights is not None


def test_the_digest_of_a_run_says_how_it_ended_and_of_a_night_what_the_gate_says(pair: list[Reading]) -> None:
    base, new = pair
    alone = digests.of_run(new, comparing.standing(new))
    assert (alone.level, alone.code, alone.sentence) == ("", 0, "6 of 6 cells have a checked figure.")
    beside = digests.of_run(new, comparing.standing(new, base), report_bytes=7)
    assert (beside.baseline_id, beside.report_bytes) == (base.run.id, 7)
    assert sum(beside.verdicts.values()) == 6
    night = Reading(stored.night(new.store, 2))
    judged = digests.of_run(night, comparing.standing(night))
    assert (judged.level, judged.sentence) == (Level.QUIET, night.judgement.sentence)
    assert judged == digests.of_night(night.night, night.judgement, night.checks)
