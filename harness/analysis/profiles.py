"""What follows from the profiles of a run: shares of a call, what watching costs, and what keeps a profile from telling all."""

import math
from collections.abc import Collection

import pandas as pd

from harness import flops, units
from harness.analysis.rows import typed
from harness.axes import Direction
from harness.columns import PROFILE_COLUMNS
from harness.profile import COMPUTING, MOVING, Kind
from harness.spec import parse_workload

# A watched call takes as long as one that is not, but for so much. The trace of XLA is dearer: the plain call is the total,
# and the trace gives proportions.
LEAST_OVERHEAD, MOST_OVERHEAD, MOST_OVERHEAD_OF_XLA = 0.9, 1.1, 1.25
UNLIKE_TIMED = 0.25  # by so much a watched call may differ from what the run timed
UNSEEN_SHARE, UNSEEN_FROM_NS = 0.5, 1e6  # of a call that takes so long, at most this may lie in no kernel


def profiles(stored: pd.DataFrame, kernels: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """One row per profile of a run, with PROFILE_COLUMNS.

    `stored` has PROFILED_COLUMNS, `kernels` has KERNEL_COLUMNS, and `summary` a row per cell, all of that run.
    """
    frame = stored.reset_index(drop=True)
    timed = dict(zip(summary["cell"], summary["median_ns"], strict=True))
    shapes = zip(frame["shape"], frame["direction"], strict=True)
    exact = pd.Series([_flop_exact(shape, direction) for shape, direction in shapes], dtype="float64", index=frame.index)
    frame["timed_ns"] = pd.Series([timed.get(cell, math.nan) for cell in frame["cell"]], dtype="float64", index=frame.index)
    frame["overhead"] = frame["watched_ns"] / frame["plain_ns"]
    frame["kernel_share"] = _share(frame, kernels, COMPUTING)
    frame["move_share"] = _share(frame, kernels, MOVING)
    frame["framework_share"] = _share(frame, kernels, {*Kind} - COMPUTING - MOVING - {Kind.OUTSIDE})
    outside = _share(frame, kernels, {Kind.OUTSIDE})
    frame["outside_ns"] = outside * frame["watched_ns"]
    frame["flop_ratio"] = frame["flop_compiled"] / exact.where(exact > 0)
    told = (
        frame[["watched_ns", "timed_ns", "overhead", "sources"]]
        .assign(unseen=outside + frame["framework_share"])
        .itertuples(index=False)
    )
    frame["incomplete"] = [_incomplete(*row) for row in told]
    return typed(frame[list(PROFILE_COLUMNS)])


def _flop_exact(shape: str, direction: str) -> float:
    """As the column `flop_exact` has it; the run may not have timed the cell."""
    return float(Direction(direction).passes * flops.exact(parse_workload(shape)))


def _share(frame: pd.DataFrame, kernels: pd.DataFrame, kinds: Collection[Kind]) -> "pd.Series[float]":
    """The share of these kinds in the call of each profile; missing where there are no kernels."""
    every = kernels.groupby("cell")["share"].sum()
    some = kernels[kernels["kind"].isin([str(kind) for kind in kinds])].groupby("cell")["share"].sum()
    found = [float(some.get(cell, 0.0)) if cell in every.index else math.nan for cell in frame["cell"]]
    return pd.Series(found, dtype="float64", index=frame.index)


def _incomplete(watched_ns: float, timed_ns: float, overhead: float, sources: str, unseen: float) -> str:
    """What keeps a profile from telling all; empty where nothing does, or there is none."""
    if math.isnan(watched_ns):
        return ""
    most = MOST_OVERHEAD_OF_XLA if "XLA" in sources else MOST_OVERHEAD
    found = []
    if not LEAST_OVERHEAD <= overhead <= most:
        found.append(f"a watched call takes {units.ratio(overhead)} the time of a plain one")
    if abs(watched_ns / timed_ns - 1) > UNLIKE_TIMED:  # which is not so where nothing was timed
        found.append(f"a watched call takes {units.duration(watched_ns)}, and the run timed {units.duration(timed_ns)}")
    if unseen > UNSEEN_SHARE and watched_ns > UNSEEN_FROM_NS:
        found.append(f"{units.percent(unseen)} of the call lie in no kernel")
    return "; ".join(found)
