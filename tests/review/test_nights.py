"""The nights of a suite: one among those before it, and those of a single cell."""

import dataclasses
from pathlib import Path

import pytest

from harness.analysis import gate
from harness.analysis.costs import Cost, CostStep
from harness.errors import HistoryError
from harness.outcome import Level, State
from harness.record import EVERY_CASE
from harness.review import nights
from harness.review.reading import Reading
from harness.store import acknowledgements
from tests import builders, stored

OTHER = str(builders.cell(workload="one"))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Three quiet nights, and a fourth with another torch."""
    stored.nights(tmp_path, 3)
    stored.night(tmp_path, 3, torch="2.14")
    return tmp_path


def night(store: Path, day: int) -> nights.Night:
    (folder,) = store.glob(f"runs/*-{day:04x}")
    return Reading(folder).night


def test_a_night_knows_those_up_to_it_and_what_changed_before_each(store: Path) -> None:
    early, late = night(store, 1), night(store, 3)
    assert [len(each.history.runs) for each in (early, late)] == [2, 4]
    assert late.before is not None
    assert late.before.id.endswith("-0002")
    assert night(store, 0).before is None
    assert early.breaks() == ()
    assert late.breaks() == ((late.run.id, "torch 2.13 → 2.14"),)
    assert nights.changed(late.before, late.run) == ("torch 2.13 → 2.14",)
    assert len(late.figures()) == 4 * len(stored.CELLS)


def test_a_night_on_which_nothing_was_measured_is_invalid_and_says_why(store: Path) -> None:
    of = Reading(stored.night(store, 4, refusal="the machine was busy")).night
    assert of.unmeasured == "not measured: the machine was busy"
    assert of.judge().level is Level.INVALID


def test_a_run_that_is_no_night_has_none(store: Path) -> None:
    reading = Reading(stored.night(store, 4, tags=()))
    assert not reading.is_night
    with pytest.raises(HistoryError, match="found no night there; a night is a run tagged nightly"):
        _ = reading.night


def test_a_cell_has_a_row_per_night_with_its_segment_and_what_changed(store: Path) -> None:
    frame = nights.of_cell(store, stored.SLOW)
    assert frame["segment"].tolist() == [0, 0, 0, 1]
    assert frame["changed"].tolist() == ["", "", "", "torch 2.13 → 2.14"]
    assert (frame.attrs["cell"], frame.attrs["shape"]) == (stored.SLOW, "n1 c1 k2 4x4 f3x3 p1x1")
    (line,) = frame.attrs["now"]
    assert line.startswith(f"{stored.SLOW}: insufficient history")


@pytest.mark.parametrize(
    ("name", "message"),
    [("two", "'two' is the start of 2: "), ("tow/fprop", 'found "tow/fprop"; nearest of 6: two/fprop'), ("", "nearest of 6")],
)
def test_a_cell_goes_by_its_id_or_the_start_of_one_alone(store: Path, name: str, message: str) -> None:
    known = nights.history(store, stored.SUITE)
    assert nights.find_cell(known, stored.SLOW) == stored.SLOW
    assert nights.find_cell(known, stored.SLOW.rpartition("/")[0]) == stored.SLOW
    with pytest.raises(HistoryError, match=message):
        nights.find_cell(known, name)


def test_what_is_acknowledged_stands_at_its_night_and_is_kept(store: Path) -> None:
    said = nights.acknowledge(store, stored.SLOW, "  a new\ntorch ", "me", from_run="20260304", at=builders.START)
    assert (said.reason, said.from_run) == ("a new torch", "20260304")
    assert nights.of_cell(store, stored.SLOW)["note"].tolist() == ["", "", "", "acknowledged by me: a new torch"]
    assert nights.of_cell(store, OTHER)["note"].tolist() == [""] * 4
    every = nights.acknowledge(store, EVERY_CASE, "all of it", "me", at=builders.START)
    assert every.from_run.endswith("-0003")  # nothing is held against any: from the newest night on
    assert acknowledgements.read(store) == [said, every]


@pytest.mark.parametrize(
    ("reason", "from_run", "message"),
    [(" ", None, "--reason: found none"), ("known", "2027", "--from: found "), ("known", "20260304x", "--from: found ")],
)
def test_what_cannot_be_acknowledged_is_refused(store: Path, reason: str, from_run: str | None, message: str) -> None:
    with pytest.raises(HistoryError, match=message):
        nights.acknowledge(store, stored.SLOW, reason, "me", from_run=from_run, at=builders.START)
    assert acknowledgements.read(store) == []


def test_an_acknowledgement_holds_from_the_first_night_of_what_a_case_costs_more(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    judged, second = night(store, 3).judge(), night(store, 3).history.runs[1].id
    step = CostStep(stored.SLOW, "two", Cost.MEMORY, State.OPEN, 1e6, 9e6, 8.0, second, "")
    monkeypatch.setattr(gate, "judge", lambda *_: dataclasses.replace(judged, costs=(step,)))
    assert nights.acknowledge(store, stored.SLOW, "known", "me", at=builders.START).from_run == second
    assert nights.acknowledge(store, OTHER, "known", "me", at=builders.START).from_run.endswith("-0003")
