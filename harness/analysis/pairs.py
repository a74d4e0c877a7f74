"""Two cells of a run compared visit by visit: the log-ratio of each pair of processes, and what these say together.

Visits to two cells in the same turn are neighbours in time, so the machine's wander falls out of their ratio. The unit that
repeats is the pair of processes, one of either cell in a trial (a process, where both cells are of one): more visits narrow the
ratio of a pair, while processes differ from each other, and so the interval is over pairs.
"""

from collections.abc import Iterator

import numpy as np

from harness.analysis.visits import Turns, median_of_rows, most_frequent


def log_ratios(turns: Turns, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The logs of the time of `left` over that of `right` by pairs of processes, (comparisons, trials).

    `left` and `right` are rows of `turns`, -1 for a cell that it lacks. Of a pair it is the median over the turns that have
    both: a burst that hits one of two neighbours spoils a visit, not the median. NaN where no turn of the trial has both. Where
    a worker was started anew, the pair of processes with the most turns stands for the trial: no two pairs share a process.
    """
    found = [median_of_rows(visits) for visits in paired_visits(turns, left, right)]
    return np.stack(found, axis=1) if found else np.empty((len(left), 0))


def paired_visits(turns: Turns, left: np.ndarray, right: np.ndarray) -> Iterator[np.ndarray]:
    """The same before the medians are taken: trial by trial the logs of all paired visits, (comparisons, turns)."""
    absent = (left < 0) | (right < 0)
    for span in turns.spans:
        log_ns, process = turns.log_ns[:, span], turns.process[:, span]
        ratios = log_ns[left] - log_ns[right]
        ratios[absent] = np.nan
        of_one = most_frequent(process[left] * (process.max(initial=0) + 2) + process[right], ~np.isnan(ratios))
        yield np.where(of_one, ratios, np.nan)


def pools(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """A number for each comparison of two backends by their names, equal where the same two are compared."""
    if not len(left):
        return np.empty(0, dtype=np.int64)
    either = np.sort(np.stack([left, right]), axis=0)
    _, found = np.unique(either, axis=1, return_inverse=True)
    return np.asarray(found).ravel()
