"""What prune removes of a run, and what it must never touch."""

import dataclasses
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from harness import codec
from harness.cli import app
from harness.nights import retention
from harness.record import AA, NIGHTLY
from harness.review import nights as nights_of
from harness.review.reading import Reading
from harness.store import journal, nights, table
from tests import builders, stored

LATER = builders.START + timedelta(days=50)


def test_samples_go_and_records_nights_and_judgement_stay(tmp_path: Path) -> None:
    store = tmp_path / "results"
    folders = [*stored.nights(store, 12), stored.night(store, 12, {stored.SLOW: 1.2})]
    before = Reading(folders[-1]).judgement
    records = table.load(store)
    plan = retention.plan(store, builders.START + timedelta(days=5))
    assert [old.folder for old in plan.old] == folders[:5]
    assert all(old.nbytes == sum(path.stat().st_size for path in old.files) for old in plan.old)
    for old in plan.old:
        retention.prune(old)
    assert sorted(path.name for path in folders[0].iterdir()) == [nights.NIGHT, "records.parquet", journal.RUN]
    assert (folders[5] / table.SAMPLES).is_file()
    pd.testing.assert_frame_equal(table.load(store), records)
    assert len(table.samples(folders[0])) == 0
    after = Reading(folders[-1]).judgement
    assert (after.sentence, after.level) == (before.sentence, before.level)
    pd.testing.assert_frame_equal(after.cases, before.cases)
    assert retention.plan(store, builders.START + timedelta(days=5)).old == ()


def test_what_people_or_figures_still_need_is_kept_and_said(tmp_path: Path) -> None:
    store = tmp_path / "results"
    stored.nights(store, 3)
    nights_of.acknowledge(store, stored.SLOW, "known", "me", from_run="20260302", at=builders.START)
    stored.night(store, 3, tags=(NIGHTLY, AA))
    half = stored.night(store, 4, cells=3)
    plan = retention.plan(store, LATER)
    assert len(plan.old) == 2
    assert plan.kept == {
        "acknowledged as a new level": 1,
        "A/A, which tell the noise of this machine": 1,
        "cut off, which can be resumed": 1,
    }
    assert half not in [old.folder for old in plan.old]


def test_a_link_to_a_run_elsewhere_is_left_alone(tmp_path: Path) -> None:
    elsewhere = stored.night(tmp_path / "samples", 0)
    (tmp_path / "results" / "runs").mkdir(parents=True)
    (tmp_path / "results" / "runs" / elsewhere.name).symlink_to(elsewhere)
    assert retention.plan(tmp_path / "results", LATER).old == ()


def test_what_cannot_be_kept_is_not_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = stored.night(tmp_path, 0)
    (old,) = retention.plan(tmp_path, LATER).old

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(retention.nights, "keep", full)
    with pytest.raises(OSError, match="no space"):
        retention.prune(old)
    assert (folder / table.SAMPLES).is_file()
    assert (folder / journal.JOURNAL).is_file()
    assert len(table.load(folder)) == 18


@pytest.mark.fault("a run calls itself by the path of another store's", "pruning touches neither")
@pytest.mark.parametrize("id", ["../../../other/runs/{}", "{}"])
def test_a_run_that_calls_itself_by_the_path_of_another_is_left_out_and_costs_that_one_nothing(tmp_path: Path, id: str) -> None:
    other = stored.night(tmp_path / "other", 0)
    evil = stored.night(tmp_path / "results", 1)
    (evil / journal.RUN).write_text(codec.dumps(dataclasses.replace(journal.read_run(evil), id=id.format(other.name))))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.warns(UserWarning, match="left out"):
        assert retention.plan(tmp_path / "results", LATER).old == ()
    with pytest.warns(UserWarning, match="left out"):
        said = CliRunner().invoke(app, ["prune", "--older-than", "1s", "--out", str(tmp_path / "results")])
    assert said.exit_code == 0, said.output
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.fault("a run with a damaged journal is to be pruned", "it is kept and named, the others are pruned")
def test_a_damaged_run_is_said_and_keeps_no_other_from_being_pruned(tmp_path: Path) -> None:
    folders = stored.nights(tmp_path, 3)
    path = folders[0] / journal.JOURNAL
    path.write_bytes(path.read_bytes().replace(b"torch", b"tarch", 1))
    with pytest.warns(UserWarning, match="line 1 is damaged|damaged, and left out"):
        said = CliRunner().invoke(app, ["prune", "--older-than", "1s", "--out", str(tmp_path)])
    assert said.exit_code == 2
    assert "is damaged: its samples are kept" in said.stderr
    assert "of 2 runs removed" in said.stderr
    assert [(folder / table.SAMPLES).exists() for folder in folders] == [True, False, False]


@pytest.mark.fault("the clock was set back before a run is pruned", "its age is counted from its place")
def test_the_age_of_a_run_is_counted_from_its_place_after_the_clock_was_set_back(tmp_path: Path) -> None:
    folder = stored.night(tmp_path, 0)
    run = journal.read_run(folder)
    long_ago = dataclasses.replace(run, started_at=codec.EARLIEST, finished_at=codec.EARLIEST, placed_at=builders.START)
    journal.finish(folder, long_ago)
    assert retention.plan(tmp_path, builders.START - timedelta(days=1)).old == ()


def test_one_run_that_is_dated_in_the_future_does_not_keep_all_after_it_for_ever(tmp_path: Path) -> None:
    folder = stored.night(tmp_path, 0)
    run = journal.read_run(folder)
    journal.finish(folder, dataclasses.replace(run, placed_at=builders.START.replace(year=2199)))
    (old,) = retention.plan(tmp_path, builders.START + timedelta(days=30)).old
    assert old.folder == folder
