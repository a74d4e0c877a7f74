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
    frames = [_of_run(run_id, one, backends) for run_id, one in figures(visited, backends, figure).items()]
    return typed(pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(TIME_COLUMNS)))


def _of_run(run_id: str, of_run: "Figures", backends: Mapping[str, str]) -> pd.DataFrame:
    found = moderated(of_run.log_ns, _numbers(of_run.cells, backends))
    turned = of_run.part >= 0
    level = np.append(of_run.error, 0.0)[of_run.part]  # 0 for the part -1
    half = replace(found, error=np.hypot(found.error, level)).half()
    return pd.DataFrame({
        "run_id": run_id, "cell": list(of_run.cells), "time_ns": np.exp(found.mean), "time_low_ns": np.exp(found.mean - half),
        "time_high_ns": np.exp(found.mean + half), "processes": found.count,
        "process_range": _range(np.exp(of_run.log_ns)), "two_kinds": two_kinds(of_run.log_ns),
        "time_method": np.where(turned, "turns", "raw"),
    })  # fmt: skip


@dataclass(frozen=True)
class Figures:
    """What the processes of one run say: `log_ns` (cells, trials) is the log of the figure of each, in ns; NaN for none.

    `part` (cells,) is the part of the run whose turns are known against each other, and from whose turns the common part was
    taken out; -1 where none was. `error` (parts,) is the standard error of the level that the cells of a part share, as a log.
    """

    cells: tuple[str, ...]
    log_ns: np.ndarray
    part: np.ndarray
    error: np.ndarray


def figures(visited: pd.DataFrame, backends: Mapping[str, str], figure: str = "median_ns") -> dict[str, Figures]:
    """The figures of the processes of each run, by run id; the arguments are those of `times`."""
    return {run_id: _figures(table, backends) for run_id, table in turns(visited, figure).items()}


def _figures(table: Turns, backends: Mapping[str, str]) -> Figures:
    log_ns = table.of_one_process()
    common = common_parts(log_ns, _numbers(table.cells, backends)) if table.turned else Common.none(log_ns.shape[1])
    of_turns = np.where(~np.isnan(log_ns), common.connected, -1)
    return Figures(table.cells, table.by_trial(log_ns - common.part), of_turns.max(axis=1, initial=-1), common.error)


def _numbers(cells: tuple[str, ...], backends: Mapping[str, str]) -> np.ndarray:
    """The backend of each cell as a number from 0."""
    found: np.ndarray = np.unique([backends[cell] for cell in cells], return_inverse=True)[1]
    return found


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
    """Of each turn: how much slower it was for all its cells, as a log, and with which other turns that is known.

    `part` and `connected` are (turns,): turns with the same number share cells, directly or by others, so that their parts are
    known against each other; -1 and 0 where nothing is known. `error` (numbers,) is the standard error of the level of each.
    """

    part: np.ndarray
    connected: np.ndarray
    error: np.ndarray

    @classmethod
    def none(cls, turns: int) -> Self:
        """Of so many turns of which nothing is known."""
        return cls(np.zeros(turns), np.full(turns, -1), np.zeros(0))


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
    of_turns, error = np.full(len(part), -1), []
    for number, columns in enumerate(connected(visited & known)):
        most = np.where(visited[:, columns].any(axis=1), visited.sum(axis=1), 0)
        cells_of = most == most.max()
        moves = (median_of_rows(log_ns) - median_of_rows(log_ns - part))[cells_of]
        part[columns] -= np.median(moves)
        # The standard error of the median of so many, from their median deviation: 1.4826 for normal ones, times sqrt(pi / 2).
        error.append(1.4826 * np.sqrt(np.pi / 2) * stats.mad(moves) / np.sqrt(len(moves)))
        of_turns[columns] = number
    return Common(part, of_turns, np.array(error))


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
