"""The ratios by which nights are held against each other that cannot be paired: of cells to their twins by the standard, and of
what one night says by two methods.

Of a pair by the standard the machine's hour and its speed are in both, so they fall out of the ratio. Of two methods the
processes are the same.
"""

from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.inference import moderated
from harness.analysis.pairs import log_ratios, pools
from harness.analysis.trials import trials
from harness.analysis.visits import turns
from harness.axes import LABEL
from harness.record import SeriesKind, Status

VS_STANDARD = ("vs_standard", "vs_standard_low", "vs_standard_high", "standard_environment_id")
VS_STAY = ("vs_stay", "vs_stay_error")


def vs_standard(summary: pd.DataFrame, visited: pd.DataFrame | None, label: str) -> dict[str, Any]:
    """The columns VS_STANDARD for a summary of one run whose cells were visited beside twins of that label.

    The ratio is the geometric mean over the pairs of processes of the time of a cell over that of its twin; its 95 % t-interval
    is missing under two pairs. `visited` is the frame of `visits.visits`. All are missing, and the environment of the twin is
    "", where one of the two is not ok, and for the twins themselves. A cell under another label has the twin of the cell
    without.
    """
    cells, backends = summary["cell"].to_numpy(dtype=object), summary["backend"].to_numpy(dtype=object)
    places = {cell: row for row, cell in enumerate(cells)}
    twins = [_twin(str(cell), str(backend), label) for cell, backend in zip(cells, backends, strict=True)]
    ok = (summary["status"] == str(Status.OK)).to_numpy(dtype=bool)
    of = np.array([places.get(twin, -1) for twin in twins], dtype=np.int64)
    both = np.flatnonzero(ok & (of >= 0) & ok[of])
    found: dict[str, Any] = {name: np.full(len(cells), np.nan) for name in VS_STANDARD[:3]}
    environments = np.full(len(cells), "", dtype=object)
    tables = turns(visited) if visited is not None and len(both) else {}
    for table in tables.values():
        left, right = table.places(cells[both]), table.places(cells[of[both]])
        names = backends.astype(str)
        estimates = moderated(log_ratios(table, left, right), pools(names[both], names[of[both]]))
        half = np.where(estimates.df > 0, estimates.half(), np.nan)
        known = estimates.count > 0
        for name, side in zip(VS_STANDARD, (0.0, -half, half), strict=False):
            found[name][both[known]] = np.exp(estimates.mean + side)[known]
        environments[both[known]] = summary["environment_id"].to_numpy(dtype=object)[of[both[known]]]
    return found | {VS_STANDARD[3]: pd.array(environments, dtype="string")}


def vs_stay(summary: pd.DataFrame, samples: pd.DataFrame | None) -> dict[str, Any]:
    """The columns VS_STAY for a summary of one run, from its samples: what its visits say over what its long stays do.

    Each trial of a cell that is ok has one ratio, of one process: of its median over visits to that over the stay. The ratio of
    the cell is their geometric mean; the variance, in which the machine's minutes are, is shared by the cells of a backend. The
    yardstick is not asked: a stay has few readings of it, and one that was disturbed would stand beside most of its samples.
    """
    nothing = {name: np.full(len(summary), np.nan) for name in VS_STAY}
    if samples is None or not (samples["series"] == str(SeriesKind.STAY)).any():
        return nothing
    visited, stays = trials(samples), trials(samples, SeriesKind.STAY)
    cells = {cell: row for row, cell in enumerate(summary["cell"]) if summary["status"].iloc[row] == Status.OK}
    both = [key for key in stays if key in visited and key[2] in cells]
    logs = np.full((len(summary), 1 + max((trial for _, trial, _ in both), default=-1)), np.nan)
    for key in both:
        new, old = visited[key].median_ns, stays[key].median_ns
        logs[cells[key[2]], key[1]] = np.log(new / old) if new > 0 and old > 0 else np.nan
    found = moderated(logs, np.unique(summary["backend"].to_numpy(dtype=str), return_inverse=True)[1])
    return {VS_STAY[0]: np.exp(found.mean), VS_STAY[1]: np.where(found.df > 0, found.half(), np.nan)}


def is_standard(backends: pd.Series, label: str) -> np.ndarray:
    """Which backends are the standard of that label; none where it is empty."""
    found: np.ndarray = backends.astype("string").str.endswith(f"{LABEL}{label}").to_numpy(dtype=bool) & bool(label)
    return found


def _twin(cell: str, backend: str, label: str) -> str:
    """The cell that a cell is held against; "" for the twin itself and where there is no standard."""
    adapter, _, own = backend.partition(LABEL)
    return "" if not label or own == label else cell.replace(f"/{backend}/", f"/{adapter}{LABEL}{label}/", 1)
