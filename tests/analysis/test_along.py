import math

import numpy as np
import pandas as pd
import pytest

from harness.analysis.along import along
from harness.analysis.summary import summarize
from harness.analysis.visits import visits
from harness.axes import Device, Direction, Layout, Mode, Optimizer, Precision
from harness.columns import ALONG_COLUMNS
from harness.flags import Flag
from harness.record import Record, Status
from harness.spec import Cell, ConvSpec
from harness.store import frames
from tests.analysis.visiting import Visit, samples
from tests.builders import cell, failed, record

SPEED = np.array([1.0, 1.3, 0.9, 1.1, 1.6, 1.0])


def trials(of: Cell, time: float, count: int = 4, **options) -> list[Record]:
    """A record per trial of a machine that is fast in one trial and slow in the next."""
    return [record([round(time * SPEED[trial])] * 20, trial=trial, of=of, **options) for trial in range(count)]


def compared(records: list[Record], axis: str, base: str | None) -> pd.DataFrame:
    blocks = frames.samples_frame(records)
    return along(summarize(frames.records_frame(records, [], "small"), blocks), visits(blocks), axis, base)


def told(found: pd.DataFrame) -> dict[str, tuple[float, str]]:
    return {row.cell: (round(row.factor, 2), row.difference) for row in found.itertuples()}


@pytest.mark.parametrize(
    ("axis", "base", "other"),
    [
        ("layout", "NCHW", {"layout": Layout.CHANNELS_LAST}),
        ("precision", "fp32", {"precision": Precision.BF16}),
        ("mode", "eager", {"mode": Mode.COMPILED}),
        ("threads", "0", {"threads": 1}),
        ("direction", "fprop", {"direction": Direction.WGRAD}),
        ("direction", "fprop", {"direction": Direction.TRAIN, "optimizer": Optimizer.SGD}),
        ("workload", "conv", {"workload": "other"}),
        ("backend", "torch", {"backend": "jax"}),
        ("device", "cpu", {"device": Device("gpu")}),
    ],
)
def test_each_cell_stands_beside_the_one_that_differs_in_one_axis_only(axis: str, base: str, other: dict):
    partner, changed = cell(), cell(**other)
    both = {**other, "backend": "tensorflow", "mode": Mode.XLA}  # alike in no case: it has no partner
    records = [*trials(partner, 1000), *trials(changed, 1500), *trials(cell(**both), 2000)]
    found = compared(records, axis, base)
    assert told(found) == {str(changed): (1.5, "slower")}
    assert found["base_cell"].tolist() == [str(partner)]
    assert tuple(found.columns) == ALONG_COLUMNS


def test_the_machine_s_wander_falls_out_as_both_are_of_the_same_trials():
    found = compared([*trials(cell(), 1000), *trials(cell(backend="jax"), 900)], "backend", "torch")
    (row,) = found.to_dict("records")
    assert (row["factor_low"], row["factor_high"]) == pytest.approx((0.9, 0.9), rel=0.01)
    assert (row["difference"], row["process_pairs"], row["paired"]) == ("faster", 4, "trials")


def test_visits_are_paired_where_the_two_met_and_trials_where_not():
    names = [str(cell(backend=backend)) for backend in ("torch", "jax", "tensorflow")]
    made = []
    for trial in range(4):
        for turn in range(3):
            slow = 5.0 if turn == 2 else 1.0
            made += [
                Visit(names[0], trial, 3 * trial, 10 * trial + turn, [1000 * slow] * 5),
                Visit(names[1], trial, 3 * trial + 1, 10 * trial + turn, [1200 * slow] * 5),
                Visit(names[2], trial, 3 * trial + 2, 10 * trial + 5 + turn, [3000] * 5),
            ]
    records = [record(trial=trial, of=cell(backend=name)) for name in ("torch", "jax", "tensorflow") for trial in range(4)]
    blocks = samples(made)
    found = along(summarize(frames.records_frame(records, [], "small"), blocks), visits(blocks), "backend", "torch")
    assert found[["backend", "paired", "difference"]].values.tolist() == [
        ["jax", "visits", "slower"], ["tensorflow", "trials", "slower"],
    ]  # fmt: skip
    assert found["factor"].tolist() == pytest.approx([1.2, 3.0])


def test_two_that_hardly_differ_are_equivalent_and_two_that_vary_undecided():
    close = [*trials(cell(), 100_000), *trials(cell(backend="jax"), 100_500)]
    assert told(compared(close, "backend", "torch")) == {str(cell(backend="jax")): (1.0, "equivalent")}
    varied = [record([time] * 20, trial=trial, of=cell(backend="jax")) for trial, time in enumerate((900, 1500, 800, 1400))]
    assert compared([*trials(cell(), 1000), *varied], "backend", "torch")["difference"].tolist() == ["undecided"]


@pytest.mark.fault("a flag bars a verdict on one of two cells that differ in one axis", "their difference is undecided")
def test_a_flag_bars_a_difference():
    barred = [*trials(cell(), 1000, flags=(Flag.CONTENDED,)), *trials(cell(backend="jax"), 3000)]
    (row,) = compared(barred, "backend", "torch").to_dict("records")
    assert (round(row["factor"]), row["difference"]) == (3, "undecided")


def test_under_four_pairs_nothing_is_decided_and_of_one_no_interval_is_known():
    three = compared([*trials(cell(), 1000, 3), *trials(cell(backend="jax"), 3000, 3)], "backend", "torch")
    assert three[["difference", "process_pairs"]].values.tolist() == [["undecided", 3]]
    assert three["factor_low"].notna().all()
    one = compared([*trials(cell(), 1000, 1), *trials(cell(backend="jax"), 3000, 1)], "backend", "torch")
    assert one["factor"].tolist() == pytest.approx([3])
    assert one["factor_low"].isna().all()


def test_of_a_run_that_has_not_ended_nothing_is_decided():
    blocks = frames.samples_frame(records := [*trials(cell(), 1000), *trials(cell(backend="jax"), 3000)])
    summary = summarize(frames.records_frame(records, [], "small"), blocks)
    found = along(summary, visits(blocks), "backend", "torch", ended=False)
    assert (found["difference"].tolist(), found.attrs["ended"]) == (["undecided"], False)
    assert found["factor"].tolist() == pytest.approx([3])


def test_cells_without_a_figure_take_no_part():
    records = [*trials(cell(), 1000), failed(Status.OOM, "no memory", of=cell(backend="jax"))]
    assert compared(records, "backend", "torch").empty
    with pytest.raises(ValueError, match="no cell with a figure has backend 'jax'; there is: torch"):
        compared(records, "backend", "jax")


def test_pruned_samples_leave_no_factor():
    records = [*trials(cell(), 1000), *trials(cell(backend="jax"), 3000)]
    blocks = frames.samples_frame(records)
    found = along(summarize(frames.records_frame(records, [], "small"), blocks), visits(blocks.iloc[:0]), "backend", "torch")
    assert found[["paired", "difference", "process_pairs"]].values.tolist() == [["", "undecided", 0]]
    assert math.isnan(found["factor"].iloc[0])


def test_a_layout_stands_for_its_forms_of_other_dimensions():
    line = ConvSpec(n=1, c=1, k=2, spatial=(9,), kernel=(3,), stride=(1,), dilation=(1,), padding=((1, 1),))
    last = cell(spec=line, layout=Layout.CHANNELS_LAST)
    records = [*trials(cell(spec=line), 1000), *trials(last, 2000)]
    assert told(compared(records, "layout", "NCHW")) == {str(last): (2.0, "slower")}


def test_an_axis_that_is_none_is_named():
    with pytest.raises(ValueError, match="'colour' is no axis to compare along; choose from workload, direction"):
        compared(trials(cell(), 1000), "colour", "red")


@pytest.mark.parametrize(
    ("axis", "values", "base"),
    [
        ("mode", [Mode.COMPILED, Mode.EAGER], "eager"),
        ("mode", [Mode.COMPILED, Mode.XLA], "compiled"),
        ("layout", [Layout.CHANNELS_LAST, Layout.CHANNELS_FIRST], "NCHW"),
        ("threads", [0, 8, 2], "2"),
        ("backend", ["numpy", "jax@aa", "torch", "jax"], "jax"),
        ("workload", ["b", "a"], "a"),
    ],
)
def test_without_a_base_the_usual_one_is_taken(axis: str, values: list, base: str):
    records = [each for value in values for each in trials(cell(**{axis: value}), 1000)]
    blocks = frames.samples_frame(records)
    found = along(summarize(frames.records_frame(records, [], "small"), blocks), visits(blocks), axis)
    assert found.attrs["base"] == base
    assert len(found) == len(values) - 1


def test_the_backend_that_most_cells_have_is_the_base():
    of = [cell(backend="torch"), cell(backend="torch", workload="more"), cell(backend="jax")]
    found = compared([each for one in of for each in trials(one, 1000)], "backend", None)
    assert found.attrs["base"] == "torch"


def test_a_run_without_a_figure_has_no_row():
    found = compared([failed(Status.OOM, "too large", of=cell())], "mode", None)
    assert (len(found), found.attrs["base"]) == (0, "")
