"""Change points against a search through all of them, and drift against scipy."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import theilslopes

from harness.analysis import changes
from harness.analysis.changes import change_points, drift, potts


def all_partitions(count, least):
    """Every way to cut `count` nights into pieces of at least `least`."""
    for number in range(count // least):
        for cuts in itertools.combinations(range(1, count), number):
            if all(end - begin >= least for begin, end in itertools.pairwise((0, *cuts, count))):
                yield cuts


def functional(series, cuts, penalty):
    return penalty * len(cuts) + sum(np.abs(piece - np.median(piece)).sum() for piece in np.split(series, cuts))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 20), min_size=4, max_size=9), st.floats(0.1, 20), st.integers(1, 3))
def test_no_partition_is_better(values, penalty, least):
    series = np.array(values, dtype=float)
    (found,) = potts(series[None], np.array([penalty]), least)
    best = min(functional(series, cuts, penalty) for cuts in all_partitions(len(series), least))
    assert functional(series, found, penalty) == pytest.approx(best)


def test_series_are_independent_of_each_other():
    rng = np.random.default_rng(0)
    many = rng.normal(0, 1, (5, 30)).cumsum(axis=1)
    penalties = np.array([0.5, 1, 2, 4, 8.0])
    alone = [potts(series[None], penalties[[row]])[0] for row, series in enumerate(many)]
    assert potts(many, penalties) == alone
    assert len(set(map(len, alone))) > 1


def levels(*pieces, noise=0.008, seed=0):
    """Pieces of (nights, level) with normal noise."""
    values = np.concatenate([np.full(nights, float(level)) for nights, level in pieces])
    return (values * np.exp(np.random.default_rng(seed).normal(0, noise, len(values))))[None]


def test_steps_are_dated():
    assert change_points(levels((40, 1), (50, 1.08))) == [(40,)]
    assert change_points(levels((30, 1), (20, 1.1), (40, 0.95))) == [(30, 50)]
    assert change_points(levels((60, 1), (2, 1.08))) == [(60,)]


def test_what_is_small_or_young_is_not_named():
    assert change_points(levels((90, 1))) == [()]
    assert change_points(levels((45, 1), (45, 1.02), noise=0.002)) == [()]
    assert change_points(levels((60, 1), (1, 1.3))) == [()]
    one_off = levels((90, 1))
    one_off[0, 50] = 1.3
    assert change_points(one_off) == [()]


def test_nights_without_a_value_are_skipped():
    values = levels((40, 1), (50, 1.08))
    values[0, [3, 39, 60]] = np.nan
    assert change_points(values) == [(40,)]
    values[0, 40] = np.nan
    assert change_points(np.vstack([values, levels((40, 1), (50, 1.08))])) == [(41,), (40,)]
    assert change_points(np.full((1, 90), np.nan)) == [()]


def test_noise_alone_is_rarely_a_step():
    rng = np.random.default_rng(1)
    quiet = np.exp(rng.normal(0, 0.008, (500, 90)))
    assert sum(map(bool, change_points(quiet))) <= 5


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(-0.1, 0.1), st.integers(0, 20))
def test_drift_is_the_slope_of_theil_and_sen(seed, slope, missing):
    rng = np.random.default_rng(seed)
    logs = slope * np.linspace(0, 1, 60) + rng.normal(0, 0.01, 60)
    logs[rng.choice(60, missing, replace=False)] = np.nan
    crept, sure = drift(np.exp(logs)[None])
    at = np.flatnonzero(~np.isnan(logs))
    found, _, low, high = theilslopes(logs[at], at, alpha=0.99)
    assert np.log1p(crept[0]) == pytest.approx(59 * found)
    if low * high > 1e-9 or low * high < -1e-9:  # at the border one rank more or less decides
        assert sure[0] == (low > 0 or high < 0) or min(abs(low), abs(high)) < 2e-5


def test_too_few_nights_tell_no_drift():
    values = np.exp(np.linspace(0, 0.1, 60))[None].copy()
    values[0, ::2] = np.nan
    assert drift(values)[0][0] == pytest.approx(np.expm1(0.1))
    values[0, 1] = np.nan
    crept, sure = drift(values)
    assert (np.isnan(crept[0]), sure[0]) == (True, False)


def test_noise_is_no_drift():
    rng = np.random.default_rng(2)
    crept, sure = drift(np.exp(rng.normal(0, 0.02, (1000, 60))))
    assert sure.mean() < 0.02
    assert np.abs(crept).max() < 0.1


def test_the_step_at_a_change_point():
    values = np.array([1.0, 1, 1, 2, 2, np.nan, 1, 1])
    assert changes.step(values, (3, 6), 3) == pytest.approx(np.log(2))
    assert changes.step(values, (3, 6), 6) == pytest.approx(-np.log(2))
