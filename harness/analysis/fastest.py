"""The best of several: how much longer each takes than the fastest, with intervals that hold for all of them at once.

The fastest is picked from the very data that the others are then held against, so an interval for one comparison alone would
find a slower one among equals far too often: in 3 of 10 groups of six. Here the intervals are those of all differences at once.
From them follows the distance of each to the best, whichever that is: it lies between the largest of its lower ends, or 0, and
the largest of its upper ends (Hsu 1996, Multiple Comparisons: Theory and Methods, chapters 4 and 5).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np

from harness.analysis.inference import Estimates, all_pairs_quantile
from harness.outcome import ENOUGH_PAIRS, EQUIVALENT

SELECTION = 1.5  # standard errors: see `Standing.shown`

Level = Callable[[np.ndarray], np.ndarray]  # numbers of pairs of processes to the probability of calling equals different


@dataclass(frozen=True)
class Groups:
    """Groups of equally many cells, compared with each other: arrays of (groups, cells, cells), of the left over the right.

    `log_ratio`, its standard error `error`, NaN where it is not known, and degrees of freedom `df`; `pairs`, how many pairs of
    processes stand behind it; `level`, the probability of calling a cell of a group of equals slower.
    """

    log_ratio: np.ndarray
    error: np.ndarray
    df: np.ndarray
    pairs: np.ndarray
    level: np.ndarray

    @classmethod
    def of(cls, estimates: Estimates, sides: tuple[np.ndarray, np.ndarray], shape: tuple[int, ...], level: Level) -> Self:
        """From the estimates of all pairs of cells, group by group, in the order of `sides`; `shape` is (groups, cells)."""

        def square(values: np.ndarray, sign: int = 1) -> np.ndarray:
            found = np.zeros((*shape, shape[1]), dtype=values.dtype)
            found[:, sides[0], sides[1]] = values.reshape(shape[0], -1)
            found[:, sides[1], sides[0]] = sign * values.reshape(shape[0], -1)
            return found

        pairs = square(estimates.count)
        return cls(square(estimates.mean, -1), square(estimates.error), square(estimates.df), pairs, level(pairs))


@dataclass(frozen=True)
class Standing:
    """Where each cell stands in its group: arrays of (groups, cells), of which the numbers are logs.

    `fastest` (groups,) is the place of the cell with the least time. `over` is a cell's time over that cell's, `low` and `high`
    the interval of its time over the fastest, whichever that is: at least 0, `high` infinite where nothing is known. `slower`:
    known to take longer; `equivalent`: known to be within EQUIVALENT of the fastest.

    `shown` is `over` for what is slower. Of the others some lie above the least by luck alone, since it was picked as the least
    of them: theirs are drawn to 0, from d standard errors to d - SELECTION^2 / d and no further (Breiman 1995, Technometrics
    37: the garrote). The mean factor to the fastest of six equals is 1.006 so, and 1.026 without (4 pairs, each process 4 %).
    """

    fastest: np.ndarray
    over: np.ndarray
    shown: np.ndarray
    low: np.ndarray
    high: np.ndarray
    slower: np.ndarray
    equivalent: np.ndarray

    @property
    def decided(self) -> np.ndarray:
        """Whether nothing is left to be learnt of a cell: of the fastest itself, of any."""
        known: np.ndarray = self.slower | self.equivalent
        return known


def standing(groups: Groups, barred: np.ndarray | None = None) -> Standing:
    """How each cell stands to the fastest of its group.

    First all are held against each other; those that are surely slower than another leave, and the rest, fewer, is looked at
    again. `barred` cells (groups, cells) are neither slower nor faster than any, however far apart they are, and never leave.
    """
    count, size = groups.log_ratio.shape[:2]
    barred = np.zeros((count, size), dtype=bool) if barred is None else barred
    enough = (groups.pairs >= ENOUGH_PAIRS) & ~barred[:, :, None] & ~barred[:, None, :]
    log_ratio = groups.log_ratio
    half = np.full(groups.log_ratio.shape, np.inf)
    left = np.ones((count, size), dtype=bool)
    low, slower = np.zeros((count, size)), np.zeros((count, size), dtype=bool)
    waiting = np.arange(count) if size > 1 else np.arange(0)
    while len(waiting):
        here = left[waiting]
        half[waiting] = np.where(here[:, :, None], _halves(groups, waiting, here.sum(axis=1)), half[waiting])
        lows = np.where(here[:, None, :], log_ratio[waiting] - half[waiting], 0.0)
        low[waiting] = np.where(here, np.maximum(lows.max(axis=2), 0.0), low[waiting])
        leaves = here & (enough[waiting] & (lows > 0)).any(axis=2)
        slower[waiting] |= leaves
        left[waiting] = here & ~leaves
        waiting = waiting[leaves.any(axis=1) & (left[waiting].sum(axis=1) > 1)]
    others = left[:, None, :] & ~np.eye(size, dtype=bool)
    high = np.where(others, log_ratio + half, 0.0).max(axis=2)
    fastest, over, error = _over_fastest(groups, left)
    known = (enough | ~others).all(axis=2)
    equivalent = known & (high <= np.log(EQUIVALENT)) & ~barred
    drawn = over - SELECTION**2 * error**2 / np.where(over > 0, over, 1.0)
    shown = np.where(slower | barred | np.isnan(error), over, np.maximum(drawn, 0.0))
    return Standing(fastest, over, shown, np.minimum(low, over), np.maximum(high, over), slower, equivalent)


def _halves(groups: Groups, which: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Half the widths of the intervals of all differences at once in these groups, in which so many cells are left."""
    critical = all_pairs_quantile(groups.level[which], sizes[:, None, None], groups.df[which])
    half = np.full(critical.shape, np.inf)
    np.multiply(critical, groups.error[which], out=half, where=np.isfinite(critical))
    return half


def _over_fastest(groups: Groups, left: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The cell of each group with the least time, by the mean of its ratios to all that may be; all over it, and the errors."""
    means = np.where(left[:, None, :], groups.log_ratio, 0.0).sum(axis=2)
    fastest = np.where(left, means, np.inf).argmin(axis=1)
    each = np.arange(len(fastest))
    return fastest, np.maximum(groups.log_ratio[each, :, fastest], 0.0), groups.error[each, :, fastest]
