"""A history as charts need it."""

import math
from datetime import timedelta

import pandas as pd

from harness.analysis import timeline
from harness.analysis.history import History
from harness.record import NIGHT_COLUMNS
from tests.builders import START, environment, run


def night(place: int, **packages: str):
    return run(
        f"2026030{place}-000000-aaaa", started_at=START + timedelta(days=place), environments=(environment(packages=packages),)
    )


RUNS = (night(1, torch="2.13"), night(2, torch="2.13"), night(3, torch="2.14"))


def cells() -> pd.DataFrame:
    rows = [
        {"run_id": RUNS[0].id, "cell": "a", "status": "ok", "barred_by": "", "median_ns": 1e6},
        {"run_id": RUNS[1].id, "cell": "a", "status": "ok", "barred_by": "contended", "median_ns": 3e6},
        {"run_id": RUNS[2].id, "cell": "a", "status": "oom", "barred_by": "", "median_ns": math.nan},
    ]
    return pd.DataFrame(rows).reindex(columns=list(NIGHT_COLUMNS)).astype({"cell": "category", "run_id": "category"})


def test_a_figure_that_no_verdict_may_use_is_a_gap() -> None:
    made = timeline.nights(History(RUNS, cells()))
    assert made["night_ns"].fillna(0).to_list() == [1e6, 0, 0]
    assert made["started_at"].to_list() == [one.started_at for one in RUNS]
    assert made["median_ns"].iloc[1] == 3e6


def test_only_a_night_before_which_something_changed_is_marked() -> None:
    assert timeline.breaks(History(RUNS, cells())) == ((RUNS[2].id, "torch 2.13 → 2.14"),)
    assert timeline.breaks(History((), cells().iloc[:0])) == ()
