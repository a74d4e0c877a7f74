"""Cells beside what is published: which rows meet, on what basis, and the figures."""

import pandas as pd
import pytest

from harness.analysis.elsewhere import beside
from harness.columns import BESIDE_COLUMNS, COLUMNS, PUBLISHED_COLUMNS, SUMMARY_COLUMNS

SHAPE = "n2 c3 k4 8x8 f3x3 p1x1"
FLOP = 2 * 2 * 4 * 64 * 3 * 9


def summary(*changes: dict[str, object]) -> pd.DataFrame:
    """Cells of one forward convolution that takes 3 us, from 2.5 to 4."""
    rows = []
    for place, change in enumerate(changes):
        row = {name: "" for name in SUMMARY_COLUMNS if COLUMNS[name].dtype == "string"}
        row |= {"cell": f"cell{place}", "shape": SHAPE, "direction": "fprop", "precision": "fp32", "status": "ok", "threads": 0,
                "count": 1, "trials": 3, "processes": 3, "samples": 90, "median_ns": 3e3, "ci_low_ns": 2.5e3, "ci_high_ns": 4e3,
                "flop_per_s": FLOP / 3e3 * 1e9}  # fmt: skip
        rows.append(row | change)
    made = pd.DataFrame(rows).reindex(columns=list(SUMMARY_COLUMNS))
    return made.astype({name: COLUMNS[name].dtype for name in SUMMARY_COLUMNS})


def published(*changes: dict[str, object]) -> pd.DataFrame:
    """The same convolution elsewhere, in 1 us."""
    plain = {
        "table": "there", "hardware": "Big GPU", "math": "fp32", "kind": "train", "direction": "fprop", "shape": SHAPE,
        "published_ns": 1e3, "printed_flop_per_s": FLOP / 1e3 * 1e9, "algorithm": "", "source": "s:1", "remark": "",
    }  # fmt: skip
    made = pd.DataFrame([plain | change for change in changes], columns=list(PUBLISHED_COLUMNS))
    return made.astype({name: COLUMNS[name].dtype for name in PUBLISHED_COLUMNS})


def test_the_same_shape_and_batch_gives_the_ratio_of_the_times():
    found = beside(summary({}), published({"algorithm": "DIRECT"}))
    assert tuple(found) == BESIDE_COLUMNS
    assert {name: str(found[name].dtype) for name in found} == {name: COLUMNS[name].dtype for name in found}
    (row,) = found.to_dict("records")
    assert (row["cell"], row["hardware"], row["basis"], row["published_n"], row["published_rows"]) == (
        "cell0", "Big GPU", "times", 2, 1,
    )  # fmt: skip
    assert (row["published_ns"], row["median_ns"]) == (1e3, 3e3)
    assert row["published_flop_per_s"] == pytest.approx(FLOP * 1e6)
    ratio = row["time_over_published"], row["time_over_published_low"], row["time_over_published_high"]
    assert ratio == pytest.approx((3, 2.5, 4))
    assert (row["algorithm"], row["source"]) == ("DIRECT", "s:1")


def test_another_batch_gives_the_ratio_of_the_rates():
    """Eight times the work in four times the time: twice the rate of a cell that does its own in the published time."""
    cell = {"median_ns": 1e3, "ci_low_ns": 1e3, "ci_high_ns": 1e3, "flop_per_s": FLOP * 1e6}
    found = beside(summary(cell), published({"shape": SHAPE.replace("n2", "n16"), "published_ns": 4e3}))
    (row,) = found.to_dict("records")
    assert (row["basis"], row["published_n"]) == ("rates", 16)
    assert row["published_flop_per_s"] == pytest.approx(2 * FLOP * 1e6)
    assert row["time_over_published"] == pytest.approx(2)


@pytest.mark.parametrize(
    ("batches", "nearest"),
    [((1, 2, 4), 2), ((1, 16), 1), ((4, 16), 4), ((1, 4), 1), ((16, 8, 32), 8), ((1, 5), 1), ((64,), 64)],
)
def test_the_batch_is_the_cells_own_or_the_nearest_by_factor(batches: tuple[int, ...], nearest: int):
    found = beside(summary({}), published(*({"shape": SHAPE.replace("n2", f"n{n}")} for n in batches)))
    assert found["published_n"].to_list() == [nearest]
    assert found["basis"].to_list() == ["times" if nearest == 2 else "rates"]


@pytest.mark.parametrize(
    ("scaled", "batches", "taken"),
    [
        ("n=2 for 16", (1, 4, 16), 16), ("n=2 for 16", (1, 2, 16), 2), ("n=2 for 16", (4, 32), 4),
        ("n=8 for 32, n=2 for 8", (4, 8, 32), 32), ("c=3 for 16", (4, 16), 4),
    ],
)  # fmt: skip
def test_a_scaled_cell_stands_beside_the_batch_it_had_before(scaled: str, batches: tuple[int, ...], taken: int):
    rows = published(*({"shape": SHAPE.replace("n2", f"n{n}")} for n in batches))
    assert beside(summary({"scaled": scaled}), rows)["published_n"].to_list() == [taken]


def test_each_hardware_has_the_batch_that_it_has():
    rows = published({"hardware": "A"}, {"hardware": "B", "shape": SHAPE.replace("n2", "n4")})
    found = beside(summary({}), rows)
    assert list(zip(found["hardware"], found["basis"], strict=True)) == [("A", "times"), ("B", "rates")]


@pytest.mark.parametrize(
    "change",
    [
        {"direction": "wgrad"}, {"shape": "n2 c4 k4 8x8 f3x3 p1x1"}, {"shape": "n2 c3 k8 8x8 f3x3 p1x1"},
        {"shape": "n2 c3 k4 8x9 f3x3 p1x1"}, {"shape": "n2 c3 k4 8x8 f3x1 p1x1"}, {"shape": "n2 c3 k4 8x8 f3x3 s2x2 p1x1"},
        {"shape": "n2 c3 k4 8x8 f3x3 p1-0x1"}, {"shape": "n2 c3 k4 8x8 f3x3"}, {"shape": "n2 c3 k4 8x8 f3x3 p1x1 d2x2"},
    ],
)  # fmt: skip
def test_all_else_must_be_equal(change: dict[str, str]):
    assert beside(summary({}), published(change)).empty


@pytest.mark.parametrize(
    "change",
    [
        {"status": "oom", "median_ns": None, "flop_per_s": None}, {"median_ns": None}, {"direction": "bprop"},
        {"shape": "n2 c3 k3 8x8 f3x3 p1x1 g3"}, {"direction": "none", "shape": "gemm m9 n9 k9"},
    ],
)  # fmt: skip
def test_cells_without_a_figure_or_a_published_shape_are_left_out(change: dict[str, object]):
    found = beside(summary({}, change), published({}))
    assert found["cell"].to_list() == ["cell0"]


def test_what_is_in_the_precision_of_the_cell_comes_first_and_all_is_labelled():
    rows = published({"hardware": "Z"}, {"hardware": "A", "math": "int8"}, {"hardware": "B"}, {"hardware": "B", "math": "bf16"})
    found = beside(summary({}, {"precision": "bf16"}), rows)
    labels = [f"{row.cell} {row.hardware} {row.math}" for row in found.itertuples()]
    assert labels == [
        "cell0 B fp32", "cell0 Z fp32", "cell0 A int8", "cell0 B bf16",
        "cell1 B bf16", "cell1 A int8", "cell1 B fp32", "cell1 Z fp32",
    ]  # fmt: skip


def test_a_shape_that_stands_twice_counts_with_its_median():
    rows = published(
        {"published_ns": 1e3, "source": "s:1", "algorithm": "A", "remark": "odd"},
        {"published_ns": 2e3, "source": "s:9", "algorithm": "A", "kind": "inference"},
    )
    (row,) = beside(summary({}), rows).to_dict("records")
    assert (row["published_rows"], row["published_ns"]) == (2, 1.5e3)
    assert row["time_over_published"] == pytest.approx(2)
    assert (row["source"], row["algorithm"], row["remark"], row["kind"]) == ("s:1; s:9", "A", "odd", "train,inference")


def test_two_tables_on_one_hardware_stay_apart():
    found = beside(summary({}), published({}, {"table": "mine", "published_ns": 2e3}))
    assert found[["table", "published_rows"]].to_numpy().tolist() == [["mine", 1], ["there", 1]]


def test_a_row_without_a_printed_rate_has_one_from_its_time():
    found = beside(summary({}), published({"printed_flop_per_s": None, "remark": "no rate is printed"}))
    assert found["published_flop_per_s"].to_list() == pytest.approx([FLOP * 1e6])
    assert found["remark"].to_list() == ["no rate is printed"]


def test_nothing_beside_nothing():
    assert tuple(beside(summary({}).iloc[:0], published())) == BESIDE_COLUMNS
