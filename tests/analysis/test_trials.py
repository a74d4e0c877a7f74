import math

import numpy as np
import pandas as pd
import pytest

from harness.analysis.trials import trial, trials
from harness.record import Flag, SeriesKind
from harness.store import frames
from tests.builders import cell, record, samples, series

KEY = ("20260301-023000-aaaa", 0, str(cell()))


def one(block_ns, contended=None, iterations=1):
    count = len(block_ns)
    hit = np.zeros(count, dtype=bool) if contended is None else np.array(contended)
    return trial(np.full(count, iterations), np.arange(count), np.array(block_ns), hit, np.ones(count, dtype=bool))


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
