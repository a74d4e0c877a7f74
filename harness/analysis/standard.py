"""The cells of a night beside their twins by the standard: the ratio of each pair, which other nights can be held against.

The machine's hour and its speed are in both, so they fall out of the ratio; two nights cannot be paired, but these ratios can
be compared from night to night.
"""

from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.inference import moderated
from harness.analysis.pairs import log_ratios, pools
from harness.analysis.visits import turns
from harness.axes import LABEL
from harness.record import Status

VS_STANDARD = ("vs_standard", "vs_standard_low", "vs_standard_high", "standard_environment_id")


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


def is_standard(backends: pd.Series, label: str) -> np.ndarray:
    """Which backends are the standard of that label; none where it is empty."""
    found: np.ndarray = backends.astype("string").str.endswith(f"{LABEL}{label}").to_numpy(dtype=bool) & bool(label)
    return found


def _twin(cell: str, backend: str, label: str) -> str:
    """The cell that a cell is held against; "" for the twin itself and where there is no standard."""
    adapter, _, own = backend.partition(LABEL)
    return "" if not label or own == label else cell.replace(f"/{backend}/", f"/{adapter}{LABEL}{label}/", 1)
