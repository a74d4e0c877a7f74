"""The best settings of a tuning as the page's lines."""

import numpy as np
import pandas as pd

from harness.analysis.rows import framed
from harness.analysis.tuning import NETWORK_COLUMNS
from harness.columns import TUNED_COLUMNS
from harness.page import settings

ROW = {
    "workload": "conv", "shape": "n1 c1", "direction": "fprop", "backend": "torch", "setting": "NCHW eager", "median_ns": 1e6,
    "gain": 2.0, "gain_low": 1.9, "gain_high": 2.1, "gain_pairs": 4, "choice": "best", "equal_to": "", "open": "", "best": True,
    "tie": False, "count": 1, "threads": 0,
}  # fmt: skip
NETWORK = {
    "network": "Net", "scaled": "n=1 for 16", "backend": "torch", "direction": "passes", "setting": "",
    "layers": 3, "shapes": 2, "default_ns": 4e6, "default_low_ns": 3.8e6, "default_high_ns": 4.2e6,
    "best_ns": 2e6, "gain": 2.0, "gain_low": np.nan,
    "gain_high": np.nan, "trials": 1,
}  # fmt: skip


def test_a_line_has_the_setting_its_gain_and_how_sure_it_is():
    equal = {"choice": "equal", "equal_to": "NHWC eager", "best": False, "tie": True}
    undecided = {"choice": "undecided", "open": "NHWC eager; NHWC xla", "best": False}
    none = {"choice": "none", "setting": "", "median_ns": np.nan, "gain": np.nan, "gain_low": np.nan, "best": False}
    found = settings.best(
        framed([ROW, ROW | equal, ROW | undecided, ROW | none], TUNED_COLUMNS), {"layout": "NHWC", "threads": "0"}
    )
    assert found is not None
    assert (found.default, found.total) == ("NHWC all cores", 4)
    assert found.lines[0] == (
        "conv", "n1 c1", "forward", "torch ●", "NCHW eager", "1.000 ms", "2.00× (1.90 to 2.10)", "best"
    )  # fmt: skip
    assert [(line[3], line[-1]) for line in found.lines[1:]] == [
        ("torch ○", "as good: NHWC eager"), ("torch", "not decided: NHWC eager; NHWC xla"), ("torch", "none"),
    ]  # fmt: skip


def test_marks_and_intervals_are_explained_where_a_line_has_them():
    tie = ROW | {"choice": "equal", "equal_to": "NHWC eager", "best": False, "tie": True}
    bare = ROW | {"best": False, "gain_low": np.nan, "gain_high": np.nan}
    for rows, marks, intervals in (
        ([ROW, tie], "● fastest backend, ○ another as good", True), ([ROW], "● fastest backend", True), ([bare], "", False),
    ):  # fmt: skip
        found = settings.best(framed(rows, TUNED_COLUMNS), {"layout": "NHWC"})
        assert found is not None
        assert (found.marks, found.intervals) == (marks, intervals)


def test_a_long_table_is_cut_and_says_of_how_many():
    found = settings.best(framed([ROW] * (settings.MOST_LINES + 1), TUNED_COLUMNS), {"layout": "NHWC"})
    assert found is not None
    assert (len(found.lines), found.total) == (settings.MOST_LINES, settings.MOST_LINES + 1)


def test_networks_have_a_line_each_and_what_is_not_known_is_left_out():
    assert settings.networks(pd.DataFrame([NETWORK], columns=NETWORK_COLUMNS)) == [
        ("Net · n=1 for 16", "torch", "three passes", "4.000 ms ± 5.0 %", "2.000 ms", "2.00×")
    ]
    assert settings.networks(None) == []
    assert settings.best(None, {}) is None
    assert settings.best(framed([], TUNED_COLUMNS), {}) is None
