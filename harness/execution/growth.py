"""What a run measures next, by what it has: how often a process visits a cell, and which cells go on in one more trial."""

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from harness.analysis import race, ranking, visits
from harness.analysis.summary import summarize
from harness.ask import planning
from harness.axes import NO_COMPETITOR
from harness.outcome import ENOUGH_PAIRS
from harness.plan import FIRST_VISITS, Plan
from harness.record import Environment, Record
from harness.spec import Cell
from harness.store import frames
from harness.store.latest import latest

# What a process costs per cell, and what a visit does, by the names of `columns.SPENT`.
_PROCESS = ("start", "operands", "first_call", "check", "warmup")
_VISIT = ("witness", "yardstick", "sampling")


@dataclass(frozen=True)
class SoFar:
    """A run as far as it was measured."""

    records: Sequence[Record]
    summary: pd.DataFrame
    visits: pd.DataFrame  # as `analysis.visits.visits` has them

    @classmethod
    def of(cls, records: Iterable[Record], environments: Iterable[Environment], suite: str) -> "SoFar":
        """From what its journal holds."""
        counted = latest(records)
        samples = frames.samples_frame(counted)
        return cls(counted, summarize(frames.records_frame(counted, environments, suite), samples), visits.visits(samples))

    @property
    def trials(self) -> int:
        """How many trials there are."""
        return 1 + max((record.trial for record in self.records), default=-1)


def visits_of_next(plan: Plan, found: SoFar) -> int:
    """How often each cell is visited in the next trial: as the budget says, or by what two trials or more have shown.

    Where the number of trials is fixed no trial becomes longer than the first ones.
    """
    budget = plan.budget
    if budget.visits or found.trials < 2:
        return budget.visits or FIRST_VISITS
    spent = [record.spent_ns or {} for record in found.records if record.samples]
    made = sum(len(record.samples.series[0].visits) for record in found.records if record.samples)
    process_s, visit_s = (sum(told.get(name, 0) for told in spent for name in names) / 1e9 for names in (_PROCESS, _VISIT))
    if not made or not visit_s > 0:
        return FIRST_VISITS
    asked = {"visit_s": visit_s / made, "process_s": process_s / len(spent)}
    same = ranking.same_but(plan.competing)
    most = race.visits_per_process(found.summary, found.visits, same=same, **asked) or FIRST_VISITS
    return most if budget.races else min(most, FIRST_VISITS)


def sure(plan: Plan, found: SoFar) -> ranking.Sureness:
    """How sure the run is so far, by the rule of a run that is looked at after each trial where it is one."""
    level = race.Looks(plan.budget.most_trials).level if plan.budget.races else None
    same = ranking.same_but(plan.competing)
    return ranking.sureness(ranking.rank(found.summary, found.visits, level=level, same=same), same)


def grown(plan: Plan, found: SoFar, spent_s: float) -> Plan | None:
    """The plan with one more trial of what is not decided yet, and its twins; None where the run has come to its end.

    `spent_s` is how long the run was measured. The next trial is expected to take as long as the last one did for its cells.
    """
    budget, trials = plan.budget, found.trials
    if not budget.races or trials >= budget.most_trials:
        return None
    asked = [step.cell for step in plan.measurable if step.trial == trials - 1 and step.cell.is_convolution]
    if trials >= ENOUGH_PAIRS:
        asked = _undecided(plan, found, asked)
    names = {str(cell) for cell in asked}
    last = [record for record in found.records if record.trial == trials - 1 and str(record.cell) in names]
    expected_s = sum(sum((record.spent_ns or {}).values()) for record in last) / 1e9
    if not asked or (budget.time_s and trials >= 1 and spent_s + expected_s > budget.time_s):
        return None
    return planning.extended(plan, asked, random.Random(f"{plan.seed} {trials}"))


def _undecided(plan: Plan, found: SoFar, asked: Sequence[Cell]) -> list[Cell]:
    """Which of these cells, and of their twins, go on after a look at the run.

    In a tuning the default setting goes on as long as any of its group does, so that the gain over it is known as well as what
    is chosen; a setting without any other does not, since nothing is left to choose from.
    """
    same = ranking.same_but(plan.competing)
    unranked = frozenset[str]() if plan.tuned else ranking.UNRANKED  # the reference's settings compete among themselves
    looks, until = race.Looks(plan.budget.most_trials), plan.budget.until or None
    looked = race.look(found.summary, found.visits, looks, until, same, unranked)
    on = set(looked["cell"][looked["goes_on"] & ((looked["state"] != "alone") | (not plan.tuned))])
    timed = set(looked["cell"][looked["state"] != ""])

    def group(cell: Cell) -> tuple[object, ...]:
        return tuple(getattr(cell, name) for name in same if name != "run_id")

    waiting = {group(cell) for cell in asked if str(cell) in on}
    partners = {cell for cell in asked if plan.is_default(cell) and str(cell) in timed and group(cell) in waiting}
    beside = {cell: replace(cell, backend=re.sub(f"{NO_COMPETITOR}.*", "", cell.backend)) for cell in asked}
    return [cell for cell in asked if str(beside[cell]) in on or cell in partners]
