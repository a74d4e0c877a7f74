"""Which cells a night profiles: what became slower, what has no profile with its versions yet, and a tenth of the others.

Pure: what the gate says, the nights, and what was profiled on them in, the cells out. A night has little time for this, so that
the order is what matters.
"""

import math
import statistics
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import pandas as pd

from harness import units
from harness.analysis.environments import versions
from harness.analysis.history import History
from harness.analysis.rows import dicts_of
from harness.analysis.what_ran import LOOKED_BACK
from harness.outcome import State
from harness.record import Run, Status

SHARE = 0.1  # of what the night took: more is never spent on profiles
TURNS = 10  # nights in which each of the others is profiled once
GUESS_S = 6.0  # for a cell of a backend that was never profiled: two passes of two seconds, and its preparation


class Why(StrEnum):
    """Why a cell is profiled tonight, in the order of their turns."""

    SLOWER = "slower"  # suspect or confirmed tonight
    NEW = "not profiled with its versions"
    TURN = "in turn"


@dataclass(frozen=True)
class Candidate:
    """A cell that may be profiled tonight.

    `slower`: it is suspect or confirmed. `ago` is how many nights ago it was last profiled; None: never, as far as is looked.
    `new`: never with the versions that it has tonight. `cost_s` is what profiling it takes, by what it took, in a process that
    has started; `process` is what cells have in common that share one.
    """

    cell: str
    slower: bool
    ago: int | None
    new: bool
    cost_s: float
    process: Hashable = None


def due(candidates: Sequence[Candidate], budget_s: float, start_s: float = 0.0) -> dict[str, Why]:
    """The cells to be profiled, in that order, each with the reason: as many as may be had in so many seconds.

    `start_s` is what a process takes to start; there is one for each reason.

    What has waited longest comes first within its reason; what is too dear for what is left of the time is passed over.
    """
    chosen: dict[str, Why] = {}
    for why, cells in waiting(candidates).items():
        started = set[Hashable]()
        for each in cells:
            cost_s = each.cost_s + (0.0 if each.process in started else start_s)
            if cost_s <= budget_s:
                chosen[each.cell] = why
                budget_s -= cost_s
                started.add(each.process)
    return chosen


def waiting(candidates: Sequence[Candidate]) -> dict[Why, list[Candidate]]:
    """What is due tonight, whatever it takes, by reason."""
    in_order = sorted(candidates, key=lambda each: (-math.inf if each.ago is None else -each.ago, each.cell))
    slower = [each for each in in_order if each.slower]
    new = [each for each in in_order if each.new and not each.slower]
    others = [each for each in in_order if not each.new and not each.slower]
    return {Why.SLOWER: slower, Why.NEW: new, Why.TURN: others[: math.ceil(len(others) / TURNS)]}


def candidates(
    cases: pd.DataFrame, history: History, possible: Collection[str], spent_s: Callable[[Run], Mapping[str, float]]
) -> list[Candidate]:
    """The cells of the newest night that may be profiled, of those that are possible: measured tonight, and in its plan.

    `cases` are those of the gate; `spent_s` says which cells were profiled in a run, and what each took in seconds, whether
    anything came of it or not.
    """
    asked = [case for case in dicts_of(cases) if case["status"] == Status.OK and case["cell"] in possible]
    machines = {case["machine_id"] for case in asked}
    left, last = {case["cell"] for case in asked}, dict[str, tuple[int, Run, float]]()
    for ago, run in enumerate(reversed(history.runs[-1 - LOOKED_BACK :])):
        there = spent_s(run) if left and machines & run.machines.keys() else {}
        last |= {cell: (ago, run, took_s) for cell, took_s in there.items() if cell in left}
        left.difference_update(there)
    known: dict[str, list[float]] = {}
    for case in asked:
        if case["cell"] in last:
            known.setdefault(case["backend"], []).append(last[case["cell"]][2])
    tonight, environments = history.runs[-1], _Environments(history)
    found = []
    for case in asked:
        cell, slower = case["cell"], case["state"] in (State.SUSPECT, State.CONFIRMED)
        process = case["backend"], case["device"], case["threads"]
        if cell not in last:
            cost_s = statistics.median(known.get(case["backend"], [GUESS_S]))
            found.append(Candidate(cell, slower, None, True, cost_s, process))
            continue
        ago, run, cost_s = last[cell]
        if ago:  # else tonight: the night was resumed
            new = environments.of(run, cell) != environments.of(tonight, cell)
            found.append(Candidate(cell, slower, ago, new, cost_s, process))
    return found


class _Environments:
    """The versions by which the cells of a night were measured."""

    def __init__(self, history: History) -> None:
        self.history, self.known = history, dict[str, dict[str, dict[str, str]]]()

    def of(self, run: Run, cell: str) -> dict[str, str]:
        """Those of one cell; none where the run does not tell."""
        if run.id not in self.known:
            told = {each.id: versions(each) for each in run.environments}
            rows = self.history.cells[self.history.cells["run_id"] == run.id]
            ids = zip(rows["cell"].astype(str), rows["environment_id"].astype(str), strict=True)
            self.known[run.id] = {each: told.get(environment_id, {}) for each, environment_id in ids}
        return self.known[run.id].get(cell, {})


@dataclass(frozen=True)
class Profiled:
    """What a night spent on profiles: the reason of each cell that was profiled, how many were due, and what all took."""

    made: Mapping[str, Why]
    due: int
    took_s: float
    night_s: float

    @property
    def words(self) -> str:
        """It in one line."""
        reasons = [(why, sum(each is why for each in self.made.values())) for why in Why]
        told = ", ".join(f"{count} {why}" for why, count in reasons if count)
        share = units.percent(self.took_s / self.night_s) if self.night_s else units.MISSING
        line = f"profiled {units.many(len(self.made), 'cell')} in {units.wall(self.took_s)}, {share} of the time of measuring"
        line += f": {told}" if told else ""
        left = self.due - len(self.made)
        return f"{line}; {left} more had to wait, since profiles get at most {100 * SHARE:.0f} % of it" if left > 0 else line
