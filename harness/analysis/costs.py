"""What a cell costs beside its time, night by night: its first call, which compiles, and its memory; judged as times are.

The replay of the gate runs once more for each of them, by rules of its own. Only what two nights say is told.
"""

import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd

from harness import units
from harness.analysis import reasons
from harness.analysis.history import ABSENT, STATUSES, Grid
from harness.analysis.replay import Replay, Rules, replay
from harness.analysis.rows import dicts_of
from harness.outcome import Level, State
from harness.record import Status


class Cost(StrEnum):
    """What is judged beside the time, by its column in the frame of nights."""

    FIRST_CALL = "first_call_ns"
    MEMORY = "memory_bytes"


# Nothing moves a whole machine in these, and no family of cases is large: the floors and two nights keep false alarms away.
_NO_EVENTS = {"event_cells": sys.maxsize, "family": sys.maxsize}
RULES = {
    # It varies with the disk and the hour of the machine: half as long again is not what these do two nights in a row.
    Cost.FIRST_CALL: Rules(floor=0.5, z=5.0, scale_floor=0.05, cpu_ns=2e8, gpu_ns=2e8, **_NO_EVENTS),
    # In bytes. The kernel's count of a host is off by some hundred KiB, and JAX takes 2 MB more on one night than on another.
    Cost.MEMORY: Rules(floor=0.1, scale_floor=0.005, cpu_ns=2.0**22, gpu_ns=2.0**22, **_NO_EVENTS),
}


@dataclass(frozen=True)
class CostStep:
    """A cost of a case that has changed for two nights: confirmed tonight or open since, or improved tonight.

    `before` is the median of its baseline and `now` what it is tonight, in ns or bytes; `now` and `change` are NaN where
    nothing was measured tonight. `since` is the first run of it, `cause` says which versions changed then.
    """

    cell: str
    name: str
    cost: Cost
    state: State
    before: float
    now: float
    change: float
    since: str
    cause: str

    @property
    def level(self) -> Level:
        """What it makes of a night."""
        return Level.QUIET if self.state is State.IMPROVED else Level.REGRESSION

    @property
    def words(self) -> str:
        """It in one line."""
        first = self.cost is Cost.FIRST_CALL
        told = f"the first call of {self.name}, compilation included," if first else f"the memory of a call of {self.name}"
        since = f"since {self.since}" + (f", with {self.cause}" if self.cause else "")
        if np.isnan(self.change):
            return f"{told} is {self.state}, {since}; it has no figure tonight"
        more, less = ("takes {} longer", "takes {} less time") if first else ("is {} more", "is {} less")
        size = (more if self.change > 0 else less).format(units.percent(abs(self.change)))
        unit = units.duration if first else units.size
        return f"{told} {size} ({unit(self.before)} → {unit(self.now)}) {since}"


def steps(
    grid: Grid, cells: pd.DataFrame, acknowledged: Mapping[int, np.ndarray], events: Collection[int],
    cause: Callable[[np.integer[Any], int], str],
) -> list[CostStep]:  # fmt: skip
    """The costs of a machine's cases that have changed by tonight, the largest change first.

    `cells` is the frame of the history that the grid is from, `acknowledged` as in `replay`. `events` are the nights on which
    the machine as a whole had moved, which say nothing; `cause` names what changed with a case on a night.
    """
    found: list[CostStep] = []
    for cost, rules in RULES.items():
        values = _values(grid, cells[str(cost)].to_numpy(dtype=float), events)
        cases = np.flatnonzero(_may_move(values, rules) & ~grid.is_twin)
        if len(cases):
            judged = replay(_of(grid, cases, values[cases]), {night: of[cases] for night, of in acknowledged.items()}, rules)
            found += [
                _step(grid, cost, case, place, judged, values[case, -1], cause)
                for place, case in enumerate(cases)
                if judged.sign[place] > 0 or judged.confirmed[place, -1] < 0
            ]
    return sorted(found, key=lambda step: (step.level is Level.QUIET, -abs(np.nan_to_num(step.change)), step.cell))


def _values(grid: Grid, column: np.ndarray, events: Collection[int]) -> np.ndarray:
    """A column by case and night, NaN where it says nothing."""
    known = grid.status == STATUSES.index(Status.OK)
    known[:, list(events)] = False
    values = np.where(known, column[grid.row], np.nan)
    values[~(values > 0)] = np.nan
    return values


def _may_move(values: np.ndarray, rules: Rules) -> np.ndarray:
    """Which cases have two values so far apart that one may be over a threshold: of most costs none is."""
    unknown = np.isnan(values)
    low, high = np.where(unknown, np.inf, values).min(axis=1), np.where(unknown, -np.inf, values).max(axis=1)
    found: np.ndarray = (high > low * (1 + rules.floor)) & (high - low > min(rules.cpu_ns, rules.gpu_ns))
    return found


def _of(grid: Grid, cases: np.ndarray, values: np.ndarray) -> Grid:
    """The nights of some cases with these values for their times, and without what belongs to times alone."""
    none = np.full_like(values, np.nan)
    rows = {name: getattr(grid, name)[cases] for name in ("status", "barred", "segment", "shape", "yardstick", "row")}
    return replace(
        grid, axes=grid.axes.iloc[cases].reset_index(drop=True), raw=values, ratio=none, vs_standard=none, vs_stay=none,
        vs_stay_error=none, standard=np.full(values.shape, ABSENT), twin=np.full(len(cases), ABSENT),
        is_twin=np.zeros(len(cases), dtype=bool), references=np.full_like(grid.references, np.nan), **rows,
    )  # fmt: skip


def _step(
    grid: Grid, cost: Cost, case: np.integer[Any], place: int, judged: Replay, now: float,
    cause: Callable[[np.integer[Any], int], str],
) -> CostStep:  # fmt: skip
    since = int(judged.since[place])
    new = judged.confirmed[place, -1] != 0
    state = State.IMPROVED if judged.sign[place] < 0 else State.CONFIRMED if new else State.OPEN
    row = dicts_of(grid.axes.iloc[[int(case)]])[0]
    change = float(judged.change[place]) if judged.judged[place, -1] else np.nan
    return CostStep(
        str(row["cell"]), reasons.name(row), cost, state, float(judged.measured_ns[place]), float(now), change,
        grid.runs[since].id, cause(case, since),
    )  # fmt: skip
