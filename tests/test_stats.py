import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, gmean, median_abs_deviation, t

from harness import stats

POSITIVE = st.lists(st.floats(1e-3, 1e9), min_size=2, max_size=30)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99])
def test_the_median_interval_is_the_narrowest_pair_of_ranks_that_the_binomial_allows(confidence: float):
    tail = (1 - confidence) / 2
    for n in (*range(1, 130), 500, 1000, 1023):
        interval = stats.median_interval(np.arange(n)[::-1], confidence)
        if interval is None:
            assert binom.cdf(0, n, 0.5) > tail
            continue
        low, high = map(int, interval)
        assert low + high == n - 1
        # Rank r, counted from 1, misses the median where fewer than r values are below it.
        assert binom.cdf(low, n, 0.5) <= tail * (1 + 1e-9)
        assert binom.cdf(low + 1, n, 0.5) > tail * (1 - 1e-9)


@pytest.mark.parametrize(("confidence", "enough"), [(0.95, 6), (0.99, 8), (0.5, 2)])
def test_too_few_values_have_no_median_interval(confidence: float, enough: int):
    assert stats.median_interval(range(enough - 1), confidence) is None
    assert stats.median_interval(range(enough), confidence) == (0, enough - 1)
    assert stats.median_interval([], confidence) is None


def test_the_median_interval_covers_the_median_as_often_as_it_says():
    rng = np.random.default_rng(1)
    trials = rng.exponential(size=(2000, 25))
    hits = [low <= math.log(2) <= high for low, high in map(stats.median_interval, trials)]
    assert 0.94 <= np.mean(hits) <= 0.97  # the ranks of 25 cover 95.7 %


@pytest.mark.parametrize("confidence", [0.9, 0.95])
@given(values=POSITIVE)
def test_the_t_interval_of_the_logs_is_scipy_s(confidence: float, values: list[float]):
    logs = np.log(values)
    spread = logs.std(ddof=1) / math.sqrt(len(logs))
    low, high = stats.log_t_interval(values, confidence)
    if spread == 0:
        assert (low, high) == (pytest.approx(values[0]), pytest.approx(values[0]))
    else:
        expected = t.interval(confidence, len(logs) - 1, loc=logs.mean(), scale=spread)
        assert (math.log(low), math.log(high)) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_a_t_interval_needs_two_values():
    with pytest.raises(ValueError, match="at least 2 values, got 1"):
        stats.log_t_interval([1.0])


@given(POSITIVE)
def test_mad_and_means_are_scipy_s(values: list[float]):
    assert stats.mad(values) == pytest.approx(median_abs_deviation(values))
    assert stats.geometric_mean(values) == pytest.approx(gmean(values))


def test_neighbours_that_follow_each_other_are_correlated():
    assert stats.lag1_autocorrelation([1, -1] * 50) == pytest.approx(-0.99)
    assert stats.lag1_autocorrelation(np.sin(np.arange(1000) / 50)) > 0.99
    # By hand: deviations -1, 0, 1; products of neighbours sum to 0.
    assert stats.lag1_autocorrelation([1, 2, 3]) == 0
    # Deviations -1.5, -0.5, 0.5, 1.5; products 0.75 - 0.25 + 0.75 over 5.
    assert stats.lag1_autocorrelation([1, 2, 3, 4]) == pytest.approx(0.25)


def test_a_constant_series_has_no_correlation():
    assert stats.lag1_autocorrelation([7.0] * 10) == 0.0
