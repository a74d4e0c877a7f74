"""What a handful of repeats can tell: variances that many comparisons share, critical values for the best of several, looks.

Arrays in, arrays out; everything is on the scale of logs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

# A variance beyond the first of these quantiles of what its pool would give keeps to itself; beyond the second it says nothing
# of the others either. So 4 to 6 of 100 equals are called different where the variances of a pool are alike, where they differ
# as lognormal ones do, and where one is of processes of two kinds (4 or 6 pairs, pools of 6 or 12; simulated).
HYPERVARIABLE, OF_ANOTHER_KIND = 0.95, 0.999
POOL = 3  # fewer comparisons than these have no pool: with two, which of them is the odd one cannot be told


@dataclass(frozen=True)
class Estimates:
    """For each comparison: the mean of its log-ratios, the standard error and its degrees of freedom, and how many there are.

    `mean` is NaN where there is none; `error` is NaN and `df` 0 under two.
    """

    mean: np.ndarray
    error: np.ndarray
    df: np.ndarray
    count: np.ndarray

    def half(self, level: float = 0.05) -> np.ndarray:
        """Half the widths of t-intervals of the means, each for itself, that miss with this probability; NaN for no error."""
        found: np.ndarray = all_pairs_quantile(np.array(level), np.array(2), self.df) * self.error
        return found

    def part(self, rows: slice) -> Self:
        """Those of some of the comparisons."""
        return type(self)(self.mean[rows], self.error[rows], self.df[rows], self.count[rows])


def moderated(values: np.ndarray, pools: np.ndarray) -> Estimates:
    """Means over the columns of `values` (comparisons, repeats), NaN for none, with variances that the members of a pool share.

    Each variance is drawn towards that of its pool, by how alike the variances of the pool are, and is never less than it
    (Smyth 2004, Statistical Applications in Genetics and Molecular Biology 3(1), article 3). What varies far more than its
    pool keeps its own variance (as in Phipson et al. 2016, Annals of Applied Statistics 10). The degrees of freedom are at most
    those of the pool, and comparisons that move together, since they share processes, have fewer than as many independent ones
    (Satterthwaite 1946, Biometrics Bulletin 2). A pool of fewer than POOL comparisons pools nothing; `pools` has a number from
    0 for each comparison.
    """
    known = ~np.isnan(values)
    count = np.count_nonzero(known, axis=1)
    freedom = np.maximum(count - 1, 0).astype(float)
    mean = np.where(known, values, 0.0).sum(axis=1) / np.where(count, count, np.nan)
    residuals = np.where(known, values - mean[:, None], 0.0)
    variance = (residuals**2).sum(axis=1) / np.where(freedom, freedom, np.nan)
    kinds, sizes = np.unique(np.where(freedom > 0, pools, -1), return_counts=True)
    members = [np.flatnonzero((pools == pool) & (freedom > 0)) for pool in kinds[(sizes >= POOL) & (kinds >= 0)]]
    together = _together([residuals[rows] for rows in members], [float(freedom[rows].mean()) for rows in members])
    for rows in members:
        variance[rows], freedom[rows] = _pooled(variance[rows], freedom[rows], together)
    return Estimates(mean, np.sqrt(variance / np.where(count, count, 1)), freedom, count)


def typical_variance(variance: np.ndarray, freedom: np.ndarray) -> float:
    """What most of these variances are estimates of: half of such estimates lie above it, each at its degrees of freedom."""
    from scipy.special import gammaincinv

    return float(np.median(variance * freedom / (2 * gammaincinv(freedom / 2, 0.5))))  # by the median of chi-square


def _pooled(variance: np.ndarray, freedom: np.ndarray, together: float) -> tuple[np.ndarray, np.ndarray]:
    """Variances and degrees of freedom of the members of one pool, of which any two have this square of their correlation.

    The mean of the variances of G that correlate by r varies as that of G / (1 + (G - 1) r^2) independent ones.
    """
    from scipy.special import fdtri

    floor = 1e-5 * float(np.median(variance))
    if not floor > 0:  # scripted times that never vary have no scale to share
        return variance, freedom
    variance = np.maximum(variance, floor)
    typical, rest = typical_variance(variance, freedom), freedom.sum() - freedom
    alone, foreign = (variance > typical * fdtri(freedom, rest, beyond) for beyond in (HYPERVARIABLE, OF_ANOTHER_KIND))
    if np.count_nonzero(~foreign) < POOL:
        return variance, freedom
    shared, prior = _prior(variance[~foreign], freedom[~foreign])
    weight = min(prior, 1e6)
    drawn = np.maximum((weight * shared + freedom * variance) / (weight + freedom), shared)
    most = freedom * len(variance) / (1 + (len(variance) - 1) * together)
    return np.where(alone, variance, drawn), np.where(alone, freedom, np.maximum(np.minimum(freedom + weight, most), freedom))


def _prior(variance: np.ndarray, freedom: np.ndarray) -> tuple[float, float]:
    """The variance that a pool shares, and the degrees of freedom that it is worth: Smyth 2004, section 6.2, by moments."""
    from scipy.special import digamma, polygamma

    logs = np.log(variance) - digamma(freedom / 2) + np.log(freedom / 2)
    spread, by_chance = float(logs.var(ddof=1)), float(np.mean(polygamma(1, freedom / 2)))
    # They are taken for as unlike as they look, and by a standard error of that more: few may look alike by chance.
    excess = max(spread - by_chance, 0.0) + max(spread, by_chance) * np.sqrt(2 / (len(logs) - 1))
    half = 0.5 + 1 / excess  # Newton's iteration for the inverse of the trigamma function, from above: Smyth 2004, appendix
    for _ in range(8):
        trigamma = float(polygamma(1, half))
        half += trigamma * (1 - trigamma / excess) / float(polygamma(2, half))
    if spread <= by_chance:
        return float((freedom * variance).sum() / freedom.sum()), 2 * half
    return float(np.exp(logs.mean() + digamma(half) - np.log(half))), 2 * half


def _together(residuals: Sequence[np.ndarray], freedom: Sequence[float]) -> float:
    """The mean square of the correlations within pools, by the residuals of each, less what chance makes of it: 0 to 1.

    It is one for all pools, since a handful of repeats says too little of one of them.
    """
    squares = counts = 0.0
    for rows, repeats in zip(residuals, freedom, strict=True):
        norms = np.sqrt((rows**2).sum(axis=1, keepdims=True))
        unit = rows / np.where(norms > 0, norms, 1.0)
        pairs = len(rows) * (len(rows) - 1)
        squares += ((unit.T @ unit) ** 2).sum() - len(rows) - pairs / repeats
        counts += pairs * (1 - 1 / repeats)
    return float(np.clip(squares / counts, 0.0, 1.0)) if counts > 0 else 1.0


def two_kinds(values: np.ndarray, apart: float = 0.10) -> np.ndarray:
    """Which rows of logs fall into two groups, of at least two each, with a gap between them: (rows,) of bool; NaN for none.

    The gap is over `apart`, and over 1 + 12 / n times as wide as the wider group of n values in all. So do 0.2 % of four normal
    values that vary by 4 %, 3 % of four that vary by 10 %, and at most 1 % of six or more; of processes that are 1 or 1.8 times
    as slow by even chance it finds 35 % of four, 76 % of six and 93 % of eight (simulated).
    """
    ordered, count = np.sort(values, axis=1), np.count_nonzero(~np.isnan(values), axis=1)
    rows, found = np.arange(len(values)), np.zeros(len(values), dtype=bool)
    last = ordered[rows, np.maximum(count - 1, 0)] if values.shape[1] else np.empty(len(values))
    for low in range(2, values.shape[1] - 1):
        gap = ordered[:, low] - ordered[:, low - 1]
        within = np.maximum(ordered[:, low - 1] - ordered[:, 0], last - ordered[:, low])
        found |= (count >= low + 2) & (gap > apart) & (gap > (1 + 12 / np.maximum(count, 1)) * within)
    return found


# Critical values --------------------------------------------------------------------------------------------------------------


def all_pairs_quantile(level: np.ndarray, members: np.ndarray, df: np.ndarray) -> np.ndarray:
    """How many standard errors any of the differences among so many equals exceeds with at most that probability.

    Two-sided, by Student's t with the degrees of freedom of each difference and Sidak's inequality for all of them (Tamhane
    1979, Journal of the American Statistical Association 74), which holds for unequal variances. The arrays are broadcast;
    infinite for one member, and without degrees of freedom.
    """
    from scipy.special import stdtrit

    differences = members * (members - 1) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        each = -np.expm1(np.log1p(-level) / differences)
        found = -stdtrit(df, each / 2)
    return np.where((differences > 0) & (df > 0), found, np.inf)
