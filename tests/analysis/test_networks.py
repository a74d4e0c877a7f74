import math
from dataclasses import replace

import pandas as pd
import pytest

from harness.analysis.networks import by_pass, networks
from harness.axes import Direction
from tests import builders


def frame(*rows: dict[str, object]) -> pd.DataFrame:
    """Summary rows of one network, as far as the roll-up reads them."""
    usual = {
        "run_id": "r", "network": "Net", "scaled": "", "backend": "torch", "mode": "eager", "optimizer": "", "device": "cpu",
        "precision": "fp32", "layout": "NHWC", "cache": "hot", "threads": 0, "direction": "fprop", "status": "ok", "count": 1,
        "median_ns": 1.0, "flop_nominal": 10.0,
    }  # fmt: skip
    return pd.DataFrame([{**usual, **row} for row in rows])


def test_layers_times_count_are_the_time_of_the_network() -> None:
    (row,) = networks(frame({"count": 3, "median_ns": 5.0}, {"count": 2, "median_ns": 7.0})).itertuples()
    assert (row.network, row.direction, row.shapes, row.layers) == ("Net", "fprop", 2, 5)
    assert (row.time_ns, row.flop, row.missing) == (29.0, 50.0, 0)


def test_a_layer_without_a_figure_leaves_the_network_without_one() -> None:
    (row,) = networks(frame({}, {"status": "oom", "median_ns": math.nan})).itertuples()
    assert math.isnan(row.time_ns)
    assert row.missing == 1


def test_settings_are_rolled_up_apart_and_dimensions_are_no_setting() -> None:
    rolled = networks(frame({"mode": "compiled"}, {}, {"layout": "NDHWC"}, {"layout": "NCHW"}, {"backend": "jax"}))
    assert sorted(zip(rolled["backend"], rolled["mode"], rolled["layout"], rolled["shapes"], strict=True)) == [
        ("jax", "eager", "last", 1), ("torch", "compiled", "last", 1), ("torch", "eager", "first", 1),
        ("torch", "eager", "last", 2),
    ]  # fmt: skip


def test_what_belongs_to_no_network_is_left_out() -> None:
    assert networks(frame({"network": ""}, {"direction": str(Direction.NONE)})).empty
    assert by_pass(networks(frame({"network": ""}))).empty


@pytest.mark.parametrize(
    ("texts", "told"), [(["n=1 for 16"] * 2, "n=1 for 16"), (["n=1 for 16", "n=1 for 8"], "differs by shape")]
)
def test_what_was_scaled_is_said_where_it_is_one_thing(texts: list[str], told: str) -> None:
    assert list(networks(frame(*({"scaled": text} for text in texts)))["scaled"]) == [told]


def test_three_passes_stand_side_by_side_and_their_sum_needs_all() -> None:
    whole = by_pass(networks(frame(*({"direction": way, "median_ns": ns} for way, ns in
                                     [("fprop", 2.0), ("dgrad", 3.0), ("wgrad", 4.0)]))))  # fmt: skip
    assert whole[["fprop", "dgrad", "wgrad", "passes"]].to_numpy().tolist() == [[2.0, 3.0, 4.0, 9.0]]
    (half,) = by_pass(networks(frame({"direction": "wgrad", "median_ns": 4.0}))).itertuples()
    assert half.wgrad == 4.0
    assert math.isnan(half.passes)


def test_a_cell_carries_its_network_into_its_row() -> None:
    cell = replace(builders.cell(), network="Net", scaled="n=1 for 2", count=3)
    assert (cell.network, cell.scaled, str(cell)) == ("Net", "n=1 for 2", str(builders.cell()))
