"""Which cell of a comparison is the fastest, and which are too close to it to be called slower."""

import numpy as np
import pandas as pd

from harness.record import Status
from harness.spec import Direction

# What has to be the same for two times to be compared; what is left, backend and mode, competes.
SAME = ["run_id", "workload", "direction", "precision", "layout", "cache", "device", "threads", "optimizer"]

UNRANKED = frozenset({"numpy"})  # the reference is there to be right, not fast


def rank(summary: pd.DataFrame, unranked: frozenset[str] = UNRANKED) -> pd.DataFrame:
    """The summary with three columns more, each cell seen beside those that share its SAME.

    `best` (bool): the fastest ok cell. `tie` (bool): another whose interval overlaps that of the fastest. `vs_best`
    (float64): time over that of the fastest; missing for what is not ranked, which is every cell that is not ok, what is no
    convolution, and the backends in `unranked`. A cell without an interval is taken as exact. Flags are not looked at: they
    stand beside the mark, and say how far to trust it.
    """
    timed = (summary["status"] == str(Status.OK)) & summary["median_ns"].notna() & (summary["direction"] != str(Direction.NONE))
    adapter = summary["backend"].str.split("@").str[0]  # numpy@aa is numpy under another name
    ranked = (timed & ~adapter.isin(unranked)).to_numpy(dtype=bool)
    cells = summary[ranked].reset_index(drop=True)
    fastest = cells.groupby(SAME, sort=False)["median_ns"].transform("idxmin").to_numpy(dtype=np.int64)
    median = cells["median_ns"].to_numpy()
    low = cells["ci_low_ns"].fillna(cells["median_ns"]).to_numpy()
    high = cells["ci_high_ns"].fillna(cells["median_ns"]).to_numpy()
    is_best = fastest == np.arange(len(cells))

    best, tie, vs_best = np.zeros(len(summary), dtype=bool), np.zeros(len(summary), dtype=bool), np.full(len(summary), np.nan)
    best[ranked] = is_best
    tie[ranked] = ~is_best & (low <= high[fastest])
    with np.errstate(divide="ignore", invalid="ignore"):  # a clock too coarse reads 0
        vs_best[ranked] = median / median[fastest]
    return summary.assign(best=best, tie=tie, vs_best=vs_best)


def best(summary: pd.DataFrame, unranked: frozenset[str] = UNRANKED) -> pd.Series:
    """True for the fastest cell of each comparison and for its ties: a bool per row, under the summary's index."""
    marks = rank(summary, unranked)
    return (marks["best"] | marks["tie"]).rename("best")
