"""Every chart draws a mark for each row that it is about, and takes what a run can hold."""

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest

from harness.page.canvas import Drawn
from harness.page.charts import change, history, ratios, roofline, scaling, standing
from harness.page.standings import standings
from harness.page.view import View, prepare
from harness.spec import Device
from tests.page import synthetic


def marks(drawn: Drawn) -> list[int]:
    assert not drawn.failure
    return sorted(map(int, re.findall(r'data-i="(\d+)"', drawn.svg)))


@pytest.fixture(scope="module")
def made() -> synthetic.Made:
    return synthetic.make()


@pytest.fixture(scope="module")
def view(made) -> View:
    return prepare(made.summary)


@pytest.fixture(scope="module")
def clear(made) -> View:
    """The same run without a flag that bars a verdict."""
    return prepare(made.summary.assign(barred_by=""))


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
    moved = set(judged.cases.loc[~judged.cases["verdict"].isin(["no change", "lost"]), "cell"])
    view = prepare(made.summary).cells.set_index("cell")
    assert {int(view["i"][cell]) for cell in moved} <= set(marks(drawn))
    assert "1500 of 1800 drawn" in drawn.note


def test_the_edge_of_the_strip_is_symmetric_and_bounded():
    assert change.edge_of(pd.Series([1.0, 1.01])) == 1.25
    assert change.edge_of(pd.Series([1.0, 100.0])) == 4
    assert change.edge_of(pd.Series([0.5] * 100)) == change.edge_of(pd.Series([2.0] * 100))


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


CEILINGS = pd.DataFrame(
    {
        "device": "cpu", "threads": 0, "precision": ["fp32", ""], "flop_per_s": [40e9, np.nan], "bytes_per_s": [np.nan, 20e9],
    }
)  # fmt: skip


def test_points_above_the_roof_are_counted_and_none_is_clipped(view):
    drawn = roofline.roofline(view, "cpu", CEILINGS, "roof")
    over = view.ok["flop_per_s"] > np.minimum(40e9, view.ok["intensity_flop_per_byte"] * 20e9)
    assert drawn.note.startswith(f"{int(over.sum())} of {len(view.ok)} cells lie above the roof")
    assert marks(drawn) == sorted(view.ok["i"])
    assert "40.0 GFLOP/s fp32" in drawn.svg
    assert "20.0 GB/s" in drawn.svg


def test_a_ceiling_that_was_not_measured_has_no_line(view):
    drawn = roofline.roofline(view, "cpu", CEILINGS.iloc[:1], "roof")
    assert "Not measured in this run: copy" in drawn.note
    assert "GB/s" not in drawn.svg
    assert "Not measured in this run: matrix product and copy" in roofline.roofline(view, "cpu", None, "roof").note


def test_memory_and_energy_have_a_mark_per_cell(made, view):
    assert marks(ratios.memory(view, "cpu", "m")) == sorted(ratios.with_memory(view)["i"])
    assert (ratios.with_memory(view)["memory_factor"] >= 1).all()
    assert len(marks(ratios.largest(view, "cpu", "p"))) == ratios.LARGEST
    powered = prepare(made.summary.assign(energy_per_call_j=0.002, energy_method="RAPL package"))
    drawn = ratios.energy(powered, "cpu", "e")
    assert marks(drawn) == sorted(powered.ok["i"])
    assert "Counter: RAPL package" in drawn.note


def test_what_has_no_energy_says_why(made):
    view = prepare(made.summary.assign(energy_method="not measured (no counter here)"))
    assert ratios.not_known(view, "energy_per_call_j", "energy_method") == [("cpu", "no counter here", 60)]


def swept(sizes=(1, 2, 4, 8), failing=None) -> View:
    cells = [
        synthetic.Cell(
            f"res3_n{n:02}", synthetic.conv(n, 64, 64, 28, 3, 1, 1), direction, backend=backend, device=Device.parse("cpu")
        )
        for n in sizes
        for direction in synthetic.PASSES
        for backend in ("torch", "jax")
    ]
    return prepare(synthetic.make(cells, failing or {}).summary)


def test_a_sweep_needs_three_values_that_differ_in_one_thing(view):
    assert [(one.label, one.axis) for one in scaling.sweeps(swept())] == [
        ("res3 · forward", "batch"), ("res3 · backward input", "batch"), ("res3 · backward filter", "batch"),
    ]  # fmt: skip
    assert scaling.sweeps(swept((1, 2))) == []
    assert scaling.sweeps(view) == []


def test_a_line_ends_before_the_first_value_that_failed():
    view = swept(failing={("jax", "res3_n04", "fprop", "eager"): ("oom", "no memory")})
    (forward, *_) = scaling.sweeps(view)
    drawn = scaling.scaling(view, [forward], "s")
    jax = forward.rows[forward.rows["backend"] == "jax"].set_index("at")["i"]
    # 1 and 2 in a line, 4 as failed; 8 ran, and is in the table: no line bridges the gap.
    assert set(marks(drawn)) == {*forward.rows.loc[forward.rows["backend"] == "torch", "i"], jax[1], jax[2], jax[4]}
    assert "(oom)" in drawn.note


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
