"""Median latencies with their intervals."""

from harness import units
from harness.page.charts import latency
from tests.page.soundness import marks


def test_every_cell_with_a_time_has_a_mark_and_the_lowest_of_each_group_is_named(view):
    drawn = latency.latency(view, "cpu", "lat-0")
    assert marks(drawn) == sorted(view.ok["i"])
    for (_, _), group in view.drawn.groupby(["key", "words"]):
        assert units.duration(group["median_ns"].min(), 3) in drawn.svg
    assert "differ most" not in drawn.note


def test_of_many_groups_those_with_the_largest_spread_are_drawn(view):
    kept, total = latency.widest(view.drawn, 3)
    spread = view.drawn.groupby(["key", "words"])["median_ns"].agg(lambda times: times.max() / times.min())
    assert total == len(spread)
    assert set(kept.groupby(["key", "words"]).groups) == set(spread.nlargest(3).index)
