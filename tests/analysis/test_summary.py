import math
import statistics

import numpy as np
import pandas as pd
import pytest

from harness import stats
from harness.analysis.summary import SERIOUSNESS, summarize
from harness.axes import Bias, Device, Direction, Epilogue, Optimizer
from harness.columns import COLUMNS, SUMMARY_COLUMNS
from harness.flags import Flag
from harness.record import Check, Memory, Power, SeriesKind, Status
from harness.store import frames
from tests.analysis import visiting
from tests.analysis.machine import wander
from tests.builders import START, cell, environment, failed, record, samples, series


def summary(*records):
    return summarize(frames.records_frame(records, [environment()], "small"), frames.samples_frame(records))


def row(*records):
    found = summary(*records)
    assert len(found) == 1
    return found.iloc[0]


def three(*medians, **overrides):
    """A record per trial, each of 30 samples of one length."""
    return [record([median] * 30, trial=trial, order=trial, **overrides) for trial, median in enumerate(medians)]


def flags(*records):
    return set(row(*records)["flags"].split(",")) - {""}


def test_columns_and_dtypes_are_those_of_the_schema():
    for found in (summary(), summary(*three(10, 20, 30)), summary(failed(Status.OOM, "no memory"))):
        assert {name: str(dtype) for name, dtype in found.dtypes.items()} == {
            name: COLUMNS[name].dtype for name in SUMMARY_COLUMNS
        }


def test_the_figure_is_the_median_of_the_medians_of_trials():
    # Pooled, the median would be 1000: the trial with many samples must not outweigh the others.
    found = row(record([1000] * 90), record([1040] * 30, trial=1, order=1), record([1030, 1050] * 15, trial=2, order=2))
    assert found["median_ns"] == 1040
    assert (found["trials"], found["samples"], found["status"], found["reason"], found["flags"]) == (3, 150, "ok", "", "")
    assert (found["min_ns"], found["ci_method"]) == (1000, "trials")


def test_the_interval_of_three_trials_is_a_t_interval_on_the_logs():
    found = row(*three(1000, 1010, 1020))
    centre = (math.log(1000) + math.log(1010) + math.log(1020)) / 3
    deviation = math.sqrt(sum((math.log(value) - centre) ** 2 for value in (1000, 1010, 1020)) / 2)
    half = 4.302652729911275 * deviation / math.sqrt(3)  # t at 97.5 % with 2 degrees of freedom, from a table
    assert found["ci_low_ns"] == pytest.approx(math.exp(centre - half))
    assert found["ci_high_ns"] == pytest.approx(math.exp(centre + half))


def test_the_interval_holds_its_median():
    many = [1000] * 40 + [9_000_000] * 19
    low, high = stats.log_t_interval(many)
    assert low > 1000
    found = row(*three(*many))
    assert (found["median_ns"], found["ci_low_ns"], found["ci_high_ns"]) == (1000, 1000, pytest.approx(high))
    alike = row(*three(1003, 1003, 1003))
    assert alike["ci_low_ns"] <= alike["median_ns"] <= alike["ci_high_ns"]


def test_one_or_two_trials_have_the_interval_within_the_process():
    # Of 30 values the 10th and the 21st enclose the median with 95 %: David and Nagaraja, table.
    one = row(record(range(1, 31)))
    assert one[["median_ns", "ci_low_ns", "ci_high_ns", "ci_method"]].tolist() == [15.5, 10, 21, "within"]
    two = row(record(range(1, 31)), record(range(101, 131), trial=1, order=1))
    assert two[["median_ns", "ci_low_ns", "ci_high_ns", "ci_method"]].tolist() == [65.5, 10, 121, "within"]


def test_too_few_samples_have_no_interval():
    found = row(record([1, 2, 3]))
    assert found["median_ns"] == 2
    assert found[["ci_low_ns", "ci_high_ns"]].isna().all()
    assert found["ci_method"] == ""
    assert row(record([1, 2, 3]), record(trial=1, order=1))[["ci_low_ns", "ci_method"]].isna().tolist() == [True, False]


def test_times_are_of_one_call():
    found = row(record(samples=samples(series(range(100, 200), iterations=10))))
    assert (found["median_ns"], found["min_ns"]) == (14.95, 10)
    assert pd.isna(found["p95_ns"])
    assert row(record(range(101)))["p95_ns"] == 95


def test_rates_and_counts_follow_from_the_shape():
    found = row(*three(1000, 1000, 1000))
    # x 16, w 18, y 32 elements of 4 bytes.
    assert found[["flop_nominal", "flop_exact", "bytes_min"]].tolist() == [576, 400, 264]
    assert found["flop_per_s"] == pytest.approx(576e6)
    assert found["bytes_per_s"] == pytest.approx(264e6)
    assert found["intensity_flop_per_byte"] == pytest.approx(576 / 264)
    made = cell(direction=Direction.TRAIN, optimizer=Optimizer.ADAM)
    train = row(record(of=made))
    assert train[["flop_nominal", "flop_exact"]].tolist() == [3 * 576, 3 * 400]
    # Read: x, w and two slots. Written: y, dx, dw, w and two slots.
    assert train["bytes_min"] == 4 * (16 + 18 + 36 + 32 + 16 + 2 * 18 + 36)


@pytest.mark.parametrize(
    ("direction", "optimizer", "more"),
    [
        (Direction.FPROP, None, 2),  # b is read
        (Direction.WGRAD, None, 2),  # db is written
        (Direction.BPROP, None, 2 * 2),  # both
        (Direction.TRAIN, Optimizer.ADAM, (2 + 2 * 2) + 2 + (2 + 2 * 2)),  # b and its slots are read and written, db written
    ],
)
def test_the_bytes_of_a_bias_count_and_its_flop_do_not(direction, optimizer, more):
    plain, biased = (
        row(record(of=cell(direction=direction, optimizer=optimizer, bias=bias), memory=Memory(10_000, 11_000, None, None, "")))
        for bias in (Bias.NONE, Bias.CHANNEL)
    )
    assert biased["bytes_min"] - plain["bytes_min"] == 4 * more
    assert biased["bytes_per_s"] == pytest.approx(biased["bytes_min"] * 1e6)
    assert biased["intensity_flop_per_byte"] == pytest.approx(biased["flop_nominal"] / biased["bytes_min"])
    assert biased["flop_nominal"] == plain["flop_nominal"]
    results = {Direction.FPROP: 0, Direction.WGRAD: 2, Direction.BPROP: 2, Direction.TRAIN: 2 + (2 + 2 * 2)}[direction]
    assert plain["workspace_bytes"] - biased["workspace_bytes"] == 4 * results


def test_other_measurements_are_merged_over_the_trials():
    clock = [
        {"first_call_ns": 30, "cpu_ns": 100, "wall_ns": 100, "steal_ns": 5},
        {"first_call_ns": 10, "cpu_ns": 500, "wall_ns": 200, "steal_ns": 7},
        {"first_call_ns": 20, "cpu_ns": 0, "wall_ns": 100, "steal_ns": None},
    ]
    records = [
        record(
            trial=trial,
            order=trial,
            op_reason="the usual one lies",
            samples=samples(series([9] * 30), **clock[trial]),
            memory=Memory(100, (400, 800, 600)[trial], None, None, "VmHWM"),
            check=Check(True, "integer", (0.5, 0.75, 0.25)[trial], 1.0, (0.0, 0.125, None)[trial]),
        )
        for trial in range(3)
    ]
    found = row(*records)
    assert found["first_call_ns"] == 20
    assert found["effective_cores"] == 1.5
    assert found["steal_ns"] == 12
    assert (found["host_base_bytes"], found["host_peak_bytes"]) == (100, 600)
    assert found["workspace_bytes"] == 600 - 100 - 128  # y is 32 elements of 4 bytes
    assert (found["max_rel_err"], found["results_vary"]) == (0.75, 0.125)
    assert found["started_at"] == pd.Timestamp(START)
    assert found[["device_peak_bytes", "ceiling_share", "energy_per_call_j", "yardstick_ratio", "corrected_ns"]].isna().all()
    facts = [
        "suite",
        "op",
        "op_reason",
        "settings",
        "threads_used",
        "check_method",
        "memory_method",
        "environment_id",
        "machine_id",
    ]
    assert found[facts].tolist() == [
        "small", "torch.conv2d", "the usual one lies", "mkldnn=on, threads=2", 2, "integer", "VmHWM", "env-1", "machine-1",
    ]  # fmt: skip


def test_workspace_is_never_negative_and_counted_where_the_cell_ran():
    assert row(record(memory=Memory(100, 110, None, None, "")))["workspace_bytes"] == 0
    assert math.isnan(row(record(memory=Memory(None, None, 100, 900, "")))["workspace_bytes"])
    on_gpu = record(of=cell(device=Device("gpu")), memory=Memory(1, 2, 100, 900, ""))
    assert row(on_gpu)["workspace_bytes"] == 900 - 100 - 128
    assert math.isnan(row(record(memory=None))["workspace_bytes"])


def test_contended_samples_give_no_figure_and_a_share():
    blocks = series([1000] * 30 + [5000] * 10, [0] * 30 + [4000] * 10)
    found = row(record(samples=samples(blocks)), record(trial=1, order=1, samples=samples(series([1000] * 40, [0] * 40))))
    assert (found["median_ns"], found["samples"], found["contended_share"]) == (1000, 70, 0.125)
    assert found["p95_ns"] == 1000
    assert math.isnan(row(*three(1, 2, 3))["contended_share"])


def test_a_trial_without_a_clean_sample_keeps_its_figure():
    blocks = samples(series([3000] * 30, [400] * 30))
    found = row(record(samples=blocks, flags=(Flag.CONTENDED,)))
    assert (found["median_ns"], found["samples"], found["contended_share"]) == (3000, 30, 1)
    assert found["flags"] == "contended,few_samples"


@pytest.mark.parametrize("place", [place for place, each in enumerate(SERIOUSNESS[:-1]) if each is not Status.NOT_RUN])
def test_a_cell_has_the_status_of_its_worst_trial_and_no_figure(place):
    worse, better = SERIOUSNESS[place], SERIOUSNESS[place + 1]
    other = record(trial=1, order=1) if better is Status.OK else failed(better, "the lesser", trial=1, order=1)
    found = row(record(), other, failed(worse, "the worse", trial=2, order=2))
    assert (found["status"], found["reason"]) == (worse, "the worse")
    figures = ["median_ns", "ci_low_ns", "ci_high_ns", "min_ns", "p95_ns", "first_call_ns", "flop_per_s", "bytes_per_s"]
    assert found[[*figures, "workspace_bytes", "effective_cores", "host_peak_bytes", "contended_share"]].isna().all()
    assert found["ci_method"] == ""
    assert found["trials"] == (2 if better is Status.OK else 1)
    assert found[["op", "flop_nominal", "shape"]].tolist() == ["torch.conv2d", 576, "n1 c1 k2 4x4 f3x3 p1x1"]


def test_a_trial_that_was_not_run_says_nothing_where_another_was():
    cut = failed(Status.NOT_RUN, "the run ended", trial=2, order=2)
    found = row(record(), record(trial=1, order=1), cut)
    assert (found["status"], found["reason"], found["trials"], found["median_ns"]) == ("ok", "", 2, 1000)
    assert row(failed(Status.UNSUPPORTED, "no"), cut)["status"] == "unsupported"
    assert row(failed(Status.CRASHED, "signal 11"), cut)["status"] == "crashed"
    assert row(cut)["status"] == "not_run"


def test_every_status_has_its_place():
    order = ["incorrect", "crashed", "error", "oom", "timeout", "not_run", "unsupported", "skipped", "ok"]
    assert list(SERIOUSNESS) == order
    assert sorted(order) == sorted(Status)


def test_the_first_reason_of_the_worst_status_counts():
    found = row(failed(Status.OOM, "first"), failed(Status.OOM, "second", trial=1, order=1))
    assert (found["reason"], found["trials"], found["samples"]) == ("first", 0, 0)


def test_a_first_trial_that_knows_nothing_hides_no_fact():
    found = row(failed(Status.CRASHED, "signal 11", environment_id=""), *three(1, 2, of=cell())[1:])
    facts = ["op", "settings", "threads_used", "check_method", "memory_method", "environment_id"]
    assert found[facts].tolist() == ["torch.conv2d", "mkldnn=on, threads=2", 2, "integer", "VmHWM", "env-1"]


def test_what_a_failed_cell_knows_is_kept():
    wrong = Check(ok=False, method="spot", max_rel_err=math.inf, tolerance=1.0)
    found = row(record(), failed(Status.INCORRECT, "inf", trial=1, order=1, flags=(Flag.CONTENDED,)))
    assert found["flags"] == "contended"
    replaced = row(record(check=wrong))
    assert (replaced["check_method"], replaced["max_rel_err"]) == ("spot", math.inf)


def test_stored_and_derived_flags_are_joined_in_the_order_of_the_enum():
    records = [
        record([1000] * 9, flags=(Flag.UNSTEADY_WARMUP, Flag.CONTENDED)),
        record([1200] * 30, trial=1, order=1, flags=(Flag.NOT_CONVERGED,), flop_framework=1.0),
    ]
    assert row(*records)["flags"] == "not_converged,contended,unsteady_warmup,few_samples,trials_disagree,flop_disagree"


@pytest.mark.parametrize(("raising", "barred"), [(0, ""), (1, ""), (2, "contended"), (3, "contended")])
def test_a_flag_bars_a_verdict_where_more_than_half_of_the_trials_raise_it(raising, barred):
    records = [
        record([1000] * 30, trial=trial, order=trial, flags=(Flag.CONTENDED, Flag.COMPOSITE) if trial < raising else ())
        for trial in range(3)
    ]
    found = row(*records)
    assert found["barred_by"] == barred  # composite never does
    assert ("contended" in found["flags"]) == bool(raising)


def test_trials_that_each_have_a_flag_of_their_own_bar_a_verdict_together():
    kinds = (Flag.CONTENDED, Flag.NOT_CONVERGED, Flag.UNSTEADY_WARMUP)
    records = [record([1000] * 30, trial=trial, order=trial, flags=(flag,)) for trial, flag in enumerate(kinds)]
    assert row(*records)["barred_by"] == "not_converged,contended,unsteady_warmup"


def test_one_of_two_trials_is_not_more_than_half():
    records = [record([1000] * count, trial=trial, order=trial) for trial, count in enumerate((9, 30))]
    assert (row(*records)["flags"], row(*records)["barred_by"]) == ("few_samples", "")
    assert row(records[0])["barred_by"] == "few_samples"


def test_a_clean_cell_raises_no_flag():
    assert flags(*three(1000, 1010, 1020, flop_framework=400.0)) == set()


@pytest.mark.parametrize(("last", "raised"), [(1090, False), (1110, True)])
def test_trials_disagree(last, raised):
    assert (flags(*three(1000, 1000, last)) == {"trials_disagree"}) == raised


def test_only_the_stronger_noise_is_named():
    noisy, very_noisy = ([1000 + width * (index * 37 % 61 - 30) / 30 for index in range(61)] for width in (150, 400))
    as_blocks = [[round(value) for value in values] for values in (noisy, very_noisy)]
    assert flags(record(as_blocks[0])) == {"noisy"}
    assert flags(record(as_blocks[0]), record(as_blocks[1], trial=1, order=1)) == {"very_noisy"}


def test_flop_disagree_concerns_single_passes_only():
    counted = [record([1000] * 30, trial=t, order=t, of=cell(direction=Direction.BPROP), flop_framework=1.0) for t in range(3)]
    assert flags(*counted) == set()


@pytest.mark.parametrize(
    ("count", "raised"), [(576, False), (400, False), (581, False), (403, False), (405, True), (1152, True)]
)
def test_flop_disagree_is_with_both_counts(count, raised):
    assert (flags(*three(1000, 1000, 1000, flop_framework=float(count))) == {"flop_disagree"}) == raised


# y and dy have 32 elements; the formulas are 576 and 400.
@pytest.mark.parametrize(
    ("asked", "right", "wrong"),
    [
        ({"bias": Bias.CHANNEL}, [400, 432, 576, 608], [384, 464, 560, 640]),
        ({"epilogue": Epilogue.RELU}, [400, 432, 576, 608], [384, 464, 560, 640]),
        ({"bias": Bias.CHANNEL, "epilogue": Epilogue.RELU}, [400, 432, 464, 576, 608, 640], [384, 496, 560, 672]),
        ({"bias": Bias.CHANNEL, "direction": Direction.WGRAD}, [400, 432, 576, 608], [384, 464, 560, 640]),
        ({"direction": Direction.WGRAD}, [400, 576], [432, 608]),
    ],
)
def test_what_a_framework_counts_of_a_bias_and_an_epilogue_is_no_disagreement(asked, right, wrong):
    for counts, expected in ((right, set()), (wrong, {"flop_disagree"})):
        for count in counts:
            assert flags(record(of=cell(**asked), flop_framework=float(count))) == expected, count


def test_an_ok_trial_without_samples_is_flagged():
    found = row(record(samples=None))
    assert (found["status"], found["flags"], found["samples"]) == ("ok", "few_samples", 0)
    assert math.isnan(found["median_ns"])


def test_blocks_of_no_time_at_all_stop_nothing():
    found = row(*three(0, 0, 0))
    assert (found["median_ns"], found["ci_low_ns"], found["ci_method"]) == (0, 0, "within")
    assert math.isnan(found["flop_per_s"])


def test_runs_and_cells_are_kept_apart_in_the_order_of_measuring():
    later = "20260302-000000-bbbb"
    records = [
        record([7] * 30, run_id=later, order=1),
        record([9] * 30, run_id=later, order=0, of=cell(backend="jax")),
        record([5] * 30, order=3),
    ]
    found = summary(*records)
    assert found[["run_id", "backend", "median_ns"]].values.tolist() == [
        ["20260301-023000-aaaa", "torch", 5], [later, "jax", 9], [later, "torch", 7],
    ]  # fmt: skip


def test_any_selection_of_rows_will_do_and_nothing_is_changed():
    all_records = [*three(1000, 1010, 1020), record([5] * 30, of=cell(backend="jax"), order=9)]
    records, sampled = frames.records_frame(all_records, [environment()], "small"), frames.samples_frame(all_records)
    records.attrs["store"] = "results"
    before = records.copy(), sampled.copy()
    some = records[records["backend"] == "jax"]
    assert summarize(some, sampled)["median_ns"].tolist() == [5]
    assert summarize(records, sampled).attrs == {"store": "results"}
    pd.testing.assert_frame_equal(records, before[0])
    pd.testing.assert_frame_equal(sampled, before[1])


def beside(block_ns, yardstick_ns, **where):
    """A record of 30 samples of one length beside yardsticks of these lengths in turn."""
    readings = [yardstick_ns[index * len(yardstick_ns) // 30] for index in range(30)]
    return record(samples=samples(series([block_ns] * 30, yardstick_ns=readings)), **where)


def test_the_corrected_time_refers_to_the_run_s_own_yardstick():
    records = [beside(1000, [100]), beside(1200, [120], trial=1, order=1), beside(3000, [200], trial=2, order=2)]
    found = row(*records)
    assert found["yardstick_ratio"] == 10
    # Readings 100, 120, 200, each once: the lower quartile is 110.
    assert found["corrected_ns"] == pytest.approx(1100)
    assert found["median_ns"] == 1200


def test_the_reference_is_that_of_the_same_number_of_threads_and_run():
    others = [
        beside(1000, [400], of=cell(threads=1), order=3),
        beside(1000, [50], run_id="20260302-023000-bbbb"),
        beside(1000, [900], of=cell(device=Device("gpu")), order=4),
    ]
    found = summary(beside(1000, [100]), *others).set_index(["run_id", "device", "threads"])["corrected_ns"]
    ours = "20260301-023000-aaaa"
    assert found[ours, "cpu", 0] == 1000
    assert found[ours, "cpu", 1] == 1000
    assert found["20260302-023000-bbbb", "cpu", 0] == 1000
    assert row(beside(1000, [100]), beside(500, [100, 80], trial=1, order=1))["corrected_ns"] == pytest.approx(
        statistics.median([10, statistics.median([5, 500 / 80])]) * 90
    )


def test_a_trial_without_a_yardstick_leaves_the_cell_uncorrected():
    assert row(beside(1000, [100]), record(trial=1, order=1))[["yardstick_ratio", "corrected_ns"]].isna().all()


def test_throughput_and_device_time_are_medians_of_trials():
    def of_trial(trial, throughput_ns, device_ns):
        many = series([throughput_ns] * 5, iterations=10, kind=SeriesKind.THROUGHPUT)
        device = series([device_ns] * 5, kind=SeriesKind.DEVICE, method="events")
        return record(trial=trial, order=trial, samples=samples(series([100] * 30), many, device))

    found = row(of_trial(0, 500, 30), of_trial(1, 700, 36), of_trial(2, 600, 31))
    assert found[["median_ns", "throughput_ns", "device_ns", "device_method"]].tolist() == [100, 60, 31, "events"]
    assert row(record())[["throughput_ns", "device_ns"]].isna().all()


def test_energy_is_per_call_and_the_gpu_is_told_of():
    powers = [
        Power(3.0, 10**9, 100, "NVML", 1500, 60, ("SwPowerCap",)),
        Power(8.0, 10**9, 200, "NVML", 1700, 64, ("SwPowerCap", "HwSlowdown")),
        Power(None, None, None, "no counter"),
    ]
    found = row(*(record(trial=trial, order=trial, power=power) for trial, power in enumerate(powers)))
    assert found["energy_per_call_j"] == pytest.approx((0.03 + 0.04) / 2)
    names = ["energy_method", "gpu_clock_mhz", "gpu_temperature_c", "gpu_throttle_reasons"]
    assert found[names].tolist() == ["NVML", 1600, 62, "SwPowerCap,HwSlowdown"]
    unknown = row(record(power=powers[2]))
    assert (math.isnan(unknown["energy_per_call_j"]), unknown["energy_method"]) == (True, "no counter")


# A run of visits ------------------------------------------------------------------------------------------------------------

TRIALS, VISITS, CALLS = 4, 10, 15
CELLS = [cell(workload=name, backend=backend) for name in ("a", "b", "c", "d") for backend in ("jax", "tensorflow", "torch")]


def visited(seed: int = 0, disturb=lambda logs, rng: None, visits: int = VISITS) -> pd.DataFrame:
    """The summary of a scripted run; `disturb` may change the logs of its samples, (cells, trials, visits, calls).

    The machine is a third slower for some turns on end; processes differ by 1.5 %, visits by 3 %, calls by 4 %.
    """
    rng, size = np.random.default_rng(seed), (len(CELLS), TRIALS, visits, CALLS)
    logs = np.log(1e6) + 0.3 * wander(rng, TRIALS * visits).reshape(TRIALS, visits, 1) * np.ones(size)
    for level, spread in zip((2, 3, 4), (0.015, 0.03, 0.04), strict=True):
        logs += spread * rng.standard_normal((*size[:level], *[1] * (4 - level)))
    disturb(logs, rng)
    made = [
        visiting.Visit(
            str(each), trial, trial * len(CELLS) + place, trial * visits + visit, np.exp(logs[place, trial, visit]),
            place, visit,
        )
        for trial in range(TRIALS) for visit in range(visits) for place, each in enumerate(CELLS)
    ]  # fmt: skip
    records = [record(trial=trial, order=trial * 100 + at, of=each) for trial in range(TRIALS) for at, each in enumerate(CELLS)]
    found = summarize(frames.records_frame(records, [environment()], "small"), visiting.samples(made))
    return found.set_index("cell").loc[[str(each) for each in CELLS]]


@pytest.mark.fault("the machine's speed wanders for minutes of a run of visits", "no flag is up on a third of its cells")
def test_a_flag_says_nothing_of_a_quiet_run_whose_machine_wanders():
    for seed in range(5):
        found = visited(seed)
        raised = [flag for text in found["flags"] for flag in text.split(",") if flag]
        assert all(3 * raised.count(flag) < len(CELLS) for flag in raised)
        assert set(found["barred_by"]) == {""}
        assert set(found["ci_method"]) == {"trials"}


def two_speeds(logs, rng):
    logs[0, :2] += 0.6


def a_process_apart(logs, rng):
    logs[0, 1] += 0.2


def calls_of_two_speeds(logs, rng):
    logs[0, 3, :, ::2] += 0.4


@pytest.mark.fault("processes of a cell differ, or its calls within visits", "the cell bears the flag that says so")
@pytest.mark.parametrize(
    ("disturb", "raised"),
    [
        (two_speeds, {"trials_disagree", "two_kinds"}),
        (a_process_apart, {"trials_disagree"}),
        (calls_of_two_speeds, {"very_noisy", "trials_disagree"}),
    ],
)
def test_a_known_disturbance_raises_its_flag_on_the_cell_that_it_hits(disturb, raised):
    found = visited(disturb=disturb)
    assert set(found["flags"].iloc[0].split(",")) == raised
    assert set(found["flags"].iloc[1:]) == {""}
    assert set(found["barred_by"]) == {""}  # the interval over processes has it


def test_trials_of_two_visits_bar_a_verdict():
    assert set(visited(visits=2)["barred_by"]) == {"few_samples"}


def test_the_time_by_all_visits_stands_beside_the_raw_median():
    found = visited()
    assert set(found["time_method"]) == {"turns"}
    assert found["processes"].tolist() == [TRIALS] * len(CELLS)
    assert (found["process_range"] < 0.1).all()
    assert ((found["time_low_ns"] < found["time_ns"]) & (found["time_ns"] < found["time_high_ns"])).all()
    width, raw = found["time_high_ns"] / found["time_low_ns"], found["ci_high_ns"] / found["ci_low_ns"]
    assert width.median() < raw.median()  # the machine's wander is not in it
    old = row(*three(1000, 1010, 1020))
    assert old[["time_method", "processes"]].tolist() == ["raw", 3]
    assert old["time_ns"] == pytest.approx((1000 * 1010 * 1020) ** (1 / 3))
    assert pd.isna(row(failed(Status.OOM, "no memory"))["time_ns"])


def test_under_three_trials_the_interval_is_that_of_visits():
    made = [visiting.Visit(str(cell()), 0, 0, turn, [1000 + 10 * turn] * 5, visit=turn) for turn in range(6)]
    found = summarize(frames.records_frame([record()], [environment()], "small"), visiting.samples(made)).iloc[0]
    assert found[["median_ns", "ci_low_ns", "ci_high_ns", "ci_method"]].tolist() == [1025, 1000, 1050, "visits"]
