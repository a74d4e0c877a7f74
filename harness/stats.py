"""Arrays in, numbers out: medians, spreads and intervals. Knows no benchmark and rounds nothing.

The child side uses this room too, so what it needs imports numpy only; the t-interval, which only the parent asks for,
imports scipy where its quantile is computed.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class Interval(NamedTuple):
    """Bounds of a two-sided interval, in the unit of its data."""

    low: float
    high: float


@functools.lru_cache(maxsize=2048)
def _median_ranks(n: int, confidence: float) -> tuple[int, int] | None:
    """0-based ranks of the order statistics that enclose the median of n values, None where n is too small."""
    # P(fewer than r of n fall under the median) = sum of binomials up to r - 1, over 2**n; integers, so that n = 1000 is exact.
    tail = (1 - confidence) / 2
    limit = int(tail * 2**53) * 2**n // 2**53
    cumulated, rank = 0, 0
    while True:
        cumulated += math.comb(n, rank)
        if cumulated > limit:
            break
        rank += 1
    return (rank - 1, n - rank) if rank >= 1 else None


def median_interval(values: ArrayLike, confidence: float = 0.95) -> Interval | None:
    """The order-statistic interval of the median; no assumption on the distribution beyond independence.

    None where there are too few values for the confidence (under 6 at 95 %). Source: David and Nagaraja, Order
    Statistics, 3rd ed., section 7.1.
    """
    ordered = np.sort(np.asarray(values, dtype=float))
    ranks = _median_ranks(len(ordered), confidence)
    return Interval(float(ordered[ranks[0]]), float(ordered[ranks[1]])) if ranks else None


@functools.cache
def t_quantile(probability: float, degrees_of_freedom: int) -> float:
    """The value that Student's t stays under with this probability."""
    from scipy.stats import t

    return float(t.ppf(probability, degrees_of_freedom))


def log_t_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """A t-interval of the mean of the logs, back on the scale of the values: for a handful of positive medians.

    Raises ValueError for fewer than two values.
    """
    if len(values) < 2:
        raise ValueError(f"a t-interval needs at least 2 values, got {len(values)}")
    logs = np.log(np.asarray(values, dtype=float))
    half = t_quantile((1 + confidence) / 2, len(logs) - 1) * float(logs.std(ddof=1)) / math.sqrt(len(logs))
    centre = float(logs.mean())
    return Interval(math.exp(centre - half), math.exp(centre + half))


def bootstrap_interval(values: ArrayLike, confidence: float = 0.95, resamples: int = 2000) -> Interval:
    """The percentile bootstrap interval of the geometric mean: values drawn again with replacement, by the same lots each time.

    It never leaves the range of the values, which a t-interval on their logs does where many of them are 1. Source: Efron and
    Tibshirani, An Introduction to the Bootstrap, chapter 13. Raises ValueError for no value.
    """
    logs = np.log(np.asarray(values, dtype=float))
    if not len(logs):
        raise ValueError("a bootstrap needs at least 1 value, got 0")
    lots = np.random.default_rng(0).integers(0, len(logs), (resamples, len(logs)))
    low, high = np.quantile(logs[lots].mean(axis=1), [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(math.exp(low), math.exp(high))


def mad(values: ArrayLike) -> float:
    """The median absolute deviation, unscaled; 1.4826 times it estimates a normal standard deviation."""
    array = np.asarray(values, dtype=float)
    return float(np.median(np.abs(array - np.median(array))))


def geometric_mean(values: ArrayLike) -> float:
    """The geometric mean of positive values."""
    return float(np.exp(np.mean(np.log(np.asarray(values, dtype=float)))))


def lag1_autocorrelation(values: ArrayLike) -> float:
    """The correlation of each value with the next, in -1 to 1; 0 for a constant series."""
    array = np.asarray(values, dtype=float)
    array = array - array.mean()
    power = float(array @ array)
    return float(array[:-1] @ array[1:]) / power if power > 0 else 0.0
