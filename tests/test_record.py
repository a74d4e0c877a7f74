import pandas as pd
import pytest

from harness.axes import Direction, Layout, Mode, Optimizer, Precision
from harness.columns import (
    ALONG_COLUMNS,
    BESIDE_COLUMNS,
    CASE_COLUMNS,
    COLUMNS,
    COMPARISON_COLUMNS,
    EXPLANATION_COLUMNS,
    KERNEL_COLUMNS,
    NIGHT_COLUMNS,
    PROFILE_COLUMNS,
    PROFILED_COLUMNS,
    PUBLISHED_COLUMNS,
    RANK_COLUMNS,
    RECORD_COLUMNS,
    SAMPLE_COLUMNS,
    SUM_COLUMNS,
    SUMMARY_COLUMNS,
    TIME_COLUMNS,
    TUNED_COLUMNS,
    Column,
)
from harness.flags import Flag
from harness.record import SeriesKind, Status, Stretch, joined
from tests import builders

FRAMES = {
    "record": RECORD_COLUMNS,
    "sample": SAMPLE_COLUMNS,
    "summary": SUMMARY_COLUMNS,
    "comparison": COMPARISON_COLUMNS,
    "ranking": RANK_COLUMNS,
    "along": ALONG_COLUMNS,
    "times": TIME_COLUMNS,
    "sums": SUM_COLUMNS,
    "tuned": TUNED_COLUMNS,
    "published": PUBLISHED_COLUMNS,
    "beside": BESIDE_COLUMNS,
    "nights": NIGHT_COLUMNS,
    "cases": CASE_COLUMNS,
    "profile": PROFILE_COLUMNS,
    "profiled": PROFILED_COLUMNS,
    "kernel": KERNEL_COLUMNS,
    "explanation": EXPLANATION_COLUMNS,
}
UNITS = {"_ns": "ns", "_bytes": "bytes", "_j": "J", "_per_s": "/s", "_per_byte": "/byte", "_mhz": "MHz", "_c": "degC"}


@pytest.mark.parametrize("name", FRAMES)
def test_the_columns_of_a_frame_are_in_the_schema_and_stand_there_once(name):
    columns = FRAMES[name]
    assert set(columns) <= set(COLUMNS)
    assert len(set(columns)) == len(columns)


def test_no_column_of_the_schema_is_without_a_frame():
    assert set(COLUMNS) == set().union(*FRAMES.values())


@pytest.mark.parametrize(("name", "column"), COLUMNS.items())
def test_a_column_has_a_dtype_that_pandas_knows_a_unit_and_a_meaning(name: str, column: Column):
    series = pd.Series([], dtype=column.dtype)
    assert series.dtype == column.dtype
    assert column.meaning.endswith(".")
    for ending, unit in UNITS.items():
        if name.endswith(ending):
            assert column.unit.endswith(unit)
            break
    else:
        assert column.unit in ("", "UTC", "FLOP", "bytes") or column.unit in name


def test_a_figure_that_may_be_missing_has_a_dtype_that_can_say_so():
    missing = [name for name, column in COLUMNS.items() if "missing" in column.meaning.lower()]
    assert missing
    assert {COLUMNS[name].dtype for name in missing} <= {"Int64", "float64", "string"}


@pytest.mark.parametrize(
    ("column", "kind"),
    [("direction", Direction), ("precision", Precision), ("mode", Mode), ("optimizer", Optimizer), ("layout", Layout)],
)
def test_the_meaning_of_an_axis_names_all_its_values(column, kind):
    for value in kind:
        assert value in COLUMNS[column].meaning


def test_the_meaning_of_the_status_names_every_one():
    for status in Status:
        assert status in COLUMNS["status"].meaning


@pytest.mark.parametrize("flag", Flag)
def test_every_flag_has_a_sentence(flag):
    assert flag.words.endswith(".")
    assert flag.words[0].isupper()


def test_no_two_flags_say_the_same():
    assert len({flag.words for flag in Flag}) == len(Flag)


def test_what_bars_a_verdict():
    assert {flag for flag in Flag if flag.bars_verdict} == {
        Flag.NOT_CONVERGED, Flag.CONTENDED, Flag.THROTTLED, Flag.RECOMPILED, Flag.UNSTEADY_WARMUP, Flag.FEW_SAMPLES,
        Flag.BIMODAL, Flag.DRIFT,
    }  # fmt: skip


def test_what_was_not_asked_of_a_backend_is_no_failure():
    assert {status for status in Status if not status.failed} == {Status.OK, Status.UNSUPPORTED, Status.SKIPPED, Status.NOT_RUN}


def test_what_is_no_choice_among_the_values_of_the_trials_is_a_float():
    made = {name: COLUMNS[name] for name in RECORD_COLUMNS if COLUMNS[name].over_trials in ("median", "sum")}
    assert {column.dtype for column in made.values()} == {"float64"}
    assert {name for name, column in COLUMNS.items() if column.of} <= set(RECORD_COLUMNS)


# Visits ---------------------------------------------------------------------------------------------------------------------


def joined_of(*visits):
    return joined(builders.samples(first_call_ns=5, warmup_ns=6, wall_ns=7, cpu_ns=8, steal_ns=9), visits)


def test_the_samples_of_a_record_are_those_of_its_visits_in_their_order():
    found = joined_of(
        builders.visit(3, [10, 20], process=1, turn=4, place=2), builders.visit(3, [30], process=5, turn=6, place=0, steal_ns=2)
    )
    (series,) = found.series
    assert series.block_ns == (10, 20, 30)
    assert series.visits == (Stretch(1, 4, 2, 2), Stretch(5, 6, 0, 1))
    assert (found.first_call_ns, found.warmup_ns) == (5, 6)
    assert (found.wall_ns, found.cpu_ns, found.steal_ns) == (60, 90, 2)


def test_what_was_not_measured_in_each_visit_is_measured_in_none():
    told = builders.series([10], [1], yardstick_ns=[3])
    untold = builders.series([20], yardstick_ns=[4])
    (series,) = joined_of(builders.visit(series=(told,)), builders.visit(turn=1, series=(untold,), steal_ns=None)).series
    assert (series.run_delay_ns, series.others_ns, series.yardstick_ns) == ((), (), (3, 4))
    assert joined_of(builders.visit(steal_ns=None)).steal_ns is None


def test_a_process_that_takes_another_number_of_calls_into_a_block_has_a_series_of_its_own():
    one, many = builders.series([10]), builders.series([200], iterations=20)
    visits = [builders.visit(turn=turn, series=(each,)) for turn, each in enumerate((one, many, one))]
    found = joined_of(*visits)
    assert [(series.iterations, series.block_ns) for series in found.series] == [(1, (10, 10)), (20, (200,))]
    assert [[visit.turn for visit in series.visits] for series in found.series] == [[0, 2], [1]]


def test_series_of_one_kind_stand_together_latency_first():
    kinds = [builders.series([ns], kind=kind) for ns, kind in enumerate(SeriesKind, start=1)]
    another = builders.visit(turn=1, series=(builders.series([9], iterations=2),))
    found = joined_of(builders.visit(series=tuple(reversed(kinds))), another)
    assert [series.kind for series in found.series] == [SeriesKind.LATENCY, *SeriesKind]


def test_a_void_visit_adds_no_samples():
    void = builders.visit(series=(), wall_ns=0, cpu_ns=0, steal_ns=None, reason="compiled again")
    found = joined_of(void, builders.visit(turn=1))
    assert [visit.turn for visit in found.series[0].visits] == [1]
    assert joined_of().series == ()
