"""Profiles of a night: which are made within which time, and what page and messages say of a kernel that has changed."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest

from harness.analysis.due import Why
from harness.nights import nightly, notify
from harness.nights.notify import Format
from harness.plan import Budget, Plan, Step
from harness.profile import Profile
from harness.spec import Cell
from harness.store import journal
from tests import stored

FAST, REFERENCE = "brg_conv_fwd:avx512_core", "ref:any"
PLAN = Plan(stored.SUITE, tuple(Step(0, order, cell) for order, cell in enumerate(stored.PLANNED)), 7, Budget())


def planned(folder: Path, took_s: float = 600.0) -> Path:
    """That night with its plan, and with the time that it took."""
    journal.write_plan(folder, PLAN)
    journal.finish(folder, dataclasses.replace(journal.read_run(folder), took_s=took_s))
    return folder


class Maker:
    """Makes profiles that take so many seconds each on its own clock, and remembers of which cells it was asked."""

    def __init__(self, each_s: float = 1.0, kernel: str = FAST) -> None:
        self.each_s, self.kernel, self.now_s = each_s, kernel, 0.0
        self.asked: list[str] = []
        self.made: list[str] = []

    def clock(self) -> float:
        return self.now_s

    def __call__(self, folder: Path, cells: Sequence[Cell]) -> Iterator[Profile]:
        self.asked += map(str, cells)
        for cell in cells:
            self.now_s += self.each_s
            self.made.append(str(cell))
            stored.profiled(folder, {str(cell): self.kernel})
            yield journal.scan(folder).profiles[-1]

    def profile(self, folder: Path) -> nightly.Profiled | None:
        return nightly.profile(folder, self, self.clock)


# Which, and for how long --------------------------------------------------------------------------------------------------


def test_a_first_night_profiles_every_cell_that_its_time_allows(tmp_path: Path) -> None:
    maker = Maker()
    done = maker.profile(planned(stored.night(tmp_path, 0)))
    assert done is not None
    assert maker.made == sorted(stored.CELLS)
    assert set(done.made.values()) == {Why.NEW}
    assert (done.due, done.took_s, done.night_s) == (6, 6.0, 600.0)


def test_the_time_is_a_tenth_of_the_night_by_what_profiles_took_before_and_by_the_clock(tmp_path: Path) -> None:
    maker = Maker(each_s=25.0)
    done = maker.profile(planned(stored.night(tmp_path, 0)))
    assert done is not None
    assert len(maker.made) == 3  # it took longer than was guessed
    assert (len(done.made), done.due) == (3, 6)
    cheap = Maker()
    done = cheap.profile(planned(stored.night(tmp_path, 1), took_s=100.0))  # of 3 s each, as its profiles say
    assert done is not None
    assert len(cheap.asked) == 3


def test_the_next_nights_go_on_with_what_was_left_and_then_take_turns(tmp_path: Path) -> None:
    first, second, third = (Maker(each_s) for each_s in (25.0, 1.0, 1.0))
    first.profile(planned(stored.night(tmp_path, 0)))
    second.profile(planned(stored.night(tmp_path, 1)))
    left = sorted({*stored.CELLS} - {*first.made})
    assert second.made == [*left, first.made[0]]  # and one of ten in turn
    assert third.profile(planned(stored.night(tmp_path, 2))) is not None
    assert third.made == [first.made[1]]


def test_what_is_slower_comes_first(tmp_path: Path) -> None:
    stored.nights(tmp_path, 12)
    maker = Maker()
    done = maker.profile(planned(stored.night(tmp_path, 12, {stored.SLOW: 1.2}), took_s=70.0))  # enough for one
    assert done is not None
    assert done.made == {stored.SLOW: Why.SLOWER}


def test_new_versions_are_profiled_before_others_have_their_turn(tmp_path: Path) -> None:
    stored.profiled(stored.night(tmp_path, 0), dict.fromkeys(stored.CELLS, FAST))
    maker = Maker()
    done = maker.profile(planned(stored.night(tmp_path, 1, torch="2.14")))
    assert done is not None
    torch = [cell for cell in sorted(stored.CELLS) if "/torch/" in cell]
    assert maker.made[:3] == torch
    assert list(done.made.values()) == [Why.NEW] * 3 + [Why.TURN]


@pytest.mark.fault("a night was not measured, or was cut off", "nothing of it is profiled")
def test_what_was_not_measured_to_the_end_is_not_profiled(tmp_path: Path) -> None:
    maker = Maker()
    assert maker.profile(stored.night(tmp_path, 0, refusal="the machine was busy")) is None
    assert maker.profile(planned(stored.night(tmp_path, 1, cells=2))) is None
    assert maker.asked == []


# What is said of it -------------------------------------------------------------------------------------------------------


def concluded(folder: Path, page: bool = True) -> nightly.Night:
    return nightly.conclude(folder, folder.parents[2] / "reports", page)


def first_screen(night: nightly.Night) -> str:
    """The first section of the page."""
    assert night.page is not None
    text = night.page.read_text()
    return text[text.index('id="verdict"') : text.index('id="validity"')]


@pytest.fixture
def slow(tmp_path: Path) -> nightly.Night:
    """The second night with a cell that is slower, which another kernel computes since the first."""
    store = tmp_path / "results"
    stored.nights(store, 12)
    stored.profiled(store / "runs" / "20260311T023000-small-000a", {stored.SLOW: FAST})
    stored.profiled(stored.night(store, 12, {stored.SLOW: 1.5}), {stored.SLOW: REFERENCE}, 1.4e6)
    return concluded(stored.night(store, 13, {stored.SLOW: 1.5}))


def test_the_page_names_both_kernels_and_their_nights_in_its_first_screen(slow: nightly.Night) -> None:
    told = f"<code>{REFERENCE}</code> on 03-13, <code>{FAST}</code> on 03-11"
    screen = first_screen(slow)
    assert f"1 case runs another kernel: {told} (two forward, torch eager on cpu)" in screen
    assert f'<span class="ran">{told}</span>' in screen


def test_every_message_names_them_too(slow: nightly.Night) -> None:
    told = f"`{REFERENCE}` on 03-13, `{FAST}` on 03-11"
    said = notify.notice(slow.judgement, slow.digest)
    lines = notify.markdown(said).splitlines()
    assert f"- 1 case runs another kernel: {told} (two forward, torch eager on cpu)" in lines
    assert next(line for line in lines if line.startswith("| two/")).endswith(f"| {told} |")
    (case,) = notify.payload(said, Format.JSON)["cases"]
    assert case["what_ran"] == told
    assert (case["ran_before"], case["ran_now"]) == (FAST, REFERENCE)
    assert (case["ran_before_id"], case["ran_now_id"]) == ("20260311T023000-small-000a", "20260313T023000-small-000c")
    assert told in json.dumps(notify.payload(said, Format.SLACK))
    (group,) = ElementTree.fromstring(notify.junit_xml(slow.judgement, slow.digest))
    (failure,) = next(each for each in group if each.get("name") == stored.SLOW)
    assert told in (failure.get("message") or "")


def test_a_change_of_kernel_between_two_nights_is_named_though_nothing_can_be_judged_yet(tmp_path: Path) -> None:
    store = tmp_path / "results"
    stored.profiled(stored.night(store, 0), {stored.SLOW: FAST, stored.CELLS[0]: "fusion"})
    night = concluded(stored.profiled(stored.night(store, 1), {stored.SLOW: REFERENCE, stored.CELLS[0]: "fusion"}))
    assert (night.judgement.level, night.code) == ("quiet", 0)
    said = f"1 case runs another kernel: <code>{REFERENCE}</code> on 03-02, <code>{FAST}</code> on 03-01"
    assert said in first_screen(night)
    assert f"`{REFERENCE}` on 03-02, `{FAST}` on 03-01" in notify.markdown(notify.notice(night.judgement, night.digest))


def test_a_slower_cell_by_the_same_kernel_says_that_it_takes_longer(tmp_path: Path) -> None:
    store = tmp_path / "results"
    stored.nights(store, 12)
    stored.profiled(store / "runs" / "20260311T023000-small-000a", {stored.SLOW: FAST}, 9e5)
    folder = stored.profiled(stored.night(store, 12, {stored.SLOW: 1.5}), {stored.SLOW: FAST}, 13e5)
    night = concluded(folder, page=False)
    told = f"the same kernel takes longer: `{FAST}` 1.300 ms on 03-13, 900.0 µs on 03-11"
    assert told in notify.markdown(notify.notice(night.judgement, night.digest))
    assert "another kernel" not in notify.markdown(notify.notice(night.judgement, night.digest))


def test_a_slower_cell_that_was_never_profiled_says_so(tmp_path: Path) -> None:
    store = tmp_path / "results"
    stored.nights(store, 12)
    night = concluded(stored.night(store, 12, {stored.SLOW: 1.5}))
    assert '<span class="ran">not profiled</span>' in first_screen(night)
    with_tonight = stored.profiled(night.folder, {stored.SLOW: REFERENCE})
    assert f"<code>{REFERENCE}</code> on 03-13; no profile of before" in first_screen(concluded(with_tonight))


@pytest.mark.fault("the profiles of a night are damaged, and its journal is gone", "what ran is not told, the night is judged")
def test_damaged_profiles_cost_what_they_would_tell_and_no_judgement(tmp_path: Path) -> None:
    store = tmp_path / "results"
    stored.nights(store, 12)
    before = stored.profiled(store / "runs" / "20260311T023000-small-000a", {stored.SLOW: FAST})
    folder = stored.profiled(stored.night(store, 12, {stored.SLOW: 1.5}), {stored.SLOW: REFERENCE})
    assert concluded(folder, page=False).code == 4  # which keeps the night of the one to be damaged
    (before / journal.JOURNAL).unlink()
    (before / "kernels.parquet").write_bytes(b"PAR1 and no more")
    with pytest.warns(UserWarning, match=r"kernels\.parquet is damaged"):
        night = concluded(folder, page=False)
    assert night.code == 4
    assert night.judgement.cases["what_ran"].iloc[0] == f"`{REFERENCE}` on 03-13; no profile of before"
