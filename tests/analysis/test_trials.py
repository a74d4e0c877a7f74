import math

import numpy as np
import pandas as pd
import pytest

from harness.analysis.trials import Estimator, bimodal, medians, trial, trials
from harness.flags import Flag
from harness.record import SeriesKind
from harness.store import frames
from tests.builders import cell, record, samples, series

KEY = ("20260301-023000-aaaa", 0, str(cell()))


def one(block_ns, contended=None, iterations=1, yardstick_ns=None):
    count = len(block_ns)
    hit = np.zeros(count, dtype=bool) if contended is None else np.array(contended)
    beside = np.full(count, np.nan) if yardstick_ns is None else np.array(yardstick_ns, dtype=float)
    index, measured = np.arange(count), np.ones(count, dtype=bool)
    return trial(np.full(count, iterations), index, np.array(block_ns), hit, measured, beside)


def flags(block_ns):
    return one(block_ns).flags


def steady(count=60, spread=0.01):
    """Samples around 1000 ns, spread evenly over both sides, in an order without trend and without like neighbours."""
    return [1000 * (1 + spread * (index * 37 % 61 - 30) / 30) for index in range(count)]


def test_a_call_is_its_share_of_the_block():
    found = one([4000, 8000, 6000], iterations=4)
    assert found.call_ns.tolist() == [1000, 2000, 1500]
    assert (found.median_ns, found.iterations, found.clean) == (1500, 4, 3)


def test_contended_samples_are_left_out():
    found = one([10, 99, 12, 99, 11], [False, True, False, True, False])
    assert found.call_ns.tolist() == [10, 12, 11]
    assert (found.median_ns, found.clean, found.contended) == (11, 3, 2)


def test_all_samples_count_where_none_is_clean():
    found = one([10, 30, 20], [True, True, True])
    assert (found.median_ns, found.clean, found.contended) == (20, 0, 3)
    assert Flag.FEW_SAMPLES in found.flags


def test_steady_samples_raise_no_flag():
    assert flags(steady()) == set()
    assert flags([1000] * 30) == set()


@pytest.mark.parametrize(("count", "raised"), [(9, True), (10, False)])
def test_few_samples(count, raised):
    assert (Flag.FEW_SAMPLES in flags([1000] * count)) == raised


def test_few_samples_are_few_clean_ones():
    found = one([1000] * 30, [True] * 21 + [False] * 9)
    assert found.flags == {Flag.FEW_SAMPLES}


@pytest.mark.parametrize(
    ("spread", "raised"), [(0.09, set()), (0.12, {Flag.NOISY}), (0.24, {Flag.NOISY}), (0.27, {Flag.VERY_NOISY})]
)
def test_noise_is_the_interquartile_range(spread, raised):
    # Evenly spread over 2 * spread: the quartiles enclose half of that, so IQR / median is `spread`.
    assert flags(steady(61, spread)) & {Flag.NOISY, Flag.VERY_NOISY} == raised


def test_drift_is_a_step_between_first_and_last_third():
    ramp = [1000 + index for index in range(60)]  # thirds' medians 40 apart, the interval of the median 16 wide
    assert Flag.DRIFT in flags(ramp)
    assert Flag.DRIFT in flags(ramp[::-1])
    assert Flag.DRIFT not in flags([1000 + index / 2 for index in range(60)])  # 2 %: under 3 %
    assert Flag.DRIFT not in flags([ramp[index * 37 % 60] for index in range(60)])  # the same values without the trend


def test_a_drift_of_the_machine_that_the_yardstick_shows_is_none_of_the_call():
    ramp = [1000 + index for index in range(60)]
    steady_beside, moving_beside = [500] * 60, [value / 2 for value in ramp]
    assert Flag.DRIFT in one(ramp, yardstick_ns=steady_beside).flags
    assert Flag.DRIFT not in one(ramp, yardstick_ns=moving_beside).flags
    assert Flag.DRIFT not in one([1000] * 60, yardstick_ns=moving_beside).flags  # the call's own time did not move


def test_drift_within_the_noise_is_none():
    # The last third is 4 % up, and the interval of the median over 2 % wide.
    noisy = [value * (1.04 if index >= 40 else 1) for index, value in enumerate(steady(60, 0.2))]
    assert Flag.DRIFT not in flags(noisy)


def test_steady_noise_is_seldom_called_drift():
    rng = np.random.default_rng(3)
    called = sum(Flag.DRIFT in flags(1000 * (1 + 0.1 * rng.standard_normal(60))) for _ in range(500))
    assert called <= 5


@pytest.mark.parametrize(("far", "raised"), [(3, False), (4, True)])
def test_outliers_are_more_than_a_twentieth(far, raised):
    values = steady(60)
    for index in range(far):
        values[7 + 13 * index] = 2000
    assert (Flag.OUTLIERS in flags(values)) == raised


@pytest.mark.fault("the machine's speed wanders between the visits of a trial", "its calls are not flagged for that")
def test_what_visits_differ_by_raises_no_flag():
    rng, turn = np.random.default_rng(1), np.repeat(np.arange(6), 20)
    speed = np.array([1.0, 1.0, 1.5, 1.6, 1.0, 2.0])[turn]
    call_ns = 1e6 * speed * (1 + 0.01 * rng.standard_normal(120))

    def found(times: np.ndarray, turn: np.ndarray | None) -> frozenset[Flag]:
        ones = np.ones(120, dtype=np.int64)
        return trial(ones, np.arange(120), times.astype(np.int64), ones == 0, ones == 1, np.full(120, np.nan), turn).flags

    assert found(call_ns, None) >= {Flag.BIMODAL, Flag.AUTOCORRELATED, Flag.VERY_NOISY}
    assert found(call_ns, turn) == frozenset()
    assert found(call_ns * np.where(np.arange(120) % 3, 1.0, 1.3), turn) == {Flag.VERY_NOISY}  # within each visit


def of_visits(call_ns, turn, contended=None):
    count = len(call_ns)
    hit, ones = np.zeros(count, dtype=bool) if contended is None else np.array(contended), np.ones(count, dtype=np.int64)
    return trial(ones, np.arange(count), np.array(call_ns), hit, ones == 1, np.full(count, np.nan), np.array(turn))


@pytest.mark.parametrize(("made", "raised"), [(2, True), (3, False)])
def test_few_samples_are_few_visits_where_there_are_visits(made, raised):
    found = of_visits([1000] * 10 * made, np.repeat(range(made), 10))
    assert (found.visits, Flag.FEW_SAMPLES in found.flags) == (made, raised)
    assert of_visits([1000] * 3, range(3)).flags == set()  # a sample per visit is enough


def test_contended_samples_of_visits_count_and_are_counted():
    found = of_visits([1000, 1000, 3000, 3000, 3000], range(5), [False, False, True, True, True])
    assert (found.median_ns, found.clean, found.contended, found.visits) == (3000, 2, 3, 5)
    assert found.flags == set()


def test_the_interval_within_a_trial_of_visits_is_that_of_the_visits_medians():
    # Of 6 values the least and the largest enclose the median with 95 %. By its samples it would be 10 to 40 % narrower.
    turn = np.repeat(range(6), 50)
    found = of_visits(np.array([1000, 1100, 1300, 1400, 1500, 1900])[turn], turn)
    assert found.median_ns == 1350
    assert found.interval == (1000, 1900)
    assert of_visits([1000] * 50, np.repeat(range(5), 10)).interval is None
    uneven = of_visits([10, 20, 30, 40, 50, 60, *[5000] * 9], [0, 1, 2, 3, 4, 5, *[6] * 9])
    assert uneven.median_ns == uneven.interval.high == 5000  # of most samples, if not of most visits


def test_outliers_below_count_too():
    values = steady(60)
    values[5::13] = [500] * 5
    assert Flag.OUTLIERS in flags(values)


def test_autocorrelation_is_between_neighbours():
    wave = [1000 + 10 * math.sin(index / 3) for index in range(120)]
    assert flags(wave) == {Flag.AUTOCORRELATED}
    assert flags([wave[index * 37 % 120] for index in range(120)]) == set()


def of_records(*records):
    return frames.samples_frame(records)


def test_latency_alone_gives_the_figure():
    both = samples(series([5, 6], kind=SeriesKind.DEVICE), series([10, 20], iterations=2))
    found = trials(of_records(record(samples=both), record([7], trial=1), record([9], of=cell(backend="jax"))))
    jax = str(cell(backend="jax"))
    assert {key: each.call_ns.tolist() for key, each in found.items()} == {
        KEY: [5, 10], (KEY[0], 1, KEY[2]): [7], (KEY[0], 0, jax): [9],
    }  # fmt: skip


def test_whether_contention_was_measured():
    assert not trials(of_records(record([10, 20])))[KEY].measured
    assert trials(of_records(record(samples=samples(series([10, 20], [0, 0])))))[KEY].measured


def test_the_order_of_the_rows_does_not_matter():
    frame = of_records(record(range(1000, 1060)), record(range(2000, 2030), trial=1))
    mixed = frame.sample(frac=1, random_state=5)
    for key, each in trials(frame).items():
        other = trials(mixed)[key]
        assert other.call_ns.tolist() == each.call_ns.tolist()
        assert other.flags == each.flags


def test_no_samples_no_trials():
    assert trials(of_records()) == {}
    assert trials(pd.concat([of_records(record([1]))]).head(0)) == {}


# Estimators ---------------------------------------------------------------------------------------------------------------


def test_without_a_yardstick_there_are_the_median_and_the_lower_quartile():
    found = one([10, 20, 30, 40, 50])
    assert found.estimates == {Estimator.LOWER_QUARTILE: 20, Estimator.MEDIAN: 30}
    assert found.median_ns == 30
    assert found.yardstick_ns.tolist() == []


def test_the_yardstick_corrects_sample_by_sample_or_quartile_by_quartile():
    # Ratios 10, 5, 15, 10, 10; quartiles 20 of the calls and 2 of the yardsticks.
    found = one([10, 20, 30, 40, 50], yardstick_ns=[1, 4, 2, 4, 5])
    assert found.estimates[Estimator.CORRECTED_MEDIAN] == 10
    assert found.estimates[Estimator.CORRECTED_LOWER_QUARTILE] == 10
    assert [each for each in found.estimates if each.corrected] == [
        Estimator.CORRECTED_MEDIAN, Estimator.CORRECTED_LOWER_QUARTILE,
    ]  # fmt: skip


def test_contended_samples_give_no_estimate():
    found = one([10, 900, 20, 30], [False, True, False, False], yardstick_ns=[1, 300, 1, 1])
    assert found.estimates == {
        Estimator.LOWER_QUARTILE: 15, Estimator.MEDIAN: 20,
        Estimator.CORRECTED_LOWER_QUARTILE: 15, Estimator.CORRECTED_MEDIAN: 20,
    }  # fmt: skip


def test_a_reading_that_samples_share_counts_once():
    assert one([1] * 6, yardstick_ns=[7, 7, 7, 9, 9, 7]).yardstick_ns.tolist() == [7, 9, 7]


def test_a_machine_twice_as_slow_moves_the_time_and_not_the_ratio():
    drawn = np.random.default_rng(2).lognormal(7, 0.05, 60)
    calm, loaded = one(drawn, yardstick_ns=np.full(60, 500.0)), one(2 * drawn, yardstick_ns=np.full(60, 1000.0))
    for each in Estimator:
        assert loaded.estimates[each] == pytest.approx(calm.estimates[each] * (1 if each.corrected else 2))


def test_the_other_series_give_a_median_of_their_own():
    many = series([400, 500, 900], [0, 0, 900], iterations=10, kind=SeriesKind.THROUGHPUT)
    both = samples(series([100]), many, series([30, 34], kind=SeriesKind.DEVICE))
    frame = of_records(record(samples=both), record([7], trial=1))
    assert medians(frame, SeriesKind.THROUGHPUT) == {KEY: 45}
    assert medians(frame, SeriesKind.DEVICE) == {KEY: 32}


# Two modes ----------------------------------------------------------------------------------------------------------------

UNIMODAL = {
    "normal": lambda rng, shape: 1 + 0.05 * rng.standard_normal(shape),
    "lognormal": lambda rng, shape: rng.lognormal(0, 0.3, shape),
    "uniform": lambda rng, shape: 1 + 0.5 * rng.random(shape),
    "exponential tail": lambda rng, shape: 1 + 0.1 * rng.exponential(size=shape),
    "long exponential tail": lambda rng, shape: 1 + rng.exponential(size=shape),
}


@pytest.mark.parametrize("count", [10, 30, 100, 300, 1000])
@pytest.mark.parametrize("shape", UNIMODAL)
def test_one_mode_is_seldom_called_two(shape, count):
    times = UNIMODAL[shape](np.random.default_rng(11), (1000, count))
    assert sum(map(bimodal, times)) <= 2


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize(("count", "spread"), [(30, 0.005), (100, 0.01), (1000, 0.015)])
def test_modes_a_tenth_apart_are_found(count, spread, share):
    rng = np.random.default_rng(12)
    for _ in range(50):
        slow = rng.permutation(count) < share * count
        assert Flag.BIMODAL in flags(1000 * np.where(slow, 1.1, 1.0) * rng.lognormal(0, spread, count))


def test_what_is_no_second_mode():
    assert not bimodal(np.array([1000.0] * 57 + [2000.0] * 3))  # 5 %: outliers
    assert not bimodal(np.array([1000.0] * 30 + [1030.0] * 30))  # the ticks of a clock, or 3 % that do not matter
    assert not bimodal(np.array([1000.0, 2000.0] * 2))
    assert not bimodal(np.array([0.0] * 30 + [10.0] * 30))  # a clock that does not see the calls
    assert bimodal(np.array([1000.0, 1060.0] * 30))
