import math

import pandas as pd
import pytest

from harness.analysis.ranking import best, rank
from harness.analysis.summary import summarize
from harness.record import Status
from harness.spec import Direction, GemmSpec, Mode
from harness.store import frames
from tests.builders import cell, failed, record


def ranked(*records, **options):
    found = summarize(frames.records_frame(records, [], "small"), frames.samples_frame(records))
    marks = best(found, **options)
    assert str(marks.dtype) == "bool"
    assert marks.index.equals(found.index)
    return dict(zip(found["backend"] + " " + found["mode"] + " " + found["direction"], marks, strict=True))


def spread(low, high, **of):
    """Thirty samples from `low` to `high`: their interval is about the middle third of that."""
    return record([low + (high - low) * index // 29 for index in range(30)], of=cell(**of))


def test_the_fastest_is_marked_in_each_group():
    marks = ranked(
        spread(100, 110, backend="torch"),
        spread(200, 210, backend="jax"),
        spread(300, 310, backend="torch", direction=Direction.WGRAD),
        spread(200, 210, backend="jax", direction=Direction.WGRAD),
    )  # fmt: skip
    assert marks == {
        "torch eager fprop": True, "jax eager fprop": False, "torch eager wgrad": False, "jax eager wgrad": True,
    }  # fmt: skip


def test_modes_compete_with_each_other():
    marks = ranked(spread(100, 110, mode=Mode.EAGER), spread(50, 60, mode=Mode.COMPILED))
    assert marks == {"torch eager fprop": False, "torch compiled fprop": True}


def test_overlapping_intervals_tie_with_the_fastest_alone():
    # Intervals of about 45 to 55, 54 to 64 and 63 to 73: the third overlaps the second, not the fastest.
    marks = ranked(spread(36, 64, backend="a"), spread(45, 73, backend="b"), spread(54, 82, backend="c"))
    assert list(marks.values()) == [True, True, False]


def test_ranks_tell_the_fastest_its_ties_and_the_distance():
    records = [
        spread(36, 64, backend="a"), spread(45, 73, backend="b"), spread(85, 115, backend="c"),
        spread(10, 11, backend="numpy"), failed(Status.OOM, "no memory", of=cell(backend="d")),
        spread(500, 510, backend="a", direction=Direction.DGRAD),
    ]  # fmt: skip
    summary = summarize(frames.records_frame(records, [], "small"), frames.samples_frame(records)).set_index(pd.Index([3] * 6))
    found = rank(summary)
    assert found["best"].tolist() == [True, False, False, False, False, True]
    assert found["tie"].tolist() == [False, True, False, False, False, False]
    assert found["vs_best"].tolist() == pytest.approx([1, 59 / 50, 2, math.nan, math.nan, 1], rel=0.02, nan_ok=True)
    pd.testing.assert_frame_equal(found[summary.columns], summary)
    assert {str(found[name].dtype) for name in ("best", "tie")} == {"bool"}


def test_times_of_zero_are_ranked_without_a_word():
    records = [record([0] * 30, of=cell(backend="a")), record([5] * 30, of=cell(backend="b"))]
    found = rank(summarize(frames.records_frame(records, [], "small"), frames.samples_frame(records)))
    assert found["best"].tolist() == [True, False]


def test_what_failed_or_is_unranked_takes_no_part():
    records = [
        spread(10, 11, backend="numpy"),
        failed(Status.INCORRECT, "wrong", of=cell(backend="jax")),
        spread(100, 110, backend="torch"),
    ]
    assert list(ranked(*records).values()) == [False, False, True]
    assert list(ranked(*records, unranked=frozenset()).values()) == [True, False, False]
    assert list(ranked(*records[:2]).values()) == [False, False]


def test_the_reference_under_another_name_is_not_ranked_either():
    assert list(ranked(spread(10, 11, backend="numpy@aa"), spread(100, 110, backend="torch@aa")).values()) == [False, True]


def test_what_is_no_convolution_is_never_ranked():
    products = [
        spread(low, low + 10, backend=backend, workload="product", spec=GemmSpec(2, 3, 4), direction=Direction.NONE)
        for backend, low in (("torch", 10), ("jax", 200))
    ]
    records = [*products, spread(100, 110, backend="torch"), spread(200, 210, backend="jax")]
    found = rank(summarize(frames.records_frame(records, [], "small"), frames.samples_frame(records)))
    assert found["best"].tolist() == [False, False, True, False]
    assert found["vs_best"].isna().tolist() == [True, True, False, False]


def test_a_time_without_the_status_ok_is_not_ranked():
    found = summarize(frames.records_frame([spread(10, 11)], [], "small"), frames.samples_frame([spread(10, 11)]))
    assert best(found).tolist() == [True]
    assert best(found.assign(status="incorrect")).tolist() == [False]


def test_a_cell_without_an_interval_is_taken_as_exact():
    marks = ranked(
        record([100] * 3, of=cell(backend="a")), record([101] * 3, of=cell(backend="b")), spread(90, 120, backend="c")
    )
    assert list(marks.values()) == [True, False, True]


@pytest.mark.parametrize("records", [(), (failed(Status.OOM, "no memory"),)])
def test_nothing_to_rank(records):
    assert not any(ranked(*records).values())


def test_the_index_of_the_summary_is_kept():
    records = [spread(100, 110, backend="torch"), spread(50, 60, backend="jax")]
    found = summarize(frames.records_frame(records, [], "small"), frames.samples_frame(records))
    marks = best(found.set_index(pd.Index([7, 7])))
    assert (marks.index.tolist(), marks.tolist()) == ([7, 7], [False, True])
