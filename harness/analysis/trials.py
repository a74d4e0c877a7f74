"""The samples of one cell in one trial: which of them count, their median and interval, and the flags that they raise.

Arrays in, numbers out. How trials become the figure of a cell is `summary`'s business.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness import stats
from harness.record import Flag, SeriesKind

# What raises each flag; the figures and where they come from stand in docs/method.md.
FEW_SAMPLES = 10
NOISY = 0.10
VERY_NOISY = 0.25
DRIFT = 0.03
OUTLIER_IQRS = 3.0
OUTLIER_SHARE = 0.05
AUTOCORRELATION = 0.5

Key = tuple[str, int, str]  # run_id, trial, cell


@dataclass(frozen=True)
class Trial:
    """The latency samples of one cell in one trial. `call_ns` are those that the figure is made from, as time per call.

    `clean` and `contended` count the samples; without a witness (`measured` is False) all of them pass for clean.
    """

    call_ns: np.ndarray
    iterations: int
    clean: int
    contended: int
    measured: bool
    median_ns: float
    interval: stats.Interval | None
    flags: frozenset[Flag]


def trials(samples: pd.DataFrame) -> dict[Key, Trial]:
    """The latency samples of a samples frame by run, trial and cell; an empty series has no entry."""
    arrays = [samples[name].to_numpy(dtype=np.int64) for name in ("iterations", "index", "block_ns")]
    arrays += [samples["contended"].to_numpy(dtype=bool), samples["run_delay_ns"].notna().to_numpy(dtype=bool)]
    return {key: trial(*(array[rows] for array in arrays)) for key, rows in _latency_rows(samples).items()}


def _latency_rows(samples: pd.DataFrame) -> dict[Key, np.ndarray | slice]:
    """The rows of each latency series.

    A frame has millions of rows and its keys are text; so only neighbours are compared, and only the first row of each
    stretch of equal keys is looked at. A frame in the store's order has one stretch per series.
    """
    keys = ["run_id", "trial", "cell", "series"]
    if samples.empty:
        return {}
    changed = np.ones(len(samples), dtype=bool)
    changed[1:] = False
    for name in keys:
        values = samples[name].array
        changed[1:] |= np.asarray(values[1:] != values[:-1], dtype=bool)
    starts = np.flatnonzero(changed)
    ends = np.append(starts[1:], len(samples))
    stretches: dict[Key, list[slice]] = {}
    columns = [samples[name].iloc[starts].tolist() for name in keys]
    for run_id, trial_number, cell, series, start, end in zip(*columns, starts, ends, strict=True):
        if series == SeriesKind.LATENCY:
            stretches.setdefault((run_id, trial_number, cell), []).append(slice(start, end))
    return {key: found[0] if len(found) == 1 else np.r_[tuple(found)] for key, found in stretches.items()}


def trial(
    iterations: np.ndarray, index: np.ndarray, block_ns: np.ndarray, contended: np.ndarray, measured: np.ndarray
) -> Trial:
    """One trial from its samples, one entry of each array per sample.

    Contended samples are left out; where no other is left all of them count, and the flag that the engine has raised
    for that says so.
    """
    order = np.argsort(index, kind="stable")
    call_ns = (block_ns / iterations)[order]
    clean = call_ns[~contended[order]]
    used = clean if len(clean) else call_ns
    quartiles = np.quantile(used, [0.25, 0.5, 0.75])
    interval = stats.median_interval(used)
    return Trial(
        call_ns=used,
        iterations=int(iterations.max()),
        clean=len(clean),
        contended=len(call_ns) - len(clean),
        measured=bool(measured.any()),
        median_ns=float(quartiles[1]),
        interval=interval,
        flags=_flags(used, len(clean), quartiles, interval),
    )


def _flags(call_ns: np.ndarray, clean: int, quartiles: np.ndarray, interval: stats.Interval | None) -> frozenset[Flag]:
    low, median, high = quartiles
    spread = high - low
    far = np.count_nonzero((call_ns < low - OUTLIER_IQRS * spread) | (call_ns > high + OUTLIER_IQRS * spread))
    raised = {
        Flag.FEW_SAMPLES: clean < FEW_SAMPLES,
        Flag.DRIFT: _drifts(call_ns, median, interval),
        Flag.NOISY: NOISY * median < spread <= VERY_NOISY * median,
        Flag.VERY_NOISY: spread > VERY_NOISY * median,
        Flag.OUTLIERS: far > OUTLIER_SHARE * len(call_ns),
        Flag.AUTOCORRELATED: stats.lag1_autocorrelation(call_ns) > AUTOCORRELATION,
    }
    return frozenset(flag for flag, is_raised in raised.items() if is_raised)


def _drifts(call_ns: np.ndarray, median: float, interval: stats.Interval | None) -> bool:
    """Whether the last third's median differs from the first's by over 3 % and over twice the width of the interval.

    The whole width, not half of it: twice that is 3.2 standard errors of the difference, so about one of 1000 steady
    series is flagged; twice half of it would flag up to one in ten (simulated, 30 to 300 samples).
    """
    if interval is None:
        return False
    third = len(call_ns) // 3
    first, last = np.median([call_ns[:third], call_ns[-third:]], axis=1)
    moved = abs(last - first)
    return bool(moved > DRIFT * median and moved > 2 * (interval.high - interval.low))
