"""Geometric means over nights."""

import re

import pandas as pd

from harness.page.charts import history
from tests.page import synthetic


def test_history_is_over_the_cells_that_every_night_has(made, view):
    nights = synthetic.nights(made, 12)
    one = nights["cell"].iloc[0]
    nights = nights[(nights["cell"] != one) | (nights["run_id"] != nights["run_id"].iloc[-1])]
    rows = history.means(nights)
    assert (rows.groupby("backend")["value"].first() == 1).all()
    assert rows.drop_duplicates("backend")["cells"].sum() == 59
    drawn = history.history(view, nights, [(nights["run_id"].iloc[-1], "jax 1 → 2")])
    assert drawn.svg.count("<title>") == len(rows)
    assert "jax 1 → 2" in drawn.svg
    assert history.history(view, nights[nights["run_id"] == nights["run_id"].iloc[0]], []) is None


def test_nights_that_lie_close_together_are_told_apart_by_the_time_of_day(made, view):
    nights = synthetic.nights(made, 5)
    began = {
        run: pd.Timestamp("2026-03-01T22:00Z") + pd.Timedelta(minutes=25 * at)
        for at, run in enumerate(nights["run_id"].unique())
    }
    ticks = [
        [text for text in re.findall(r">([^<>]+)</text>", drawn.svg) if re.fullmatch(r"\d\d-\d\d( \d\d:\d\d)?", text)]
        for drawn in (
            history.history(view, nights, []),
            history.history(view, nights.assign(started_at=nights["run_id"].map(began)), []),
        )
    ]
    assert all(len(shown) > 2 and len(set(shown)) == len(shown) for shown in ticks), ticks
    assert [len(shown[0]) for shown in ticks] == [len("03-01"), len("03-01 22:00")]
