"""What a night keeps, which nights a machine has, and what is called a change of versions."""

import numpy as np
import pytest

from harness.analysis.history import ABSENT, STATUSES, grids, night
from harness.analysis.summary import summarize
from harness.axes import Direction, Layout
from harness.columns import COLUMNS, NIGHT_COLUMNS
from harness.flags import Flag
from harness.record import Status
from harness.spec import CopySpec
from harness.store import frames
from tests.builders import cell, environment, failed, record, samples, series
from tests.histories import flat, history, run_id


def summary(*records):
    return summarize(frames.records_frame(records, [environment()], "small"), frames.samples_frame(records))


def of_night(*records):
    return night(summary(*records)).set_index("cell")


# What a night keeps -------------------------------------------------------------------------------------------------------


def test_a_night_keeps_the_figure_and_what_says_how_far_to_trust_it():
    yardsticks = (500,) * 30
    records = [
        record(trial=trial, order=trial, samples=samples(series([median] * 30, yardstick_ns=yardsticks)))
        for trial, median in enumerate((900, 1000, 1300))
    ]
    found = of_night(*records).loc[str(cell())]
    assert found[["median_ns", "yardstick_ratio", "reference_ns", "status", "barred_by"]].tolist() == [1000, 2, 500, "ok", ""]
    assert found[["machine_id", "environment_id", "shape"]].tolist() == ["machine-1", "env-1", "n1 c1 k2 4x4 f3x3 p1x1"]


def test_columns_and_dtypes_are_those_of_the_schema():
    found = night(summary(record()))
    assert {name: str(dtype) for name, dtype in found.dtypes.items()} == {name: COLUMNS[name].dtype for name in NIGHT_COLUMNS}


def test_failures_and_flags_are_kept_and_ceilings_are_not():
    broken, flagged = cell(direction=Direction.WGRAD), cell(direction=Direction.DGRAD)
    ceiling = cell(spec=CopySpec(1024), direction=Direction.NONE, layout=Layout.CHANNELS_FIRST, workload="copy")
    found = of_night(
        record(order=0), record(order=1, of=flagged, flags=(Flag.CONTENDED,)), record(order=2, of=ceiling),
        failed(Status.OOM, "no memory", order=3, of=broken),
    )  # fmt: skip
    assert found["status"].to_dict() == {str(cell()): "ok", str(flagged): "ok", str(broken): "oom"}
    assert found.loc[str(flagged), "barred_by"] == "contended"
    assert np.isnan(found.loc[str(broken), "median_ns"])


# Grids --------------------------------------------------------------------------------------------------------------------


def test_a_grid_holds_what_can_be_judged():
    special = {(0, 1): {"status": "oom"}, (1, 1): {"barred_by": "drift"}, (2, 1): {"median_ns": 0.0}}
    values = flat(4, 3)
    values[3, 1] = np.nan
    (grid,) = grids(history(values, row=lambda case, night: special.get((case, night), {})))
    assert grid.raw[:, [0, 2]] == pytest.approx(values[:, [0, 2]] * 1e6)
    assert np.isnan(grid.raw[:, 1]).all()
    assert grid.status[:, 1].tolist() == [STATUSES.index(Status.OOM), 0, 0, ABSENT]
    assert grid.barred[:, 1].tolist() == [False, True, False, False]
    assert [each.id for each in grid.runs] == [run_id(0), run_id(1), run_id(2)]


def test_equals_are_paired():
    (grid,) = grids(history(flat(5, 2), backends=["torch", "torch@aa", "jax", "jax@aa", "torch"]))
    assert grid.twin.tolist() == [1, ABSENT, 3, ABSENT, ABSENT]
    assert grid.is_twin.tolist() == [False, True, False, True, False]


def test_segments_change_with_what_a_figure_depends_on():
    def segments(**given):
        (grid,) = grids(history(flat(2, 2), backends=["torch", "jax"], **given))
        return (grid.segment[:, 0] != grid.segment[:, 1]).tolist()

    assert segments() == [False, False]
    assert segments(packages=lambda night: {"torch": f"2.{night}"}) == [True, False]
    for fact in ("os", "driver", "python"):
        assert segments(facts=lambda night, fact=fact: {fact: str(night)}) == [True, True]
    assert segments(facts=lambda night: {"environ": {"OMP_PROC_BIND": str(night)}}) == [True, True]
    assert segments(facts=lambda night: {"host": str(night)}) == [False, False]
    assert segments(of_run=lambda night: {"harness_version": str(night)}) == [False, False]


def test_a_history_can_be_cut_off():
    found = history(flat(2, 5))
    part = found.until(run_id(2))
    assert [each.id for each in part.runs] == [run_id(0), run_id(1), run_id(2)]
    assert set(part.cells["run_id"]) == {run_id(0), run_id(1), run_id(2)}
    with pytest.raises(KeyError, match="night-0009"):
        found.until(run_id(9))
