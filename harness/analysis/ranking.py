"""Which cell of a comparison is the fastest, and which of the others are known to take longer or to be as good."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from harness import units
from harness.analysis.fastest import Groups, Level, Standing, standing
from harness.analysis.inference import Estimates, moderated
from harness.analysis.pairs import log_ratios, pools
from harness.analysis.visits import Turns, turns
from harness.axes import COMPETING, LABEL, NO_COMPETITOR, OPTIONS
from harness.columns import COLUMNS, RANK_COLUMNS, of_convolutions
from harness.record import Status

_ALL = (
    "run_id", "workload", "direction", "precision", "layout", "cache", "device", "threads", "optimizer", "backend", "mode",
    *OPTIONS,
)  # fmt: skip
_AUTOTUNED = r"(?:^|, )autotuned=(True|False)(?:,|$)"  # among the settings, as `backends.nvidia.autotuned` says it


def same_but(competing: Sequence[str]) -> list[str]:
    """The columns that have to be the same for two times to be compared, where cells compete that differ in these axes."""
    return [name for name in _ALL if name not in competing]


SAME = same_but(COMPETING)

UNRANKED = frozenset({"numpy"})  # the reference is there to be right, not fast
LEVEL = 0.05  # the probability of calling a cell slower in a group of equals


def rank(
    summary: pd.DataFrame,
    visited: pd.DataFrame | None = None,
    unranked: frozenset[str] = UNRANKED,
    level: Level | None = None,
    same: Sequence[str] = SAME,
) -> pd.DataFrame:
    """The summary with RANK_COLUMNS, each cell seen beside those that are alike in `same`, columns of which run_id is one.

    Not ranked are cells that are not ok, what is no convolution, the backends in `unranked`, and a cell that was measured a
    second time under another name, as a control or as the standard. Of the rest `fastest.standing` says how long they take
    beside the fastest, by the ratios of their pairs of processes in `visited`, the frame of `visits.visits`; where it is not
    given, by the medians, and then nothing is decided. Nor is anything beside a time that a flag bars or all of whose samples
    were set aside. `level` is LEVEL where it is not given; `race.Looks` has that of a run that was looked at after each trial.
    """
    ranked = competing(summary, unranked)
    cells = summary[ranked].reset_index(drop=True)
    by_run = {} if visited is None else turns(visited)
    found = _unranked(len(cells))
    for run_id, rows in cells.groupby("run_id", sort=False).indices.items():
        _rank_run(cells, competitors(cells, np.asarray(rows), same), by_run.get(str(run_id)), level, found)
    found["tuning_differs"] = _tuning_differs(cells, same)
    whole = _unranked(len(summary))
    for name in RANK_COLUMNS:
        whole[name][ranked] = found[name]
    return summary.assign(**whole)


def competing(summary: pd.DataFrame, unranked: frozenset[str] = UNRANKED) -> np.ndarray:
    """Which rows of a summary are ranked."""
    timed = (summary["status"] == str(Status.OK)) & summary["median_ns"].notna() & of_convolutions(summary)
    adapter, control = summary["backend"].str.split(LABEL).str[0], summary["backend"].str.contains(NO_COMPETITOR)
    found: np.ndarray = (timed & ~adapter.isin(unranked) & ~control).to_numpy(dtype=bool)
    return found


def autotuned(cells: pd.DataFrame) -> pd.Series:
    """Whether the kernels of each cell were chosen by trying them, `True` or `False`; missing where nothing says so."""
    return cells["settings"].str.extract(_AUTOTUNED, expand=False)


def _tuning_differs(cells: pd.DataFrame, same: Sequence[str]) -> np.ndarray:
    """Which cells are compared with some whose kernels were chosen in another way, each beside those alike in `same`."""
    kinds = autotuned(cells).groupby([cells[name] for name in same], sort=False, dropna=False).transform("nunique")
    return (kinds > 1).to_numpy(dtype=bool)


def _unranked(count: int) -> dict[str, np.ndarray]:
    """RANK_COLUMNS of so many cells of which nothing is known."""
    nothing = {"bool": False, "int64": 0, "float64": np.nan}
    return {name: np.full(count, nothing[COLUMNS[name].dtype]) for name in RANK_COLUMNS}


def _rank_run(
    cells: pd.DataFrame, members: list[np.ndarray], of_run: Turns | None, level: Level | None, found: dict[str, np.ndarray]
) -> None:
    """Fill in what is found of the groups of `competitors` of one run."""
    barred = ((cells["barred_by"] != "") | (cells["contended_share"].fillna(0.0) >= 1)).to_numpy(dtype=bool)
    sides = [np.triu_indices(of_size.shape[1], 1) for of_size in members]
    left, right = comparisons(members)
    estimates = _compared(cells, left, right, of_run)
    begin = 0
    for of_size, side in zip(members, sides, strict=True):
        end = begin + of_size.shape[0] * len(side[0])
        groups = Groups.of(estimates.part(slice(begin, end)), side, of_size.shape, level or _fixed)
        _fill(found, of_size, groups, standing(groups, barred[of_size]), barred[of_size])
        begin = end


def competitors(cells: pd.DataFrame, rows: np.ndarray, same: Sequence[str] = SAME) -> list[np.ndarray]:
    """The rows of each group of competitors, those of as many in one array (groups, competitors)."""
    by_size: dict[int, list[np.ndarray]] = {}
    for places in cells.iloc[rows].groupby(list(same), sort=False, dropna=False).indices.values():
        by_size.setdefault(len(places), []).append(rows[places])
    return [np.stack(groups) for groups in by_size.values()]


def comparisons(members: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The rows on either side of all comparisons within the groups of `competitors`, group by group."""
    found: list[np.ndarray] = []
    for side in (0, 1):
        pairs = [of_size[:, np.triu_indices(of_size.shape[1], 1)[side]].ravel() for of_size in members]
        found.append(np.concatenate([np.empty(0, dtype=np.int64), *pairs]))
    return found[0], found[1]


def _compared(cells: pd.DataFrame, left: np.ndarray, right: np.ndarray, of_run: Turns | None) -> Estimates:
    """What is known of the log-ratios of these rows; where nothing is, the ratio of their medians, from no pair at all."""
    median = np.maximum(cells["median_ns"].to_numpy(dtype=float), 1e-3)  # a clock too coarse reads 0
    apart = np.log(median[left]) - np.log(median[right])
    if of_run is None:
        missing = np.full(len(left), np.nan)
        return Estimates(apart, missing, np.zeros(len(left)), np.zeros(len(left), dtype=np.int64))
    places, backends = of_run.places(cells["cell"]), cells["backend"].to_numpy(dtype=str)
    estimates = moderated(log_ratios(of_run, places[left], places[right]), pools(backends[left], backends[right]))
    return replace(estimates, mean=np.where(np.isnan(estimates.mean), apart, estimates.mean))


def _fixed(pairs: np.ndarray) -> np.ndarray:
    return np.full(pairs.shape, LEVEL)


def _fill(found: dict[str, np.ndarray], rows: np.ndarray, groups: Groups, place: Standing, barred: np.ndarray) -> None:
    """Write where the cells of these groups stand to their rows, (groups, cells)."""
    each = np.arange(len(rows))
    is_fastest = np.arange(rows.shape[1]) == place.fastest[:, None]
    sure = ~barred[each, place.fastest][:, None]  # beside a fastest that a flag bars nothing is
    known = place.decided & sure
    beside = groups.pairs[each, :, place.fastest]
    found["competitors"][rows] = rows.shape[1] - 1
    # By one pair of processes no interval is known, and without a competitor there is nothing to be the fastest of.
    found["best"][rows] = is_fastest & sure & (beside > 1).any(axis=1, keepdims=True)
    found["tie"][rows] = place.equivalent & ~is_fastest & sure
    found["decided"][rows] = np.where(is_fastest, sure & (known | is_fastest).all(axis=1, keepdims=True), known)
    unknown = np.where(np.isinf(place.high) | (rows.shape[1] == 1), np.nan, 0.0)
    found["vs_best"][rows] = np.exp(place.shown)
    found["vs_best_low"][rows], found["vs_best_high"][rows] = np.exp(place.low + unknown), np.exp(place.high + unknown)
    found["vs_best_pairs"][rows] = beside


@dataclass(frozen=True)
class Sureness:
    """How well the comparisons with the fastest are known: how many there are, and how many of them are decided.

    `half` is half the width of their intervals, the median of those that have one, as a share: 0.07 for 7 %; None: none has.
    """

    comparisons: int
    decided: int
    half: float | None

    @property
    def words(self) -> str:
        """`comparisons known to ±7.0 % in the median, 31 of 49 decided`."""
        if self.half is None:
            return f"comparisons: {self.comparisons}, how well they are known takes 2 trials"
        how = "not known to a factor of 2 yet" if self.half > 1 else f"known to ±{units.percent(self.half)}"
        return f"comparisons {how} in the median, {self.decided} of {self.comparisons} decided"


def sureness(ranked: pd.DataFrame, same: Sequence[str] = SAME) -> Sureness:
    """How sure a run is, by its summary as `rank` gives it, for the same columns."""
    cells = ranked[ranked["vs_best"].notna()]
    groups = cells.groupby(list(same), sort=False, dropna=False).ngroups if len(cells) else 0
    compared = cells[cells["vs_best_pairs"] > 0]
    half = np.sqrt((compared["vs_best_high"] / compared["vs_best_low"]).to_numpy(dtype=float)) - 1
    known = half[~np.isnan(half)]
    decided = int(compared["decided"].sum())
    return Sureness(len(cells) - groups, decided, float(np.median(known)) if len(known) else None)


def unfinished(ranked: pd.DataFrame) -> pd.DataFrame:
    """The ranked summary of a run that has not ended: nothing is decided, since what is missing might be faster.

    The factors stay where every cell of a comparison was run, and are missing elsewhere.
    """
    waiting = (ranked["status"] == str(Status.NOT_RUN)).groupby([ranked[name] for name in SAME], sort=False).transform("any")
    factors = {name: ranked[name].mask(waiting) for name in ("vs_best", "vs_best_low", "vs_best_high")}
    return ranked.assign(best=False, tie=False, decided=False, **factors)
