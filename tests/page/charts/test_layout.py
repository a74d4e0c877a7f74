"""What charts have in common: rows grouped, their marks, and a sample of them by lot."""

import pandas as pd
import pytest

from harness.page.charts import layout


def test_groups_follow_one_another_and_their_rows_have_a_fixed_order():
    rows = pd.DataFrame({"order_in_group": [1, 0], "name": ["second", "first"]})
    (upper, lower), height = layout.stack([("a", rows), ("b", rows.iloc[:1])])
    assert upper.rows["name"].to_list() == ["first", "second"]
    assert upper.y == sorted(upper.y)
    assert upper.top < upper.y[0] < upper.y[1] < upper.bottom
    assert lower.top == pytest.approx(upper.bottom + layout.GAP)
    assert height == pytest.approx(lower.bottom + layout.GAP / 2)


def test_a_sample_by_lot_keeps_what_must_be_kept_and_is_the_same_every_time():
    rows = pd.DataFrame({"at": range(100)})
    always = rows["at"].isin([3, 50, 97])
    few = layout.thinned(rows, always, most=10)
    assert len(few) == 10
    assert {3, 50, 97} <= set(few["at"])
    assert few["at"].is_monotonic_increasing
    assert few.equals(layout.thinned(rows, always, most=10))
    assert layout.thinned(rows, always, most=100) is rows


def test_the_legend_names_what_is_drawn_in_the_fixed_order(view):
    assert layout.legend(view.drawn)[:2] == (("tensorflow", "eager"), ("tensorflow", "compiled"))
    assert layout.each("x", lambda _, device, name: (device, name), view, view.drawn) == [("cpu", "x-0")]
