"""One night: how long a busy machine is waited for, and what a night leaves behind."""

import json
from pathlib import Path

import pytest

from harness import doctor
from harness.doctor import Finding, Severity
from harness.execution import host
from harness.execution.host import Patience
from harness.nights import nightly
from harness.outcome import Level
from harness.review import nights as nights_of
from harness.review import pages
from harness.review.reading import Reading
from harness.store import digests
from tests import builders, stored


class Clock:
    """Time that passes in sleep alone."""

    def __init__(self) -> None:
        self.now, self.slept = 0.0, []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def patience(looks: list[str], limit_s: float, clock: Clock, told: list[str] | None = None) -> Patience:
    """Looks as scripted, the last for ever."""
    said = iter(looks)
    last = [""]

    def look() -> str:
        last[0] = next(said, last[0])
        return last[0]

    return Patience(limit_s, look, (told if told is not None else []).append, clock, clock.sleep)


def test_a_quiet_machine_is_measured_at_once() -> None:
    clock, asked = Clock(), []
    nightly.measure(lambda refusal: asked.append(refusal) or builders.run(), patience([""], 60, clock))
    assert (asked, clock.slept) == ([""], [])


def test_a_busy_machine_is_waited_for_and_each_reason_said_once() -> None:
    clock, told = Clock(), []
    busy = ["a compiler", "a compiler", "a backup", ""]
    assert nightly.measure(lambda refusal: builders.run(tags=(refusal,)), patience(busy, 600, clock, told)).tags == ("",)
    assert clock.slept == [30, 30, 30]
    assert told == ["a compiler", "a backup"]


def test_a_machine_that_stays_busy_gives_a_night_that_was_not_measured() -> None:
    clock = Clock()
    run = nightly.measure(lambda refusal: builders.run(tags=(refusal,)), patience(["a backup"], 75, clock))
    assert run.tags == ("the machine was busy for 1 min 15 s: a backup",)
    assert clock.slept == [30, 30, 15]


def test_who_will_not_wait_is_refused_at_once() -> None:
    clock = Clock()
    assert (
        "a backup" in nightly.measure(lambda refusal: builders.run(tags=(refusal,)), patience(["a backup"], 0, clock)).tags[0]
    )
    assert clock.slept == []


def test_a_look_sees_a_run_and_what_the_doctor_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock is held where nothing is in the way, and only then."""
    monkeypatch.setenv(host.VARIABLE, str(tmp_path / "lock"))
    monkeypatch.setattr(doctor, "busy", lambda: None)
    with host.locked() as lock, host.locked() as other:
        assert other.take()
        assert nightly.look(lock).startswith("another run is measuring on this host")
        other.release()
        assert nightly.look(lock) == ""
        assert nightly.look(lock) == ""  # still its own
        assert not other.take()
        lock.release()
        monkeypatch.setattr(
            doctor, "busy", lambda: Finding("other processes", Severity.BLOCKING, "97 % of one CPU: cc (pid 7)")
        )
        assert nightly.look(lock) == "other processes: 97 % of one CPU: cc (pid 7)"
        assert other.take()


# What a night leaves behind -----------------------------------------------------------------------------------------------


def conclude(folder: Path, page: bool = False) -> nightly.Night:
    return nightly.conclude(folder, folder.parents[2] / "reports", page)


def test_a_slowed_cell_is_a_suspicion_then_a_regression_and_is_named(tmp_path: Path) -> None:
    store = tmp_path / "results"
    codes = [conclude(folder).code for folder in stored.nights(store, 12)]
    assert codes == [0] * 12
    first = conclude(stored.night(store, 12, {stored.SLOW: 1.2}))
    assert (first.code, first.judgement.level) == (4, Level.SUSPECT)
    second = conclude(stored.night(store, 13, {stored.SLOW: 1.2}))
    assert (second.code, second.judgement.level) == (3, Level.REGRESSION)
    held = second.judgement.cases.query("state == 'confirmed'")
    assert held["cell"].tolist() == [stored.SLOW]
    assert "two forward" in second.digest.sentence
    assert second.digest.verdicts == {"confirmed": 1, "steady": 5}


def test_a_half_night_is_invalid_and_stays_out_of_the_baselines(tmp_path: Path) -> None:
    store = tmp_path / "results"
    stored.nights(store, 12)
    half = conclude(stored.night(store, 12, dict.fromkeys(stored.CELLS[:2], 3.0), cells=2))
    assert (half.code, half.judgement.level) == (5, Level.INVALID)
    assert (half.digest.measured, half.digest.cells) == (2, 6)
    after = conclude(stored.night(store, 13))
    assert (after.code, after.judgement.level) == (0, Level.QUIET)
    # Each case is held against the quiet nights alone.
    assert after.judgement.cases["baseline_ns"].between(0.99e6, 1.01e6).all()
    assert conclude(stored.night(store, 14, {stored.SLOW: 1.2})).code == 4
    assert conclude(stored.night(store, 15, {stored.SLOW: 1.2})).code == 3


def test_a_night_that_was_not_measured_says_why_and_changes_nothing(tmp_path: Path) -> None:
    store = tmp_path / "results"
    stored.nights(store, 12)
    stored.night(store, 12, {stored.SLOW: 1.2})
    busy = conclude(stored.night(store, 13, refusal="the machine was busy for 30 min 00 s: a backup"), page=True)
    assert busy.broken == ()
    assert busy.error is None
    assert (busy.code, busy.judgement.level) == (5, Level.INVALID)
    assert "not measured: the machine was busy for 30 min 00 s: a backup" in busy.digest.sentence
    assert busy.digest.machine == "Some CPU, 2 cores"  # that of the nights before
    assert busy.digest.statuses == {"not_run": 6}
    assert conclude(stored.night(store, 14, {stored.SLOW: 1.2})).code == 3  # the second night that says so


def test_the_digest_stands_beside_the_page(tmp_path: Path) -> None:
    store = tmp_path / "results"
    stored.nights(store, 11)
    night = conclude(stored.night(store, 11, torch="2.14"), page=True)
    found = digests.read(tmp_path / "reports")[night.digest.run_id]
    assert found == night.digest
    assert night.page is not None
    assert found.report_bytes == night.page.stat().st_size
    assert "Held against up to 11 earlier nights, the last of 2026-03-11. Changed since:" in night.page.read_text()
    assert found.changes == ("torch 2.13 → 2.14",)
    assert found.baseline_id.endswith("000a")
    assert {each.backend: each.cells for each in found.over_baseline} == {"jax": 3, "torch": 3}
    assert {each.backend: round(each.ratio, 2) for each in found.over_first} == {"jax": 1.0, "torch": 1.0}
    assert json.loads((night.page.parent / "summary.json").read_text())["level"] == "quiet"


def test_a_page_that_cannot_be_made_costs_neither_digest_nor_judgement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> Path:
        raise ZeroDivisionError("a chart")

    monkeypatch.setattr(pages, "publish", broken)
    night = conclude(stored.night(tmp_path / "results", 0), page=True)
    assert isinstance(night.error, ZeroDivisionError)
    assert night.code == 1
    (found,) = digests.read(tmp_path / "reports").values()
    assert found is not None
    assert (found.level, found.report_bytes) == ("quiet", None)


def test_an_acknowledged_cell_has_a_new_baseline(tmp_path: Path) -> None:
    store = tmp_path / "results"
    stored.nights(store, 12)
    for day in (12, 13):
        conclude(stored.night(store, day, {stored.SLOW: 1.2}))
    assert conclude(stored.night(store, 14, {stored.SLOW: 1.2})).code == 3  # open, until somebody says so
    said = nights_of.acknowledge(store, stored.SLOW, "known", "me", at=builders.START)
    assert said.from_run.endswith("000c")  # where it began
    calm = conclude(stored.night(store, 15, {stored.SLOW: 1.2}))
    assert calm.code == 0
    row = calm.judgement.cases.set_index("cell").loc[stored.SLOW]
    assert (row["state"], row["note"]) == ("acknowledged", "acknowledged by me: known")


def test_a_first_night_is_not_said_to_be_held_against_another(tmp_path: Path) -> None:
    folder = stored.night(tmp_path / "results", 0)
    text = pages.page(Reading(folder)).text
    assert "There is no earlier night to hold it against." in text
    assert "No recorded fact of the environment" not in text
