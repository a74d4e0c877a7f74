import math

import pandas as pd
import pytest

from harness.analysis import roofline
from harness.analysis.summary import summarize
from harness.axes import Device, Direction, Mode, Precision
from harness.columns import SUMMARY_COLUMNS
from harness.flags import Flag
from harness.record import Status
from harness.spec import CopySpec, GemmSpec
from harness.store import frames
from tests.builders import cell, failed, record

NS = 1000  # of each call, if nothing else is said
PRODUCT, MOVE = GemmSpec(10, 20, 30), CopySpec(1600)  # 12 GFLOP/s in a microsecond; 3.2 GB/s
CONV_FLOP = 576


def product(ns: int = NS, spec: GemmSpec = PRODUCT, **of):
    return record([ns] * 30, of=cell(workload="product", spec=spec, direction=Direction.NONE, **of))


def move(ns: int = NS, spec: CopySpec = MOVE, **of):
    return record([ns] * 30, of=cell(workload="move", spec=spec, direction=Direction.NONE, **of))


def conv(ns: int = NS, **of):
    return record([ns] * 30, of=cell(**of))


def summary(*records) -> pd.DataFrame:
    return summarize(frames.records_frame(records, [], "small"), frames.samples_frame(records))


def best(*records) -> list[tuple]:
    """The rows of the ceilings: where, by whom and how much."""
    found = roofline.ceilings(summary(*records))
    return [
        (row.device, row.threads, row.precision, row.backend, row.mode, row.flop_per_s, row.bytes_per_s)
        for row in found.fillna(0.0).itertuples()
    ]


def shares(*records) -> list[float]:
    return summary(*records)["ceiling_share"].tolist()


def test_the_fastest_of_all_backends_modes_and_sizes_is_the_ceiling():
    assert best(
        product(NS, backend="torch"), product(NS // 2, backend="jax"), product(NS // 4, backend="jax", mode=Mode.COMPILED),
        product(NS, backend="tensorflow"), move(NS, backend="jax"), move(NS // 2, backend="torch"),
    ) == [
        ("cpu", 0, "fp32", "jax", "compiled", pytest.approx(48e9), 0.0),
        ("cpu", 0, "", "torch", "eager", 0.0, pytest.approx(6.4e9)),
    ]  # fmt: skip
    # The larger one takes longer and is faster.
    large = GemmSpec(100, 200, 300)
    (found,) = best(product(NS), record([100 * NS] * 30, of=cell(workload="large", spec=large, direction=Direction.NONE)))
    assert found[5] == pytest.approx(120e9)


def test_devices_precisions_and_threads_have_ceilings_of_their_own():
    gpu = Device("gpu", 1)
    found = best(
        product(100), product(50, precision=Precision.BF16), product(200, threads=1), product(1, device=gpu),
        move(10, device=gpu), move(100), move(300, threads=1),
    )  # fmt: skip
    assert [row[:3] for row in found] == [
        ("cpu", 0, "fp32"), ("cpu", 0, "bf16"), ("cpu", 0, ""), ("cpu", 1, "fp32"), ("cpu", 1, ""),
        ("gpu:1", 0, "fp32"), ("gpu:1", 0, ""),
    ]  # fmt: skip


def test_runs_are_not_mixed():
    one, two = (summary(conv(NS), product(NS // factor)) for factor in (1, 2))
    both = pd.concat([one, two.assign(run_id="another")], ignore_index=True)
    assert len(roofline.ceilings(both)) == 2
    found = roofline.held_against(both).query("direction == 'fprop'")["ceiling_share"].tolist()
    assert found == pytest.approx([CONV_FLOP / 12000, CONV_FLOP / 24000])


def test_what_is_not_ok_is_no_ceiling():
    wrong = failed(Status.INCORRECT, "wrong", of=cell(workload="product", spec=PRODUCT, direction=Direction.NONE))
    assert best(wrong, conv()) == []
    assert shares(wrong, conv()) == pytest.approx([math.nan] * 2, nan_ok=True)


def test_the_share_is_that_of_the_matrix_product_of_the_same_kind():
    found = summary(
        conv(NS), conv(2 * NS, backend="jax"), conv(NS, direction=Direction.BPROP),
        conv(NS, precision=Precision.BF16), conv(NS, threads=1), conv(NS, device=Device("gpu")),
        product(NS), product(NS // 2, precision=Precision.BF16), move(1), failed(Status.OOM, "none", of=cell(backend="tf")),
    )  # fmt: skip
    one = CONV_FLOP / 12000
    missing = [math.nan]
    assert found["ceiling_share"].tolist() == pytest.approx(
        [one, one / 2, 3 * one, one / 2, *missing * 2, *missing * 2, *missing * 2], nan_ok=True
    )
    assert str(found["ceiling_share"].dtype) == "float64"
    assert list(found.columns) == list(SUMMARY_COLUMNS)


def test_a_rate_above_the_ceiling_is_flagged_and_never_clipped():
    slow = GemmSpec(1, 2, 3)  # 12 FLOP in the time that the convolution does 576 in
    found = summary(conv(NS), product(NS, spec=slow))
    assert found["ceiling_share"].tolist()[0] == pytest.approx(48)
    assert found["flags"].tolist() == ["above_ceiling", ""]
    exactly = GemmSpec(1, 1, CONV_FLOP // 2)
    assert summary(conv(NS), product(NS, spec=exactly))["flags"].tolist() == ["", ""]


def test_flags_stand_in_their_order():
    early, late = Flag.CONTENDED, Flag.COMPOSITE
    rows = [record([NS] * 30, flags=(early, late)), product(NS, spec=GemmSpec(1, 2, 3))]
    assert summary(*rows)["flags"].tolist()[0] == "contended,above_ceiling,composite"


def test_a_copy_has_no_rate_of_arithmetic_and_its_traffic_is_read_and_written():
    row = summary(move(NS)).iloc[0]
    assert (row["shape"], row["layout"], row["direction"]) == ("copy 1600 bytes", "", "none")
    assert (row["flop_nominal"], row["bytes_min"], row["intensity_flop_per_byte"]) == (0, 3200, 0)
    assert row["bytes_per_s"] == pytest.approx(3.2e9)
    assert math.isnan(row["flop_per_s"])


def test_a_matrix_product_has_the_figures_of_its_shape():
    row = summary(product(NS)).iloc[0]
    assert (row["shape"], row["layout"]) == ("gemm m10 n20 k30", "")
    assert (row["flop_nominal"], row["flop_exact"], row["bytes_min"]) == (12000, 12000, 4 * (300 + 600 + 200))
    assert row["flop_per_s"] == pytest.approx(12e9)


@pytest.mark.parametrize("records", [(), (conv(),), (move(),), (product(0),)], ids=["none", "conv", "move", "instant"])
def test_nothing_to_be_held_against(records):
    assert summary(*records)["ceiling_share"].isna().all()
    assert (summary(*records)["flags"] == "").all()


def test_the_index_of_the_summary_is_kept():
    frame = summary(conv(NS), product(NS)).set_index(pd.Index([7, 7]))
    assert roofline.held_against(frame).index.tolist() == [7, 7]
    assert roofline.held_against(frame)["ceiling_share"].tolist()[0] == pytest.approx(CONV_FLOP / 12000)
