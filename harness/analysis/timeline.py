"""A history laid out for charts: the figure of every cell on every night, and what changed between the nights."""

import pandas as pd

from harness import units
from harness.analysis.history import History
from harness.analysis.validity import differences
from harness.record import Run, Status

# These differ from night to night on a machine that nobody touched, and say nothing of its speed by themselves.
_EXPECTED = frozenset({"commit", "suite's hash", "host"})
_MOST = 3  # facts that a label names


def nights(history: History) -> pd.DataFrame:
    """One row per cell and night: the columns of the history, `started_at` and `night_ns`.

    `night_ns` is the median of a cell that is ok and under no flag that bars a verdict; missing for any other.
    """
    cells = history.cells
    started = {run.id: run.started_at for run in history.runs}
    told = (cells["status"].astype(str) == str(Status.OK)) & (cells["barred_by"].astype(str) == "")
    return cells.assign(
        run_id=cells["run_id"].astype(str),
        cell=cells["cell"].astype(str),
        started_at=pd.to_datetime(cells["run_id"].astype(str).map(started), utc=True),
        night_ns=cells["median_ns"].astype("float64").where(told),
    )


def breaks(history: History) -> tuple[tuple[str, str], ...]:
    """The nights before which something changed: the id of the run, and in words what differs from the run before."""
    found = []
    for before, after in zip(history.runs, history.runs[1:], strict=False):
        if words := _changed(before, after):
            found.append((after.id, words))
    return tuple(found)


def _changed(before: Run, after: Run) -> str:
    known = [each for each in differences(before, after) if each.fact not in _EXPECTED]
    told = [f"{each.fact} {each.base or units.MISSING} → {each.new or units.MISSING}" for each in known[:_MOST]]
    return "; ".join(told) + (f" and {len(known) - _MOST} more" if len(known) > _MOST else "")
