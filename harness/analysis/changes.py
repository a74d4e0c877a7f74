"""Where a series of nights changes its level, and whether it creeps: change points by L1-Potts, drift by Theil-Sen.

Arrays in, numbers out, for many series at once; one series per row, one night per column.
"""

import numpy as np

NIGHTS = 90  # looked back for change points
LEAST = 0.03  # a smaller step is not named
YOUNG = 2  # nights that a level must have lasted, so that one night that is off is no level of its own
DRIFT_NIGHTS = 60
DRIFT_SURE = 2.5758293035489  # the normal quantile of 99.5 %: a 99 % interval that leaves out 0


def change_points(values: np.ndarray) -> list[tuple[int, ...]]:
    """For each row of [C, N] the columns at which a new level begins, in order; NaN are nights without a value.

    The levels are those of the L1-Potts functional: piecewise constant with the least sum of absolute deviations of the logs
    plus a penalty per step, among those whose levels last YOUNG nights or more. It is minimised exactly. Steps of less than
    LEAST between the medians are not named: the levels that they part are joined, the smallest step first. Source: Storath,
    Weinmann, Unser, Jump-penalized least absolute values estimation, 2017.
    """
    logs = np.log(values)
    known = ~np.isnan(logs)
    found: list[tuple[int, ...]] = [()] * len(logs)
    counts = known.sum(axis=1)
    for count in np.unique(counts[counts >= 2 * YOUNG]):
        rows = np.flatnonzero(counts == count)
        columns = np.nonzero(known[rows])[1].reshape(len(rows), count)
        series = np.take_along_axis(logs[rows], columns, axis=1)
        for row, where, steps, levels in zip(rows, columns, potts(series, penalty(series)), series, strict=True):
            found[row] = tuple(int(where[step]) for step in _worth_naming(levels, steps))
    return found


def penalty(series: np.ndarray) -> np.ndarray:
    """What a step costs in each row: the noise between neighbouring nights times the log of their number, as BIC has it.

    The noise is a normal standard deviation by the median of the absolute differences, which a few steps do not move; at
    least a tenth of LEAST, so that a series without noise does not fall to pieces.
    """
    noise = 1.4826 * np.median(np.abs(np.diff(series, axis=1)), axis=1) / np.sqrt(2)
    cost: np.ndarray = np.maximum(noise, LEAST / 10) * np.log(series.shape[1])
    return cost


def potts(series: np.ndarray, penalties: np.ndarray, least: int = YOUNG) -> list[tuple[int, ...]]:
    """Where the best piecewise constant of each row of [C, N] begins anew, without its first piece; no NaN, N >= least.

    Exact, by dynamic programming over where the last piece begins: O(N^2) pieces, each with the L1 distance to its median.
    """
    rows, count = series.shape
    cost = _deviations(series, least)
    best = np.full((rows, count + 1), np.inf)
    best[:, 0] = -penalties  # the first piece is no step
    begin = np.zeros((rows, count + 1), dtype=np.int64)
    for end in range(least, count + 1):
        totals = best[:, : end - least + 1] + cost[:, : end - least + 1, end] + penalties[:, None]
        begin[:, end] = totals.argmin(axis=1)
        best[:, end] = totals.min(axis=1)
    found = []
    for row in range(rows):
        end, steps = count, []
        while (end := int(begin[row, end])) > 0:
            steps.append(end)
        found.append(tuple(reversed(steps)))
    return found


def _deviations(series: np.ndarray, least: int) -> np.ndarray:
    """The sum of absolute deviations from its median of every piece [begin, end) of each row: [C, N + 1, N + 1]."""
    rows, count = series.shape
    cost = np.full((rows, count + 1, count + 1), np.inf)
    for length in range(least, count + 1):
        pieces = np.sort(np.lib.stride_tricks.sliding_window_view(series, length, axis=1), axis=2)
        half = length // 2  # the upper half less the lower half: the median itself cancels out
        sums = pieces[:, :, length - half :].sum(axis=2) - pieces[:, :, :half].sum(axis=2)
        begins = np.arange(count - length + 1)
        cost[:, begins, begins + length] = sums
    return cost


def _worth_naming(series: np.ndarray, steps: tuple[int, ...]) -> tuple[int, ...]:
    """The steps of at least LEAST between the medians of the pieces on both sides, joined from the smallest step on."""
    kept = list(steps)
    while kept:
        pieces = np.split(series, kept)
        sizes = np.abs(np.diff([np.median(piece) for piece in pieces]))
        smallest = int(sizes.argmin())
        if sizes[smallest] >= np.log1p(LEAST):
            break
        del kept[smallest]
    return tuple(kept)


def step(values: np.ndarray, points: tuple[int, ...], point: int) -> float:
    """How far the level moves at one of the change points of a series, as the log of the ratio of the medians beside it."""
    bounds = [0, *points, len(values)]
    at = bounds.index(point)
    before, after = (np.log(values[bounds[each] : bounds[each + 1]]) for each in (at - 1, at))
    return float(np.nanmedian(after) - np.nanmedian(before))


def drift(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far each row of [C, N] crept from its first to its last column, as a share, and whether that is sure.

    The slope is Theil's and Sen's, the median of the slopes of all pairs of the logs; sure is a slope whose 99 % interval by
    Kendall's statistic leaves out 0. NaN and not sure where fewer than half of the columns have a value. Source: Sen, Estimates
    of the regression coefficient based on Kendall's tau, 1968.
    """
    rows, nights = values.shape
    crept, sure = np.full(rows, np.nan), np.zeros(rows, dtype=bool)
    enough = np.flatnonzero((~np.isnan(values)).sum(axis=1) * 2 >= max(nights, 4))
    early, late = np.triu_indices(nights, 1)
    for part in np.array_split(enough, max(1, len(enough) // 200)):  # 1,770 slopes per row: a few rows at a time
        if not len(part):
            continue
        logs = np.log(values[part])
        slopes = np.sort((logs[:, late] - logs[:, early]) / (late - early), axis=1)  # NaN come last
        pairs = (~np.isnan(slopes)).sum(axis=1)
        count = (~np.isnan(logs)).sum(axis=1)
        middle = (_at(slopes, (pairs - 1) // 2) + _at(slopes, pairs // 2)) / 2
        crept[part] = np.expm1(middle * (nights - 1))
        half = DRIFT_SURE * np.sqrt(count * (count - 1) * (2 * count + 5) / 18)
        low = _at(slopes, np.clip(np.floor((pairs - half) / 2).astype(int), 0, pairs - 1))
        high = _at(slopes, np.clip(np.ceil((pairs + half) / 2).astype(int), 0, pairs - 1))
        sure[part] = (low > 0) | (high < 0)
    return crept, sure


def _at(ordered: np.ndarray, places: np.ndarray) -> np.ndarray:
    return np.take_along_axis(ordered, places[:, None], axis=1)[:, 0]
