"""The samples of the least stable cells."""

import numpy as np
import pytest

from harness import units
from harness.page.charts import stability


def test_the_least_stable_cells_come_first(made, view):
    worst = stability.unsteady(view, made.samples)
    spreads = worst.drop_duplicates("cell")["spread"].to_list()
    assert len(spreads) == stability.WORST
    assert spreads == sorted(spreads, reverse=True)
    cell = worst["cell"].iloc[0]
    times = made.samples[made.samples["cell"] == cell]["block_ns"]
    median = made.summary.set_index("cell")["median_ns"][cell]
    assert spreads[0] == pytest.approx((np.quantile(times, 0.95) - np.quantile(times, 0.05)) / median)


def test_a_box_and_its_samples_for_each_of_them(made, view):
    worst = stability.unsteady(view, made.samples, 2)
    drawn = stability.stability(view, worst, made.run.seed)
    assert not drawn.failure
    assert drawn.caption == "The 2 cells with the widest samples"
    assert all(units.percent(spread) in drawn.svg for spread in worst["spread"].unique())


def test_no_sample_no_cell(made, view):
    assert stability.unsteady(view, made.samples.iloc[:0]).empty
