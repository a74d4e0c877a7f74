"""What prune removes of a run, and what it must never touch."""

from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest

from harness import past, retention, review
from harness.record import AA, NIGHTLY
from harness.store import journal, nights, table
from tests import builders, stored

LATER = builders.START + timedelta(days=50)


def test_samples_go_and_records_nights_and_judgement_stay(tmp_path: Path) -> None:
    store = tmp_path / "results"
    folders = [*stored.nights(store, 12), stored.night(store, 12, {stored.SLOW: 1.2})]
    before, _ = review.judge(folders[-1])
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
    after, _ = review.judge(folders[-1])
    assert (after.sentence, after.level) == (before.sentence, before.level)
    pd.testing.assert_frame_equal(after.cases, before.cases)
    assert retention.plan(store, builders.START + timedelta(days=5)).old == ()


def test_what_people_or_figures_still_need_is_kept_and_said(tmp_path: Path) -> None:
    store = tmp_path / "results"
    stored.nights(store, 3)
    past.acknowledge(store, stored.SLOW, "known", "me", from_run="20260302", at=builders.START)
    stored.night(store, 3, tags=(NIGHTLY, AA))
    half = stored.night(store, 4, cells=3)
    plan = retention.plan(store, LATER)
    assert len(plan.old) == 2
    assert plan.kept == {
        "acknowledged as a new level": 1,
        "A/A, which tell the noise of this machine": 1,
        "cut off, which can be gone on with": 1,
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
    assert len(review.load(folder)) == 18
