"""What is kept of a night for the nights to come, and many nights side by side.

Frame to frame: where the frames of a store come from is `store.nights`' business, what is said of them `gate`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from harness.record import NIGHT_COLUMNS, Run

# Raised by one whenever the formula of a figure that a night keeps changes: the nights of a store are then made anew.
FIGURES = 1


@dataclass(frozen=True)
class History:
    """Nights side by side, oldest first: `runs` as run.json has them, with their environments; no run twice.

    `cells` has one row per run and cell with NIGHT_COLUMNS; its text columns are categoricals. A run without a row is a night
    on which nothing was measured.
    """

    runs: tuple[Run, ...]
    cells: pd.DataFrame

    def until(self, run_id: str) -> "History":
        """The history as it was when that run was the newest. Raises KeyError where there is no such run."""
        ids = [run.id for run in self.runs]
        if run_id not in ids:
            raise KeyError(run_id)
        kept = self.runs[: ids.index(run_id) + 1]
        return History(kept, self.cells[self.cells["run_id"].isin([run.id for run in kept])])


def night(summary: pd.DataFrame) -> pd.DataFrame:
    """What is kept of one run for its history, from its summary: one row per cell with NIGHT_COLUMNS."""
    frame = summary.assign(reference_ns=summary["corrected_ns"] / summary["yardstick_ratio"])
    return frame[list(NIGHT_COLUMNS)].reset_index(drop=True)


def nights(history: History) -> pd.DataFrame:
    """One row per cell and run, for figures and tables: NIGHT_COLUMNS and `started_at`, `night_ns`, `corrected`, `segment`.

    `night_ns` is what the gate judges: the median of the trials' figures, corrected by the yardstick where `corrected` says
    so, and missing where the status is not ok or a flag bars a verdict. `segment` names the versions: it changes where
    framework, driver or kernel do.
    """
    raise NotImplementedError


def changed(before: Sequence[Run], after: Sequence[Run]) -> str:
    """Placeholder."""
    raise NotImplementedError
