import math

import numpy as np
import pytest
from scipy.stats import studentized_range, t

from harness.analysis.inference import all_pairs_quantile, moderated, two_kinds

ONE_POOL = np.zeros(12, dtype=int)


def halves(values: np.ndarray, pools: np.ndarray) -> np.ndarray:
    """Half the widths of 95 % intervals."""
    found = moderated(values, pools)
    return t.isf(0.025, found.df) * found.error


def misses(draw, runs: int = 600) -> np.ndarray:
    """How often the 95 % interval of each comparison of a pool misses 0, where `draw` gives the log-ratios of a run."""
    missed = []
    for _ in range(runs):
        values = draw()
        missed.append(np.abs(values.mean(axis=1)) > halves(values, np.zeros(len(values), dtype=int)))
    return np.mean(missed, axis=0)


def test_without_a_pool_it_is_student_s_t():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(2, 5))
    found = moderated(values, np.zeros(2, dtype=int))
    assert found.mean == pytest.approx(values.mean(axis=1))
    assert found.error == pytest.approx(values.std(axis=1, ddof=1) / math.sqrt(5))
    assert found.df.tolist() == [4, 4]
    assert found.count.tolist() == [5, 5]


def test_missing_repeats_are_left_out():
    found = moderated(np.array([[0.1, np.nan, 0.3], [np.nan, 0.2, np.nan], [np.nan] * 3]), np.arange(3))
    assert found.mean == pytest.approx([0.2, 0.2, np.nan], nan_ok=True)
    assert found.error == pytest.approx([0.1, np.nan, np.nan], nan_ok=True)
    assert found.count.tolist() == [2, 1, 0]
    assert found.df.tolist() == [1, 0, 0]


def test_equal_variances_are_shared_and_never_less_than_the_pool_s():
    rng = np.random.default_rng(2)
    values = 0.02 * rng.normal(size=(12, 4))
    alone, shared = moderated(values, np.arange(12)), moderated(values, ONE_POOL)
    assert np.median(shared.df) > 6
    assert np.median(halves(values, ONE_POOL) / halves(values, np.arange(12))) < 0.85
    pooled = np.sqrt((values.var(axis=1, ddof=1)).mean() / 4)
    assert shared.error.min() > 0.8 * pooled
    assert alone.error.min() < 0.6 * pooled


def test_unlike_variances_are_drawn_towards_each_other_and_the_least_to_the_pool_s():
    values = np.exp(np.linspace(-1.5, 1.5, 12))[:, None] * np.array([-1, -0.5, 0.5, 1])
    alone, shared = moderated(values, np.arange(12)), moderated(values, ONE_POOL)
    assert (np.diff(alone.error) > 0).all()
    assert np.ptp(shared.error[:4]) == pytest.approx(0)
    assert (np.diff(shared.error[4:]) > 0).all()
    assert (shared.error[:4] > alone.error[:4]).all()
    assert (shared.error[4:8] < alone.error[4:8]).all()
    assert shared.error[8:] == pytest.approx(alone.error[8:])  # they keep to themselves


@pytest.mark.fault("a process is slow in all that it does", "comparisons that share it are not taken for independent ones")
def test_one_correlation_holds_for_all_pools():
    rng = np.random.default_rng(9)
    pools = np.repeat(np.arange(6), 10)
    values = 0.02 * rng.normal(size=(6, 4)).repeat(10, axis=0) + 0.01 * rng.normal(size=(60, 4))
    shared, apart = moderated(values, pools).df, moderated(rng.permuted(values, axis=1), pools).df
    assert np.median(shared) < 6
    assert np.median(apart) > 1.5 * np.median(shared)


def test_what_is_of_another_kind_does_not_widen_the_others():
    rng = np.random.default_rng(8)
    quiet = 0.02 * rng.normal(size=(8, 4))
    loud = quiet.copy()
    loud[0] = [0.6, 0.0, -0.6, 0.6]
    of_one = np.zeros(8, dtype=int)
    assert np.median(halves(loud, of_one)[1:] / halves(quiet, of_one)[1:]) < 1.1


def test_pools_do_not_mix():
    rng = np.random.default_rng(3)
    values = rng.normal(size=(12, 4)) * np.repeat([0.01, 1.0], 6)[:, None]
    found = moderated(values, np.repeat([0, 1], 6))
    assert found.error[:6].max() < 0.02
    assert found.error[6:].min() > 0.2


def test_intervals_cover_as_often_as_they_say():
    rng = np.random.default_rng(4)
    assert misses(lambda: rng.normal(size=(8, 4))).mean() == pytest.approx(0.05, abs=0.015)
    assert misses(lambda: rng.normal(size=(8, 4)) * np.exp(0.5 * rng.normal(size=(8, 1)))).mean() < 0.07


def test_comparisons_that_move_together_are_not_taken_for_independent_ones():
    rng = np.random.default_rng(5)
    assert misses(lambda: 0.6 * rng.normal(size=(8, 4)) + 0.8 * rng.normal(size=(1, 4))).mean() < 0.07
    values = 0.02 * rng.normal(size=(1, 4)) + 0.001 * rng.normal(size=(8, 4))
    assert moderated(values, np.zeros(8, dtype=int)).df.max() < 5


@pytest.mark.fault(
    "one call is of two speeds, by process, and the rest are not", "it does not borrow the others' small variance"
)
def test_what_varies_far_more_than_its_pool_stands_on_its_own():
    rng = np.random.default_rng(6)

    def draw() -> np.ndarray:
        values = 0.03 * rng.normal(size=(8, 4))
        values[0] += math.log(1.8) * (rng.integers(0, 2, 4) - rng.integers(0, 2, 4))
        return values

    missed = misses(draw, 2000)
    assert missed[0] < 0.025
    assert missed[1:].mean() < 0.065


def test_times_that_never_vary_are_no_error():
    found = moderated(np.zeros((5, 4)), np.zeros(5, dtype=int))
    assert found.error.tolist() == [0] * 5
    assert moderated(np.tile([0.0, 0.0, 0.0, 1e-9], (5, 1)), np.zeros(5, dtype=int)).error.max() < 1e-8


def test_two_kinds_have_a_gap_between_them_and_two_members_each():
    logs = np.log(np.array([
        [1.0, 1.02, 1.8, 1.83, 1.01], [1.0, 1.02, 0.99, 1.8, 1.01], [1.0, 1.2, 1.4, 1.6, 1.8], [1.0, 1.01, 1.05, 1.06, 1.0],
    ]))  # fmt: skip
    assert two_kinds(logs).tolist() == [True, False, False, False]
    assert two_kinds(np.hstack([logs, np.full((4, 2), np.nan)])).tolist() == [True, False, False, False]
    assert two_kinds(logs[:, :3]).tolist() == [False] * 4
    rng = np.random.default_rng(7)
    assert two_kinds(0.04 * rng.normal(size=(5000, 4))).mean() < 0.005
    assert two_kinds(0.10 * rng.normal(size=(5000, 8))).mean() < 0.01
    speeds = np.log(1.8) * rng.integers(0, 2, (5000, 8)) + 0.04 * rng.normal(size=(5000, 8))
    assert two_kinds(speeds).mean() > 0.9


@pytest.mark.parametrize("df", [3.0, 8.5, 40.0])
def test_the_critical_value_of_two_is_student_s_and_of_more_at_least_tukey_s(df: float):
    two = float(all_pairs_quantile(np.array(0.05), np.array(2), np.array(df)))
    assert two == pytest.approx(t.isf(0.025, df))
    six = float(all_pairs_quantile(np.array(0.05), np.array(6), np.array(df)))
    tukey = studentized_range.isf(0.05, 6, df) / math.sqrt(2)
    assert tukey < six < 1.55 * tukey


def test_without_degrees_of_freedom_nothing_is_critical():
    found = all_pairs_quantile(np.array([0.05, 0.05]), np.array([2, 1]), np.array([0.0, 5.0]))
    assert np.isinf(found).all()
