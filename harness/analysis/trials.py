"""The samples of one cell in one trial: which of them count, their median and interval, and the flags that they raise.

Where a trial is cut into visits, what the machine does between two of them is the turn's, and falls out of the ratios of paired
visits: no flag is raised for it. What single calls do within a visit hardly moves its median, and what processes differ by is
in the interval over them. So only samples that scatter widely within their visits are told, and trials of too few visits.

Arrays in, numbers out. How trials become the figure of a cell is `summary`'s business.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd

from harness import stats
from harness.analysis.visits import integers, stretches
from harness.flags import Flag
from harness.record import SeriesKind

# What raises each flag; the figures and where they come from stand in docs/method.md.
FEW_SAMPLES = 10
FEW_VISITS = 3  # one burst moves the median of fewer
NOISY = 0.10
VERY_NOISY = 0.25
DRIFT = 0.03
OUTLIER_IQRS = 3.0
OUTLIER_SHARE = 0.05
AUTOCORRELATION = 0.5
BIMODAL_SHARE = 0.10  # of the samples must lie on either side of the gap
BIMODAL_APART = 0.05  # in the log: nearer than this, a figure that could stand for either mode is good enough
# Ashman's D must exceed 4.2 + 150 / n: so do < 1 of 1000 normal, lognormal, uniform, exponential trials of n = 10 to 1000.
BIMODAL_D, BIMODAL_D_TIMES_N = 4.2, 150

Key = tuple[str, int, str]  # run_id, trial, cell


class Estimator(StrEnum):
    """What may stand for the time of a call in one trial. The corrected ones are in yardsticks, the others in ns."""

    MEDIAN = "median"
    LOWER_QUARTILE = "lower_quartile"
    CORRECTED_MEDIAN = "corrected_median"
    CORRECTED_LOWER_QUARTILE = "corrected_lower_quartile"

    @property
    def corrected(self) -> bool:
        """Whether it is a ratio to the yardstick."""
        return self is not self.raw

    @property
    def raw(self) -> "Estimator":
        """The time that a corrected one corrects; a raw one is its own."""
        return Estimator(self.removeprefix("corrected_"))


@dataclass(frozen=True)
class Trial:
    """The latency samples of one cell in one trial. `call_ns` are those that the figure is made from, as time per call.

    `clean` and `contended` count the samples; without a witness (`measured` is False) all of them pass for clean.
    `yardstick_ns` are the readings of the yardstick, each once, and none where none was timed; `estimates` holds what can be
    estimated then, `median_ns` among it. `visits` are those that the samples are of; 0: the trial was not cut into visits.
    """

    call_ns: np.ndarray
    iterations: int
    clean: int
    contended: int
    measured: bool
    median_ns: float
    interval: stats.Interval | None
    flags: frozenset[Flag]
    yardstick_ns: np.ndarray
    estimates: Mapping[Estimator, float]
    visits: int = 0


def trials(samples: pd.DataFrame, kind: SeriesKind = SeriesKind.LATENCY) -> dict[Key, Trial]:
    """The latency samples of a samples frame, or those of that kind, by run, trial and cell; an empty series has no entry."""
    arrays = [samples[name].to_numpy(dtype=np.int64) for name in ("iterations", "index", "block_ns")]
    witnessed = samples["run_delay_ns"].notna() & samples["others_ns"].notna()
    arrays += [samples["contended"].to_numpy(dtype=bool), witnessed.to_numpy(dtype=bool)]
    arrays.append(samples["yardstick_ns"].to_numpy(dtype=float, na_value=np.nan))
    arrays.append(integers(samples, "turn"))
    found = _rows(samples, kind)
    return {key: trial(*(array[rows] for array in arrays)) for key, rows in found.items()}


def medians(samples: pd.DataFrame, kind: SeriesKind) -> dict[Key, float]:
    """The median time of one call in ns of each series of that kind, over the samples that count, by run, trial and cell."""
    iterations, block_ns = (samples[name].to_numpy(dtype=np.int64) for name in ("iterations", "block_ns"))
    contended = samples["contended"].to_numpy(dtype=bool)
    return {
        key: float(np.median((block_ns[rows] / iterations[rows])[_used(contended[rows])]))
        for key, rows in _rows(samples, kind).items()
    }


def _used(contended: np.ndarray) -> np.ndarray:
    """Which samples count of a trial without visits: the clean ones, and all where none is; the engine has flagged that."""
    return np.ones(len(contended), dtype=bool) if contended.all() else ~contended


def _rows(samples: pd.DataFrame, kind: SeriesKind) -> dict[Key, np.ndarray | slice]:
    """The rows of each series of that kind; a frame in the store's order has one stretch of rows per series."""
    keys = ["run_id", "trial", "cell", "series"]
    starts = stretches(samples, keys)
    ends = np.append(starts, len(samples))[1:]
    of_series: dict[Key, list[slice]] = {}
    columns = [samples[name].iloc[starts].tolist() for name in keys]
    for run_id, trial_number, cell, series, start, end in zip(*columns, starts, ends, strict=True):
        if series == kind:
            of_series.setdefault((run_id, trial_number, cell), []).append(slice(start, end))
    return {key: found[0] if len(found) == 1 else np.r_[tuple(found)] for key, found in of_series.items()}


def trial(
    iterations: np.ndarray,
    index: np.ndarray,
    block_ns: np.ndarray,
    contended: np.ndarray,
    measured: np.ndarray,
    yardstick_ns: np.ndarray,
    turn: np.ndarray | None = None,
) -> Trial:
    """One trial from its samples, one entry of each array per sample; NaN stands for no yardstick, -1 for no turn.

    Where the trial was not cut into visits contended samples are left out, unless no others are left. The interval of the
    median is by order statistics, of the samples, or of the visits' medians where the trial was cut into visits: samples of one
    visit are alike. There it is widened to hold the median of all samples.
    """
    order = np.argsort(index, kind="stable")
    visited = turn is not None and not (turn < 0).any()
    used = order if visited else order[_used(contended[order])]
    call_ns, beside_ns = (block_ns / iterations)[used], yardstick_ns[used]
    clean = len(contended) - int(np.count_nonzero(contended))
    quartiles = np.quantile(call_ns, [0.25, 0.5, 0.75])
    estimates = {Estimator.LOWER_QUARTILE: float(quartiles[0]), Estimator.MEDIAN: float(quartiles[1])}
    relative = None
    turns = turn[used] if turn is not None and visited else None
    if (beside_ns > 0).all():  # false for NaN: a series has a yardstick beside every sample or beside none
        relative = call_ns / beside_ns
        estimates[Estimator.CORRECTED_MEDIAN] = float(np.median(relative))
        estimates[Estimator.CORRECTED_LOWER_QUARTILE] = float(quartiles[0] / np.quantile(beside_ns, 0.25))
    if turns is None:
        interval, flags, visits = stats.median_interval(call_ns), _flags(call_ns, relative, clean), 0
    else:
        medians, of = _visit_medians(call_ns, turns)
        interval, visits = _holding(stats.median_interval(medians), float(quartiles[1])), len(medians)
        flags = _flags_of_visits(call_ns, medians[of], visits)
    return Trial(
        call_ns=call_ns,
        iterations=int(iterations.max()),
        clean=clean,
        contended=len(contended) - clean,
        measured=bool(measured.any()),
        median_ns=float(quartiles[1]),
        interval=interval,
        flags=flags,
        yardstick_ns=_readings(yardstick_ns[order]),
        estimates=estimates,
        visits=visits,
    )


def _readings(yardstick_ns: np.ndarray) -> np.ndarray:
    """Each reading once: neighbouring samples share one, and how many do so says nothing of the machine."""
    known: np.ndarray = yardstick_ns[~np.isnan(yardstick_ns)]
    return known[np.insert(known[1:] != known[:-1], 0, True)] if len(known) else known


def _visit_medians(call_ns: np.ndarray, turn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The median of each visit, by turn, and the number of each sample's visit among them."""
    _, of, counts = np.unique(turn, return_inverse=True, return_counts=True)
    ordered, begins = call_ns[np.lexsort((call_ns, of))], np.cumsum(counts) - counts
    return (ordered[begins + (counts - 1) // 2] + ordered[begins + counts // 2]) / 2, of


def _holding(interval: stats.Interval | None, value: float) -> stats.Interval | None:
    """The interval, widened to hold a value."""
    return interval and stats.Interval(min(interval.low, value), max(interval.high, value))


def _flags_of_visits(call_ns: np.ndarray, median_ns: np.ndarray, visits: int) -> frozenset[Flag]:
    """What the times of the calls raise beside the medians of their visits, of which there are so many."""
    low, median, high = np.quantile(call_ns / np.where(median_ns > 0, median_ns, 1.0), [0.25, 0.5, 0.75])
    raised = {Flag.FEW_SAMPLES: visits < FEW_VISITS, Flag.VERY_NOISY: high - low > VERY_NOISY * median}
    return frozenset(flag for flag, is_raised in raised.items() if is_raised)


def _flags(call_ns: np.ndarray, relative: np.ndarray | None, clean: int) -> frozenset[Flag]:
    """What the times of the calls raise; `relative` are the same over the yardstick beside each, where one was timed."""
    low, median, high = np.quantile(call_ns, [0.25, 0.5, 0.75])
    spread = high - low
    far = np.count_nonzero((call_ns < low - OUTLIER_IQRS * spread) | (call_ns > high + OUTLIER_IQRS * spread))
    raised = {
        Flag.FEW_SAMPLES: clean < FEW_SAMPLES,
        Flag.BIMODAL: bimodal(call_ns),
        # A change of speed that the yardstick shows too is the machine's; the interval over trials knows what it does.
        Flag.DRIFT: _drifts(call_ns) and (relative is None or _drifts(relative)),
        Flag.NOISY: NOISY * median < spread <= VERY_NOISY * median,
        Flag.VERY_NOISY: spread > VERY_NOISY * median,
        Flag.OUTLIERS: far > OUTLIER_SHARE * len(call_ns),
        Flag.AUTOCORRELATED: stats.lag1_autocorrelation(call_ns) > AUTOCORRELATION,
    }
    return frozenset(flag for flag, is_raised in raised.items() if is_raised)


def _drifts(values: np.ndarray) -> bool:
    """Whether the last third's median differs from the first's by over 3 % and over twice the width of the interval.

    The whole width, not half of it: twice that is 3.2 standard errors of the difference, so about one of 1000 steady
    series is flagged; twice half of it would flag up to one in ten (simulated, 30 to 300 samples).
    """
    interval = stats.median_interval(values)
    if interval is None:
        return False
    third = len(values) // 3
    first, last = np.median([values[:third], values[-third:]], axis=1)
    moved = abs(last - first)
    return bool(moved > DRIFT * np.median(values) and moved > 2 * (interval.high - interval.low))


def bimodal(call_ns: np.ndarray) -> bool:
    """Whether the times fall into two separated groups: the best split of their sorted logs is too good for one mode.

    A split is as good as its Ashman's D, the distance of the two means over the root mean square of the two deviations
    (Ashman, Bird and Zepf 1994, The Astronomical Journal 108, equation 5). The best of many splits of one mode is good as
    well, the more so the fewer samples there are: hence a limit that falls with their number.
    """
    count = len(call_ns)
    least = max(3, math.ceil(count * BIMODAL_SHARE))
    if count < 2 * least or call_ns.min() <= 0:
        return False
    logs = np.log(np.sort(call_ns))
    logs -= logs.mean()
    below = np.arange(least, count - least + 1)
    above = count - below
    sums, squares = np.cumsum(logs)[below - 1], np.cumsum(logs * logs)
    low, high = sums / below, -sums / above  # the logs sum to 0
    apart = high - low
    spread = _variance(squares[below - 1], low, below) + _variance(squares[-1] - squares[below - 1], high, above)
    limit = BIMODAL_D + BIMODAL_D_TIMES_N / count
    return bool(np.any((apart > BIMODAL_APART) & (2 * apart * apart > limit * limit * spread)))


def _variance(squares: np.ndarray, mean: np.ndarray, count: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.maximum(squares - count * mean * mean, 0.0) / (count - 1)
    return found
