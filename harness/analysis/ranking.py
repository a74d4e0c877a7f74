"""Which cell of a comparison has the lowest time, and which of the others are known to take longer."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from harness import stats
from harness.analysis.trials import Key
from harness.columns import of_convolutions
from harness.record import AA, Status

# What has to be the same for two times to be compared; what is left, backend and mode, competes.
SAME = ["run_id", "workload", "direction", "precision", "layout", "cache", "device", "threads", "optimizer"]

UNRANKED = frozenset({"numpy"})  # the reference is there to be right, not fast


def rank(
    summary: pd.DataFrame, medians_ns: Mapping[Key, float] | None = None, unranked: frozenset[str] = UNRANKED
) -> pd.DataFrame:
    """The summary with RANK_COLUMNS, each cell seen beside those that share its SAME.

    `vs_best` (float64): time over the lowest; missing for what is not ranked, which is every cell that is not ok, what is no
    convolution, the backends in `unranked`, and a cell that was measured a second time under another name as a control.
    `best` (bool): the lowest, where nothing bars a verdict on it. `tie` (bool): another that cannot be told from it. `decided`
    (bool): it is known to take longer than the best; of the best itself, that all others are.

    Two cells are told apart by the ratios of their medians, paired by trial: their 95 % t-interval on the logs leaves out 1. So
    nothing is decided of a run of one trial, nor beside a time that a flag bars or all of whose samples were set aside.
    `medians_ns` are those of `trials.medians`; without them nothing is decided at all.
    """
    timed = (summary["status"] == str(Status.OK)) & summary["median_ns"].notna() & of_convolutions(summary)
    adapter, control = summary["backend"].str.split("@").str[0], summary["backend"].str.endswith(f"@{AA}")
    ranked = (timed & ~adapter.isin(unranked) & ~control).to_numpy(dtype=bool)
    cells = summary[ranked].reset_index(drop=True)
    lowest = cells.groupby(SAME, sort=False)["median_ns"].transform("idxmin").to_numpy(dtype=np.int64)
    barred = ((cells["barred_by"] != "") | (cells["contended_share"].fillna(0.0) >= 1)).to_numpy(dtype=bool)
    ratios = _ratios(cells, lowest, medians_ns or {})
    apart = np.zeros(len(cells), dtype=bool)
    alike = np.zeros(len(cells), dtype=bool)
    for place, of_trials in enumerate(ratios):
        if len(of_trials) > 1 and not barred[place] and not barred[lowest[place]]:
            low, high = stats.log_t_interval(of_trials)
            apart[place], alike[place] = not low <= 1 <= high, low <= 1 <= high
    places = np.arange(len(cells))
    is_lowest = lowest == places
    in_doubt = np.isin(places, lowest[~is_lowest & ~apart])
    decided = np.where(is_lowest, ~in_doubt & ~barred, apart)

    found = {name: np.zeros(len(summary), dtype=bool) for name in ("best", "tie", "decided")}
    vs_best = np.full(len(summary), np.nan)
    found["best"][ranked], found["tie"][ranked], found["decided"][ranked] = is_lowest & ~barred, alike & ~is_lowest, decided
    median = cells["median_ns"].to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):  # a clock too coarse reads 0
        vs_best[ranked] = median / median[lowest]
    return summary.assign(**found, vs_best=vs_best)


def _ratios(cells: pd.DataFrame, lowest: np.ndarray, medians_ns: Mapping[Key, float]) -> list[list[float]]:
    """For each cell its time over that of the lowest of its group, in each trial that has both."""
    by_cell: dict[tuple[str, str], dict[int, float]] = {}
    for (run_id, trial, cell), median in medians_ns.items():
        if median > 0:
            by_cell.setdefault((run_id, cell), {})[trial] = median
    keys = list(zip(cells["run_id"], cells["cell"], strict=True))
    found = []
    for key, place in zip(keys, lowest, strict=True):
        own, best = by_cell.get(key, {}), by_cell.get(keys[place], {})
        found.append([own[trial] / best[trial] for trial in sorted(own.keys() & best.keys())] if key != keys[place] else [])
    return found


def unfinished(ranked: pd.DataFrame) -> pd.DataFrame:
    """The ranked summary of a run that has not ended: nothing is decided, since what is missing might be faster.

    `vs_best` stays where every cell of a comparison was run, and is missing elsewhere.
    """
    waiting = (ranked["status"] == str(Status.NOT_RUN)).groupby([ranked[name] for name in SAME], sort=False).transform("any")
    return ranked.assign(best=False, tie=False, decided=False, vs_best=ranked["vs_best"].mask(waiting))
