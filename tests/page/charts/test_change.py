"""The strip of every case against the baseline."""

import dataclasses

import pandas as pd

from harness.page.charts import change
from harness.page.view import prepare
from tests.page import synthetic
from tests.page.soundness import marks


def test_the_strip_has_a_mark_per_case_with_a_ratio(made, view):
    judged = synthetic.judged(made, {"torch": 1.2, "jax rn50_conv1": 20.0})
    drawn = change.strip(view, judged)
    assert marks(drawn) == sorted(view.ok["i"])
    assert "An arrow at the edge" in drawn.note
    assert "slower ▶" in drawn.svg


def test_a_strip_of_thousands_keeps_all_that_moved():
    cells = [dataclasses.replace(cell, workload=f"w{place}") for place in range(600) for cell in synthetic.cells()[::22]]
    made = synthetic.make(cells, {})
    judged = synthetic.judged(made, {"/w1": 1.3})
    drawn = change.strip(prepare(made.summary), judged)
    moved = set(judged.cases.loc[~judged.cases["verdict"].isin(["no_change", "lost"]), "cell"])
    view = prepare(made.summary).cells.set_index("cell")
    assert {int(view["i"][cell]) for cell in moved} <= set(marks(drawn))
    assert "1500 of 1800 drawn" in drawn.note


def test_the_edge_of_the_strip_is_symmetric_and_bounded():
    assert change.edge_of(pd.Series([1.0, 1.01])) == 1.25
    assert change.edge_of(pd.Series([1.0, 100.0])) == 4
    assert change.edge_of(pd.Series([0.5] * 100)) == change.edge_of(pd.Series([2.0] * 100))
