"""Rates under the ceilings that were measured."""

import numpy as np
import pandas as pd

from harness.page.charts import roofline
from tests.page.soundness import marks

CEILINGS = pd.DataFrame(
    {
        "device": "cpu", "threads": 0, "precision": ["fp32", ""], "flop_per_s": [40e9, np.nan], "bytes_per_s": [np.nan, 20e9],
    }
)  # fmt: skip


def test_points_above_the_roof_are_counted_and_none_is_clipped(view):
    drawn = roofline.roofline(view, "cpu", CEILINGS, "roof")
    over = view.ok["flop_per_s"] > np.minimum(40e9, view.ok["intensity_flop_per_byte"] * 20e9)
    assert drawn.note.startswith(f"Above the roof (shaded): {int(over.sum())} of {len(view.ok)} cells.")
    assert marks(drawn) == sorted(view.ok["i"])
    assert "40.0 GFLOP/s fp32" in drawn.svg
    assert "20.0 GB/s" in drawn.svg


def test_a_ceiling_that_was_not_measured_has_no_line(view):
    drawn = roofline.roofline(view, "cpu", CEILINGS.iloc[:1], "roof")
    assert "Not measured in this run: copy" in drawn.note
    assert "GB/s" not in drawn.svg
    nothing = roofline.roofline(view, "cpu", None, "roof")
    assert "Not measured in this run: matrix product and copy" in nothing.note
    assert marks(nothing) == sorted(view.ok["i"])
