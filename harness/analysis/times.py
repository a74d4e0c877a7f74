"""The time of a call, visit by visit, with the common part of each turn taken out: a slow minute is the turn's, not the cell's.

The model is additive on the logs: a visit is the cell's time, what its process makes of it, and what the machine made of all
cells in that turn. It is fitted by medians taken in turns over cells and turns (Tukey 1977, Exploratory Data Analysis, chapter
11: median polish), so that no burst moves it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pandas as pd

from harness import stats
from harness.analysis.inference import moderated, two_kinds
from harness.analysis.rows import typed
from harness.analysis.visits import Turns, median_of_rows, turns
from harness.columns import TIME_COLUMNS

ROUNDS, SETTLED = 30, 1e-5
FEW = 3  # the median of three does not follow one of them


def times(visited: pd.DataFrame, backends: Mapping[str, str], figure: str = "median_ns") -> pd.DataFrame:
    """One row per run and cell of the frame of `visits.visits`: how long a call takes, by all its visits.

    TIME_COLUMNS: the time is the geometric mean over its processes of their figures, with a t-interval whose variance is
    shared by the cells of a backend. With the method `turns` the common part of the turns was taken out: the figure of a
    process is the median of its visits less what each turn was slower than the usual one, and the interval holds within this
    run, whose minutes another hour need not be like. With `raw` it is the median of the visits as they are, because no turn
    had a common part that could be told: see `common_parts`; so it is in a run whose trials were not cut into visits.
    `backends` names the backend of each cell, `figure` the column that stands for a visit.
    """
    frames = [_of_run(run_id, table, backends) for run_id, table in turns(visited, figure).items()]
    return typed(pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(TIME_COLUMNS)))


def _of_run(run_id: str, table: Turns, backends: Mapping[str, str]) -> pd.DataFrame:
    _, backend = np.unique([backends[cell] for cell in table.cells], return_inverse=True)
    log_ns = table.of_one_process()
    common = common_parts(log_ns, backend) if table.turned else Common.none(log_ns.shape[1])
    figures = table.by_trial(log_ns - common.part)
    found = moderated(figures, backend)
    known = ~np.isnan(log_ns) & common.known
    level = np.where(known, common.error, 0.0).max(axis=1, initial=0.0)
    half = replace(found, error=np.hypot(found.error, level)).half()
    return pd.DataFrame({
        "run_id": run_id, "cell": list(table.cells), "time_ns": np.exp(found.mean), "time_low_ns": np.exp(found.mean - half),
        "time_high_ns": np.exp(found.mean + half), "processes": found.count, "process_range": _range(np.exp(figures)),
        "two_kinds": two_kinds(figures),
        "time_method": np.where(known.any(axis=1), "turns", "raw"),
    })  # fmt: skip


def _range(figures: np.ndarray) -> np.ndarray:
    """The range of each row over its median, (rows,); NaN stands for none, and for the range of fewer than two."""
    known = ~np.isnan(figures)
    highest = np.where(known, figures, -np.inf).max(axis=1, initial=-np.inf)
    lowest = np.where(known, figures, np.inf).min(axis=1, initial=np.inf)
    several = np.count_nonzero(known, axis=1) > 1
    found: np.ndarray = np.where(several, highest - lowest, np.nan) / median_of_rows(figures)
    return found


@dataclass(frozen=True)
class Common:
    """Of each turn: how much slower it was for all its cells, as a log, whether that is known, and the error of its level.

    All three are (turns,). Where it is not known it is 0; the level is what turns share that are only known against each other.
    """

    part: np.ndarray
    known: np.ndarray
    error: np.ndarray

    @classmethod
    def none(cls, turns: int) -> Self:
        """Of so many turns of which nothing is known."""
        return cls(np.zeros(turns), np.zeros(turns, dtype=bool), np.zeros(turns))


def common_parts(log_ns: np.ndarray, backend: np.ndarray) -> Common:
    """How much slower each turn was, by the logs of visits (cells, turns), NaN for none, and each cell's backend as a number.

    A turn's part is the median over backends of the median over the backend's cells of what is beyond the cell's own level,
    which is the median over its turns without that part: so it does not move when cells leave. It is known where three backends
    were in the turn, or two with three cells each; of fewer, one call whose processes are of two speeds would make it.

    The parts of turns that share cells are only known against each other. Their level is set so that taking them out moves
    the medians of the cells that were in most turns up as often as down.
    """
    visited = ~np.isnan(log_ns)
    cells = np.stack([visited[backend == each].sum(axis=0) for each in np.unique(backend)])
    known = ((cells > 0).sum(axis=0) >= FEW) | ((cells >= FEW).sum(axis=0) >= 2)
    level, part = median_of_rows(log_ns), np.zeros(log_ns.shape[1])
    for _ in range(ROUNDS if known.any() else 0):
        beyond = (log_ns - level[:, None]).T
        of_backends = [median_of_rows(beyond[:, backend == each]) for each in np.unique(backend)]
        part = np.where(known, median_of_rows(np.stack(of_backends, axis=1)), 0.0)
        before, level = level, median_of_rows(log_ns - part)
        if np.ptp(level - before) < SETTLED:
            break
    error = np.zeros(len(part))
    for columns in connected(visited & known):
        most = np.where(visited[:, columns].any(axis=1), visited.sum(axis=1), 0)
        cells_of = most == most.max()
        moves = (median_of_rows(log_ns) - median_of_rows(log_ns - part))[cells_of]
        part[columns] -= np.median(moves)
        # The standard error of the median of so many, from their median deviation: 1.4826 for normal ones, times sqrt(pi / 2).
        error[columns] = 1.4826 * np.sqrt(np.pi / 2) * stats.mad(moves) / np.sqrt(len(moves))
    return Common(part, known, error)


def connected(visited: np.ndarray) -> list[np.ndarray]:
    """The columns of each part of a table (cells, turns) that no cell connects with another: the windows of a run."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows, columns = np.nonzero(visited)
    size = sum(visited.shape)
    edges = coo_array((np.ones(len(rows)), (rows, visited.shape[0] + columns)), shape=(size, size))
    _, part = connected_components(edges, directed=False)
    of_turns = np.where(visited.any(axis=0), part[visited.shape[0] :], -1)
    return [np.flatnonzero(of_turns == each) for each in np.unique(of_turns) if each >= 0]
