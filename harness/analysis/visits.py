"""The visits of a run: samples to one figure per visit of a process to a cell, and these as a table of cells by turns.

A visit is a stay of a worker process at one prepared cell; in a turn every cell of a window is visited once. A sample that
names no turn is of a run whose trials were not cut into visits: there a trial is one turn, and each cell's stay in it a visit.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from harness.record import SeriesKind

# The columns that tell one visit from another, as `visits` has them.
VISIT = ["run_id", "trial", "cell", "process", "turn"]


def visits(samples: pd.DataFrame) -> pd.DataFrame:
    """One row per visit by its latency samples, in the order of the samples.

    VISIT, `place` (in the turn) and `visit` (of the cell in its trial), all integers but the two names; `samples` (how many
    count), and as time per call in ns `median_ns`, `decile_ns` (the lower decile) and `min_ns`. `turned` (bool): whether the
    samples name their turn. Of those that do not, contended ones do not count, unless a trial of a cell has no others.
    """
    starts = stretches(samples, ["run_id", "trial", "cell", "series", "process", "turn"])
    first = samples.iloc[starts]
    counts = np.diff(np.append(starts, len(samples)))
    latency = (first["series"] == str(SeriesKind.LATENCY)).to_numpy(dtype=bool)
    table = _keys(first[latency])
    number = table.groupby(VISIT, sort=False).ngroup().to_numpy()  # a visit whose samples lie apart is one all the same
    of = np.repeat(number, counts[latency])
    rows = np.repeat(latency, counts)
    call_ns = samples["block_ns"].to_numpy(dtype=np.int64)[rows] / samples["iterations"].to_numpy(dtype=np.int64)[rows]
    table = table.drop_duplicates(VISIT).reset_index(drop=True)
    counted = table["turned"].to_numpy(dtype=bool)[of] | _clean(table, of, samples["contended"].to_numpy(dtype=bool)[rows])
    return _described(table, of[counted], call_ns[counted])


def stretches(samples: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    """The first row of each stretch of rows that are alike in these columns.

    A frame has millions of rows and most of its keys are text; so only neighbours are compared. A frame in the store's order
    has one stretch per series and visit.
    """
    if samples.empty:
        return np.empty(0, dtype=np.int64)
    changed = np.ones(len(samples), dtype=bool)
    changed[1:] = False
    for name in names:
        values = samples[name].array
        unlike = values[1:] != values[:-1]
        if samples[name].dtype == "Int64":
            known = ~np.asarray(values.isna())
            unlike = np.where(known[1:] & known[:-1], unlike.to_numpy(dtype=bool, na_value=False), known[1:] != known[:-1])
        changed[1:] |= np.asarray(unlike, dtype=bool)
    return np.flatnonzero(changed)


def _keys(first: pd.DataFrame) -> pd.DataFrame:
    """What tells the visits apart, from the first sample of each; a trial without turns is one."""
    table = first[["run_id", "trial", "cell"]].reset_index(drop=True)
    known = {name: integers(first, name) for name in ("process", "turn", "place", "visit")}
    turned = known["turn"] >= 0
    table["process"], table["turn"] = known["process"], np.where(turned, known["turn"], table["trial"])
    return table.assign(place=known["place"], visit=np.maximum(known["visit"], 0), turned=turned)


def integers(frame: pd.DataFrame, name: str) -> np.ndarray:
    """A column of whole numbers that are at least 0, with -1 for what is missing."""
    found: np.ndarray = frame[name].to_numpy(dtype=np.int64, na_value=-1)
    return found


def _clean(table: pd.DataFrame, of: np.ndarray, contended: np.ndarray) -> np.ndarray:
    """Which samples count where trials were not cut into visits: the clean ones, and all of a trial of a cell without any."""
    trial = table.groupby(["run_id", "trial", "cell"], sort=False).ngroup().to_numpy()
    clean = np.bincount(trial[of], weights=~contended, minlength=trial.max(initial=-1) + 1)
    found: np.ndarray = ~contended | (clean[trial[of]] == 0)
    return found


def _described(table: pd.DataFrame, of: np.ndarray, call_ns: np.ndarray) -> pd.DataFrame:
    """The table with the number of samples, median, lower decile and least of each visit; those without a sample are gone."""
    counts = np.bincount(of, minlength=len(table))
    kept = counts > 0
    ordered = call_ns[np.lexsort((call_ns, of))]
    begins = (np.cumsum(counts) - counts)[kept]

    def quantile(share: float) -> np.ndarray:
        """By linear interpolation between the two nearest, as NumPy's."""
        place = share * (counts[kept] - 1)
        low = np.floor(place).astype(np.int64)
        high = np.minimum(low + 1, counts[kept] - 1)
        below, above = ordered[begins + low], ordered[begins + high]
        found: np.ndarray = below + (above - below) * (place - low)
        return found

    figures = {"median_ns": quantile(0.5), "decile_ns": quantile(0.1), "min_ns": ordered[begins]}
    return table[kept].reset_index(drop=True).assign(samples=counts[kept], **figures)


@dataclass(frozen=True)
class Turns:
    """The visits of one run: a row per cell, a column per turn, the logs of the visits' figures in ns.

    `log_ns` (cells, turns) is NaN where there was no visit; `process` (cells, turns) is the number of the process that made it.
    `trial` (turns,) is the trial of each turn, as its place in `trials`, the numbers of the trials in order. `turned` says
    whether the trials were cut into visits.
    """

    cells: tuple[str, ...]
    trials: tuple[int, ...]
    trial: np.ndarray
    log_ns: np.ndarray
    process: np.ndarray
    turned: bool

    def of_one_process(self) -> np.ndarray:
        """The logs, in each trial only of the process that made most visits to the cell: a worker may be started anew."""
        log_ns = np.empty_like(self.log_ns)
        for span in self.spans:
            here = self.log_ns[:, span]
            log_ns[:, span] = np.where(most_frequent(self.process[:, span], ~np.isnan(here)), here, np.nan)
        return log_ns

    def by_trial(self, log_ns: np.ndarray) -> np.ndarray:
        """The median of logs like those of the table over the visits of each trial, (cells, trials); NaN without any."""
        found = [median_of_rows(log_ns[:, span]) for span in self.spans]
        return np.stack(found, axis=1) if found else np.empty((len(self.cells), 0))

    def places(self, cells: Iterable[str]) -> np.ndarray:
        """The rows of these cells, -1 for one that has no visit."""
        known = {cell: row for row, cell in enumerate(self.cells)}
        return np.array([known.get(cell, -1) for cell in cells], dtype=np.int64)

    @cached_property
    def spans(self) -> list[np.ndarray]:
        """The columns of each trial."""
        return [np.flatnonzero(self.trial == place) for place in range(len(self.trials))]


def turns(visits: pd.DataFrame, figure: str = "median_ns") -> dict[str, Turns]:
    """The visits of each run as a table, by run id; `figure` is the column that stands for a visit."""
    return {str(run_id): _turns(of_run, figure) for run_id, of_run in visits.groupby("run_id", sort=False)}


def _turns(visits: pd.DataFrame, figure: str) -> Turns:
    cell, cells = pd.factorize(visits["cell"])
    turn, firsts, columns = np.unique(visits["turn"].to_numpy(dtype=np.int64), return_index=True, return_inverse=True)
    trials, trial = np.unique(visits["trial"].to_numpy(dtype=np.int64)[firsts], return_inverse=True)
    time_ns = visits[figure].to_numpy(dtype=float)
    log_ns, process = np.full((len(cells), len(turn)), np.nan), np.full((len(cells), len(turn)), -1, dtype=np.int64)
    log_ns[cell, columns] = np.log(time_ns, where=time_ns > 0, out=np.full(len(time_ns), np.nan))  # a clock too coarse reads 0
    process[cell, columns] = visits["process"].to_numpy(dtype=np.int64)
    turned = bool(visits["turned"].all())
    return Turns(tuple(map(str, cells)), tuple(map(int, trials)), trial, log_ns, process, turned)


def most_frequent(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Which entries of each row have its most frequent value among those counted, the smallest of equally frequent ones."""
    lowest = np.where(counted, values, np.iinfo(np.int64).max).min(axis=1, keepdims=True, initial=np.iinfo(np.int64).max)
    found: np.ndarray = counted & (values == lowest)
    for row in np.flatnonzero((counted & ~found).any(axis=1)):  # few: a worker was started anew
        kinds, counts = np.unique(values[row][counted[row]], return_counts=True)
        found[row] = counted[row] & (values[row] == kinds[counts.argmax()])
    return found


def median_of_rows(values: np.ndarray) -> np.ndarray:
    """The median of each row over what is not NaN; NaN for a row of nothing else."""
    counts = np.count_nonzero(~np.isnan(values), axis=1)
    if not values.shape[1]:
        return np.full(len(values), np.nan)
    ordered, rows = np.sort(values, axis=1), np.arange(len(values))  # NaN comes last
    middle = np.maximum(counts - 1, 0)
    found: np.ndarray = (ordered[rows, middle // 2] + ordered[rows, (middle + 1) // 2]) / 2
    return found
