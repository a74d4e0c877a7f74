import math

import numpy as np
import pandas as pd
import pytest

from harness.analysis.ranking import rank
from harness.analysis.summary import summarize
from harness.analysis.visits import visits
from harness.axes import Device, Direction, Mode
from harness.flags import Flag
from harness.record import Record, SeriesKind, Status
from harness.spec import GemmSpec
from harness.store import frames
from tests.analysis.visiting import of_cells
from tests.analysis.visiting import samples as samples_of
from tests.builders import cell, failed, record, samples, series


def framed(*records: Record) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The summary and the visits of these records."""
    blocks = frames.samples_frame(records)
    return summarize(frames.records_frame(records, [], "small"), blocks), visits(blocks)


def ranked(*records: Record, **options: frozenset[str]) -> pd.DataFrame:
    return rank(*framed(*records), **options)


def trials(*times: int, flags: tuple[Flag, ...] = (), **of) -> list[Record]:
    """A record per trial, each with thirty samples around its time."""
    return [
        record([time + place % 3 - 1 for place in range(30)], trial=trial, flags=flags, of=cell(**of))
        for trial, time in enumerate(times)
    ]


def marks(found: pd.DataFrame) -> dict[str, str]:
    """`●` the best, `○` a tie, `<` known to take longer, `~` neither, by backend; the best with `!` where all others do."""
    shown = {}
    for row in found.itertuples():
        mark = ("●!" if row.decided else "●") if row.best else "○" if row.tie else "<" if row.decided else "~"
        shown[row.backend] = "" if pd.isna(row.vs_best) else mark
    return shown


def test_the_lowest_is_marked_in_each_group():
    found = ranked(
        *trials(1000, 1010, 990, 1000, backend="torch"),
        *trials(2000, 2020, 1990, 2010, backend="jax"),
        *trials(3000, 3010, 3020, 3000, backend="torch", direction=Direction.WGRAD),
        *trials(2000, 2010, 2030, 2000, backend="jax", direction=Direction.WGRAD),
    )
    assert found["best"].tolist() == [True, False, False, True]
    assert found["decided"].all()
    assert not found["tie"].any()


def test_modes_compete_with_each_other():
    found = ranked(*trials(1000, 1000, 1010, mode=Mode.EAGER), *trials(500, 510, 505, mode=Mode.COMPILED))
    assert found["best"].tolist() == [False, True]


@pytest.mark.fault(
    "the machine's speed wanders from trial to trial",
    "two cells are told apart by paired ratios, not by intervals",
)
def test_two_cells_are_told_apart_by_the_ratios_of_their_trials():
    # The machine is up to 40 % slower in some trials, for both alike: the intervals of the two overlap, the ratios are all 1.1.
    speeds = (1000, 1400, 1150, 1270)
    together = ranked(*trials(*speeds, backend="a"), *trials(*(int(1.1 * each) for each in speeds), backend="b"))
    assert marks(together) == {"a": "●!", "b": "<"}
    first, second = together.to_dict("records")
    assert second["ci_low_ns"] < first["ci_high_ns"]
    # The same medians, and ratios from 0.9 to 1.5: neither is known to take longer.
    crossed = ranked(*trials(1000, 1400, 1150, 1270, backend="a"), *trials(1540, 1265, 1397, 1100, backend="b"))
    assert marks(crossed) == {"a": "●", "b": "~"}
    assert crossed["vs_best_low"].tolist() == [1, 1]


@pytest.mark.fault(
    "a run has fewer than four trials, and processes are of two kinds",
    "nothing is decided, however far apart two times are",
)
def test_under_four_pairs_of_processes_nothing_is_decided():
    three = ranked(*trials(1000, 1001, 1002, backend="a"), *trials(1800, 1801, 1802, backend="b"))
    assert marks(three) == {"a": "●", "b": "~"}
    assert three["vs_best_low"].tolist()[1] > 1.7  # the interval is shown all the same
    four = ranked(*trials(1000, 1001, 1002, 1000, backend="a"), *trials(1800, 1801, 1802, 1801, backend="b"))
    assert marks(four) == {"a": "●!", "b": "<"}


def test_what_is_known_to_lie_within_two_percent_of_the_fastest_is_as_good():
    found = ranked(
        *trials(100_000, 100_200, 100_100, 100_000, backend="a"), *trials(100_300, 100_300, 100_400, 100_100, backend="b")
    )
    assert marks(found) == {"a": "●!", "b": "○"}
    assert found["decided"].all()
    assert found["vs_best_high"].max() < 1.02


@pytest.mark.fault(
    "the machine's speed wanders by a factor of two within a trial", "visits side by side tell 2 % apart, whose medians do not"
)
def test_visits_in_the_same_turn_are_compared_with_each_other():
    rng, made = np.random.default_rng(1), []
    names = {str(cell(backend=backend)): factor for backend, factor in (("a", 1.0), ("b", 1.04))}
    for trial in range(4):
        speed = 1e6 * rng.uniform(1, 2, 10)
        noise = 1 + 0.003 * rng.standard_normal((2, 10))
        by_cell = {name: (speed * each * factor)[:, None] for (name, factor), each in zip(names.items(), noise, strict=True)}
        made += of_cells(by_cell, trial=trial, first_turn=10 * trial)
    blocks = samples_of(made)
    records = [record(trial=trial, of=cell(backend=backend)) for backend in "ab" for trial in range(4)]
    summary = summarize(frames.records_frame(records, [], "small"), blocks)
    found = rank(summary, visits(blocks))
    assert marks(found) == {"a": "●!", "b": "<"}
    assert found["vs_best"].tolist() == pytest.approx([1, 1.04], rel=0.003)
    assert found["vs_best_low"].tolist()[1] > 1.02
    # With the visits of one of them in other turns the same times say nothing.
    apart = blocks.assign(turn=blocks["turn"].mask(blocks["cell"] == str(cell(backend="b")), blocks["turn"] + 1000))
    assert marks(rank(summary, visits(apart))) == {"a": "~", "b": "~"}


@pytest.mark.fault("a run has one trial", "each factor has a `~`, nothing is decided, and nobody is marked as the fastest")
def test_one_trial_decides_nothing():
    found = ranked(*trials(1000, backend="a"), *trials(9000, backend="b"))
    assert marks(found) == {"a": "~", "b": "~"}
    assert found["vs_best"].tolist() == pytest.approx([1, 9])
    assert found["competitors"].tolist() == [1, 1]


@pytest.mark.fault("a cell has no competitor", "it is not marked as the fastest, and has no factor with an interval")
@pytest.mark.parametrize("flags", [(), (Flag.CONTENDED,)])
def test_a_cell_without_a_competitor_is_the_fastest_of_nothing(flags: tuple[Flag, ...]):
    alone = trials(1000, 1010, 990, 1000, backend="a", flags=flags)
    found = ranked(*alone, failed(Status.OOM, "no memory", of=cell(backend="b")))
    assert found["competitors"].tolist() == [0, 0]
    assert not found[["best", "tie"]].any(axis=None)
    assert found[["vs_best_low", "vs_best_high"]].isna().all(axis=None)


def test_without_the_samples_nothing_is_decided():
    summary, _ = framed(*trials(1000, 1010, 990, backend="a"), *trials(2000, 2020, 1990, backend="b"))
    assert marks(rank(summary)) == {"a": "~", "b": "~"}


@pytest.mark.fault("the lowest time is under a flag that bars a verdict", "nobody is marked or called fastest")
def test_a_time_under_a_flag_that_bars_a_verdict_never_wins():
    barred = trials(1000, 1010, 990, 1000, backend="a", flags=(Flag.CONTENDED,))
    others = [*trials(2000, 2020, 1990, 2010, backend="b"), *trials(3000, 3020, 3010, 3000, backend="c")]
    found = ranked(*barred, *others)
    assert marks(found) == {"a": "~", "b": "~", "c": "~"}
    assert found["vs_best"].tolist() == pytest.approx([1, 2, 3], rel=0.01)
    slowest = trials(9000, 9010, 9020, 9000, backend="d", flags=(Flag.CONTENDED,))
    assert marks(ranked(*others, *slowest)) == {"b": "●", "c": "<", "d": "~"}


@pytest.mark.fault("all samples of the lowest time were set aside", "nobody is marked or called fastest")
def test_a_time_of_which_no_sample_was_clean_never_wins():
    def disturbed(trial: int) -> Record:
        blocks = [10_000] * 30
        return record(trial=trial, samples=samples(series(blocks, delay_ns=[5_000] * 30)), of=cell(backend="a"))

    found = ranked(*map(disturbed, range(4)), *trials(20_000, 20_100, 20_050, 20_010, backend="b"))
    assert found["contended_share"].tolist()[0] == 1
    assert marks(found) == {"a": "~", "b": "~"}


@pytest.mark.fault("a control (`torch@aa`) has the lowest time", "it is not ranked")
def test_a_control_never_wins():
    found = ranked(*trials(900, 910, 890, 900, backend="torch@aa"), *trials(1000, 1010, 990, 1000, backend="torch"))
    assert marks(found) == {"torch@aa": "", "torch": "<"}
    assert (found["competitors"] == 0).all()


def test_a_label_is_a_competitor_like_any_other():
    found = ranked(*trials(900, 910, 890, 900, backend="torch@old"), *trials(1000, 1010, 990, 1000, backend="torch"))
    assert marks(found) == {"torch@old": "●!", "torch": "<"}


def test_trials_that_only_one_of_two_has_are_left_out():
    times = 1000, 1010, 1000, 990, 1010, 1000
    of_a, of_b = (trials(*(factor * time for time in times), backend=name) for name, factor in (("a", 1), ("b", 2)))
    assert marks(ranked(*of_a[:4], *of_b)) == {"a": "●!", "b": "<"}
    assert marks(ranked(*of_a[:4], *of_b[1:])) == {"a": "●", "b": "~"}
    assert ranked(*of_a[:4], *of_b[1:])["vs_best_pairs"].tolist() == [0, 3]


def test_ranks_keep_the_summary_and_its_index():
    records = [
        *trials(1000, 1020, 990, backend="a"), *trials(2000, 2040, 1980, backend="c"),
        record([10] * 30, of=cell(backend="numpy")), failed(Status.OOM, "no memory", of=cell(backend="d")),
        *trials(5000, 5010, 5020, backend="a", direction=Direction.DGRAD),
    ]  # fmt: skip
    summary, times = framed(*records)
    summary = summary.set_index(pd.Index([3] * 5))
    found = rank(summary, times)
    assert found["vs_best"].tolist() == pytest.approx([1, 2, math.nan, math.nan, 1], rel=0.01, nan_ok=True)
    pd.testing.assert_frame_equal(found[summary.columns], summary)
    assert {str(found[name].dtype) for name in ("best", "tie", "decided")} == {"bool"}


def test_times_of_zero_are_ranked_without_a_word():
    found = ranked(record([0] * 30, of=cell(backend="a")), record([5] * 30, of=cell(backend="b")))
    assert found["vs_best"].tolist()[0] == 1 < found["vs_best"].tolist()[1]


def test_what_failed_or_is_unranked_takes_no_part():
    records = [
        record([10] * 30, of=cell(backend="numpy")),
        failed(Status.INCORRECT, "wrong", of=cell(backend="jax")),
        *trials(100, 110, backend="torch"), *trials(300, 310, backend="tensorflow"),
    ]  # fmt: skip
    assert ranked(*records)["best"].tolist() == [False, False, True, False]
    both = [*trials(10, 10, backend="numpy"), *records[1:]]
    assert ranked(*both, unranked=frozenset())["best"].tolist() == [True, False, False, False]
    assert ranked(*both)["best"].tolist() == [False, False, True, False]


def test_the_reference_under_another_name_is_not_ranked_either():
    assert not ranked(record([10] * 30, of=cell(backend="numpy@old")))["best"].any()


def test_what_is_no_convolution_is_never_ranked():
    gemm = {"spec": GemmSpec(2, 2, 2), "direction": Direction.NONE, "workload": "gemm"}
    found = ranked(record(of=cell(**gemm)), record([10] * 30, of=cell(**gemm, backend="jax")))
    assert found["vs_best"].isna().all()
    assert not found["best"].any()


def test_a_time_without_the_status_ok_is_not_ranked():
    summary, times = framed(*trials(100, 110))
    assert rank(summary.assign(status="incorrect"), times)["best"].tolist() == [False]


@pytest.mark.parametrize("records", [(), (failed(Status.OOM, "no memory"),)])
def test_nothing_to_rank(records):
    found = ranked(*records)
    assert not found["best"].any()
    assert found["vs_best"].isna().all()


@pytest.mark.fault(
    "frameworks read the device's clock in ways that are no one quantity", "device times decide no comparison and are in none"
)
def test_times_of_the_device_are_never_ranked():
    """CUDA events have the gaps between kernels in them, a profiler's kernels have not: who is said to be fastest differs."""

    def on_gpu(backend: str, time: int, device_ns: int, method: str) -> list[Record]:
        kinds = series([time] * 30), series([device_ns] * 30, kind=SeriesKind.DEVICE, method=method)
        of = cell(backend=backend, device=Device("gpu"))
        return [record(samples=samples(*kinds), trial=trial, of=of) for trial in range(4)]

    events, kernels = "CUDA events around queued calls", "the profiler's kernels"
    other_way = ranked(*on_gpu("a", 1000, 900, events), *on_gpu("b", 2000, 100, kernels))
    assert other_way["device_ns"].tolist() == [900, 100]
    assert marks(other_way) == {"a": "●!", "b": "<"}
    same_way = ranked(*on_gpu("a", 1000, 100, kernels), *on_gpu("b", 2000, 900, kernels))
    assert other_way["vs_best"].tolist() == same_way["vs_best"].tolist() == [1, 2]
    alone = ranked(*on_gpu("a", 1000, 900, events), *on_gpu("b", 1000, 100, events))
    assert alone["vs_best"].tolist() == [1, 1]
