"""Backends over all workloads: the forest, the profile and the change since the baseline."""

import dataclasses

import numpy as np

from harness.page.charts import standing
from harness.page.standings import standings
from tests.page import synthetic


def test_the_forest_has_a_mark_per_mean_and_no_interval_under_five_workloads(clear):
    found = standings(clear)
    drawn = standing.forest(clear, found)
    assert drawn.svg.count("<title>") == sum(len(one.means) for one in found)
    assert "forward 5 of 5" in drawn.note
    assert all(mean.interval is None for one in found if one.common < 5 for mean in one.means)


def test_an_interval_of_a_factor_never_goes_below_one(clear):
    bounds = [mean.interval.low for one in standings(clear) for mean in one.means if mean.interval]
    assert bounds
    assert min(bounds) >= 1


def test_failures_count_as_never_in_the_profile(view):
    rows = standing.profiles(view)
    never = rows[np.isinf(rows["factor"])]
    # Wrong, out of memory twice and out of time; what is not supported in one mode runs in the other.
    assert sorted(never["backend"]) == ["jax", "jax", "tensorflow", "tensorflow"]
    assert "(4 here)" in standing.profile(view).note


def test_a_speed_up_needs_five_common_cases(made, view):
    few = synthetic.judged(made, {})
    assert standing.speedup(view, dataclasses.replace(few, cases=few.cases.iloc[:6])) is None
    assert standing.speedup(view, few).svg.count("<title>") > 2
