"""The nightly gate: tonight's figures by the rules of `replay`, as one judgement: which have moved, what the night is worth.

Pure: a History and what people have acknowledged in, a NightJudgement out. Nothing is remembered between nights; every state
follows from the stored runs and the acknowledgements, replayed from the first night on.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from harness import units
from harness.analysis import changes, costs, reasons
from harness.analysis.costs import CostStep
from harness.analysis.environments import version_changes
from harness.analysis.history import ABSENT, AXES, STATUSES, Grid, History, grids
from harness.analysis.replay import ESTIMATORS, STANDARD, Rules, replay
from harness.columns import CASE_COLUMNS, COLUMNS
from harness.outcome import Level, State
from harness.record import EVERY_CASE, Acknowledgement, Run, Status

COMPLETE = 0.9  # a run with figures of fewer of its cells is no night
# Each of two nights must be over the threshold, together in 95 of 100 cases: each in the root of 0.95, a normal quantile.
SURE_TWICE = 1.9551


@dataclass(frozen=True)
class MachineEvent:
    """A night on which a machine as a whole has moved, and by what that is known."""

    machine_id: str
    run_id: str
    why: str


@dataclass(frozen=True)
class OwnRecord:
    """How far to trust the gate on one machine, by what it has seen so far.

    `cases` counts the machine's cases tonight, `judged` those with a verdict. A cell that is measured twice has a twin, which
    must always be judged alike. `aa_nights` counts the judged nights of such cells, both of a pair. On `aa_suspects` of them a
    cell was suspect and its twin was not, on `aa_confirmed` it became confirmed and its twin did not: these are false alarms.

    `aa_noise` is the usual difference between a night's figure and that of its twin, as a share. `smallest_effect` is the
    slowdown (0.1 for 10 %) that the gate finds by the second night in 95 of 100 nights, for the median case. None: not known.
    """

    machine_id: str
    nights: int
    events: int
    cases: int
    judged: int
    aa_nights: int
    aa_suspects: int
    aa_confirmed: int
    aa_noise: float | None
    smallest_effect: float | None


@dataclass(frozen=True)
class NightJudgement:
    """What the gate says of the newest night of a history.

    `sentence` says it in one line, and names the worst case; `reasons` has one line for each thing that bears on the level,
    the most serious first. `cases` has one row per cell and machine with CASE_COLUMNS, the most serious first; cells that were
    measured a second time under another name are not among them. `events` are those of tonight, `invalid` what blocks any
    judgement, `machines` the gate's own record. `notes` are those of the reasons that say what the night was held against,
    where the method or the standard has changed. `costs` are the first calls and memories that have changed for two nights.
    """

    run_id: str
    level: Level
    sentence: str
    reasons: tuple[str, ...]
    cases: pd.DataFrame
    events: tuple[MachineEvent, ...]
    invalid: tuple[str, ...]
    machines: tuple[OwnRecord, ...]
    notes: tuple[str, ...] = ()
    costs: tuple[CostStep, ...] = ()

    @property
    def code(self) -> int:
        """The exit code of the night."""
        return self.level.code


def judge(
    history: History,
    acknowledgements: Sequence[Acknowledgement] = (),
    *,
    invalid: Sequence[str] = (),
    rules: Rules | None = None,
) -> NightJudgement:
    """The judgement of the newest run of a history; `invalid` are the validity checks that failed elsewhere.

    The same history cut off at an earlier run gives the judgement of that night. Raises ValueError for a history without runs.
    """
    if not history.runs:
        raise ValueError("a history without runs")
    rules = rules or Rules()
    machines = [_Machine(history, grid, acknowledgements, rules) for grid in grids(history)]
    run = history.runs[-1]
    blocking = (*invalid, *_incomplete(run, machines))
    cases = _joined([machine.cases for machine in machines])
    of_machines = [each for machine in machines for each in _of_machine(machine)]
    found = [*((Level.INVALID, why) for why in blocking), *reasons.reasons(cases, of_machines)]
    beside = tuple(step for machine in machines for step in machine.costs())
    found += [(step.level, step.words) for step in beside]
    found.sort(key=lambda reason: list(Level).index(reason[0]))
    level = found[0][0] if found else Level.QUIET
    return NightJudgement(
        run_id=run.id,
        level=level,
        sentence=reasons.sentence(level, [why for of, why in found if of is level], cases),
        reasons=tuple(why for _, why in found),
        cases=cases,
        events=tuple(event for machine in machines for event in machine.events),
        invalid=blocking,
        machines=tuple(machine.own_record for machine in machines),
        notes=tuple(note for machine in machines for note in _notes(machine)),
        costs=beside,
    )


def _incomplete(run: Run, machines: Sequence["_Machine"]) -> list[str]:
    """Why a run is no night: nothing, or too little of what the suite holds, was measured."""
    told = [machine for machine in machines if machine.reports]
    if not told:
        return ["nothing was measured"]
    expected = sum(int(machine.expected.sum()) for machine in told)
    measured = sum(int((machine.expected & machine.measured).sum()) for machine in told)
    if measured < COMPLETE * expected:
        return [f"only {measured} of {expected} cells were measured"]
    return [] if expected or run.finished_at else ["the run was cut off"]


class _Machine:
    """What tonight's figures of one machine say."""

    def __init__(self, history: History, grid: Grid, acknowledgements: Sequence[Acknowledgement], rules: Rules) -> None:
        self.history, self.grid = history, grid
        self.acks, self.notes = _acknowledged(grid, acknowledgements)
        self.replay, self.enough = replay(grid, self.acks, rules), rules.enough
        self.last = len(grid.runs) - 1
        self.reports = bool((grid.status[:, -1] != ABSENT).any())
        not_run = STATUSES.index(Status.NOT_RUN)
        told = (grid.status != ABSENT) & (grid.status != not_run)
        ok = grid.status == STATUSES.index(Status.OK)
        bad = np.isin(grid.status, [code for code, status in enumerate(STATUSES) if status.failed and code != not_run])
        same = np.array([run.suite_sha256 == grid.runs[-1].suite_sha256 for run in grid.runs])
        lately = same & (np.arange(len(same)) >= self.last - rules.window) & (np.arange(len(same)) < self.last)
        self.measured = told[:, -1]
        # What a person has acknowledged since it was last there is not waited for any more.
        let_go = self._last_acknowledged() > _last(ok)
        self.expected = (ok[:, lately].any(axis=1) & ~let_go) | (ok[:, -1] & same[-1])
        before = _last(told[:, :-1])
        rows = np.arange(len(before))
        was_bad, was_ok = (np.where(before == ABSENT, False, matrix[rows, before]) for matrix in (bad, ok))
        self.failing = bad[:, -1] & (was_bad | let_go)
        self.failed = bad[:, -1] & ~self.failing
        self.lost = ~let_go & ((self.expected & ~told[:, -1]) | (told[:, -1] & ~ok[:, -1] & ~bad[:, -1] & was_ok))
        self.lost &= ~grid.is_twin
        self.gone = ~ok[:, -1] & ~bad[:, -1] & ~self.lost
        self.known = (
            ok[:, -1] | bad[:, -1] | self.lost | (self.replay.sign > 0) | (self.gone & was_ok & (before == self.last - 1))
        )
        self.events = [
            MachineEvent(grid.machine_id, grid.runs[-1].id, why)
            for night, why in self.replay.events.items()
            if night == self.last
        ]
        self.states = self._states()
        self.cases = self._cases()

    def _last_acknowledged(self) -> np.ndarray:
        """The last night from which on each case is acknowledged."""
        found = np.full(len(self.grid.raw), ABSENT)
        for night in sorted(self.acks):
            found[self.acks[night]] = night
        return found

    def _states(self) -> np.ndarray:
        """The State of each case, as text; the first that applies."""
        found, grid = self.replay, self.grid
        judged = found.judged[:, -1]
        waiting = ~judged & (found.pending > 0) & (found.suspect.max(axis=1, initial=0) > 0)
        event = np.full(len(judged), bool(self.events)) & ~np.isnan(grid.raw[:, -1])
        choices: list[tuple[np.ndarray, State]] = [
            (found.confirmed[:, -1] > 0, State.CONFIRMED),
            (found.sign > 0, State.OPEN),
            (self.failed, State.FAILED),
            (self.failing, State.FAILING),
            (self.lost, State.LOST),
            (self.gone, State.GONE),
            (event, State.MACHINE_EVENT),
            ((found.suspect[:, -1] > 0) | waiting, State.SUSPECT),
            (found.resolved > 0, State.RESOLVED),
            (found.sign < 0, State.IMPROVED),
            (found.suspect[:, -1] < 0, State.IMPROVING),
            (found.acknowledged, State.ACKNOWLEDGED),
            (grid.barred[:, -1] | np.isnan(grid.raw[:, -1]), State.BARRED),
            (~judged, State.INSUFFICIENT_HISTORY),
        ]
        return np.select([which for which, _ in choices], [str(state) for _, state in choices], str(State.STEADY))

    def _cases(self) -> pd.DataFrame:
        """One row per case with CASE_COLUMNS."""
        found, grid, rows = self.replay, self.grid, np.flatnonzero(self.known & ~self.grid.is_twin)
        since = np.where(found.sign != 0, found.since, np.where(found.pending != 0, found.pending_since, ABSENT))
        dated = self._dated(np.flatnonzero((found.sign != 0) & self.known & ~grid.is_twin), since)
        drift = self._drift(rows)
        ids = np.array([*(run.id for run in grid.runs), ""], dtype=object)
        last = grid.row[np.arange(len(since)), _last(grid.row != ABSENT)]  # a cell stands in the grid since it has a row
        columns = {
            **{name: grid.axes[name].to_numpy() for name in AXES},
            "shape": self.history.cells["shape"].astype("string").iloc[last].to_numpy(),
            "machine_id": grid.machine_id,
            "status": np.array([*map(str, STATUSES), ""], dtype=object)[grid.status[:, -1]],
            "state": self.states,
            "estimator": np.array(ESTIMATORS, dtype=object)[found.estimator],
            "night_ns": grid.raw[:, -1],
            "baseline_ns": np.where(found.nights >= 1, found.measured_ns, np.nan),
            "change": found.change,
            "z": found.z,
            "threshold": found.threshold,
            "nights": found.nights,
            "since": ids[since],
            "dated": ids[dated],
            "cause": "",
            "drift": drift,
            "smallest_effect": found.threshold + SURE_TWICE * found.scale,
            "note": np.array([self.notes.get(case, "") for case in range(len(since))], dtype=object),
            # What ran inside stands in the profiles, which the history does not hold.
            **dict.fromkeys(("ran_before_id", "ran_now_id", "what_ran", "ran_before", "ran_now"), ""),
            "another_kernel": False,
        }
        frame = pd.DataFrame(columns, index=range(len(since)))
        unknown = ~found.judged[:, -1]
        frame.loc[unknown, ["change", "z"]] = np.nan
        frame.loc[found.nights < 1, ["baseline_ns", "threshold", "smallest_effect"]] = np.nan
        for case in rows:
            if since[case] != ABSENT:
                at = dated[case] if dated[case] != ABSENT else since[case]
                frame.at[case, "cause"] = self._cause(case, min(at, since[case]), max(at, since[case]))
            if not frame.at[case, "note"]:
                frame.at[case, "note"] = self._reason(case)
        return frame.loc[rows, list(CASE_COLUMNS)]

    def _series(self, rows: np.ndarray, nights: int) -> np.ndarray:
        """The last figures of some cases by their estimator, [rows, nights]; NaN where they are not of the level in force."""
        grid, found = self.grid, self.replay
        first = max(0, len(grid.runs) - nights)
        at = np.arange(first, len(grid.runs))
        by, standard = found.estimator[rows, None], grid.standard[rows]
        raw, ratio, factor, beside = (of[rows][:, at] for of in (grid.raw, grid.ratio, grid.factor, grid.vs_standard))
        values = np.choose(by, [raw * factor, ratio * factor, beside])
        other = (at[None] < found.level[rows, None]) | np.isin(at, list(found.events))[None]
        other |= (by == STANDARD) & (standard[:, at] != standard[:, -1:])
        return np.where(other, np.nan, values)

    def _dated(self, rows: np.ndarray, since: np.ndarray) -> np.ndarray:
        """The night of the change point in the direction of the change, of several the one nearest to the first bad night.

        Of open changes only: a change point says nothing of a level that is one night old.
        """
        found = np.full(len(since), ABSENT)
        first = max(0, len(self.grid.runs) - changes.NIGHTS)
        for part in np.array_split(rows, max(1, len(rows) // 200)):
            if not len(part):
                continue
            series = self._series(part, changes.NIGHTS)
            for case, values, points in zip(part, series, changes.change_points(series), strict=True):
                same = [point for point in points if changes.step(values, points, point) * self.replay.sign[case] > 0]
                if same:
                    found[case] = first + min(same, key=lambda point: abs(first + point - since[case]))
        return found

    def _drift(self, rows: np.ndarray) -> np.ndarray:
        """Drift of the cases that are steady and drift for sure; NaN elsewhere."""
        found = np.full(len(self.states), np.nan)
        steady = rows[self.states[rows] == State.STEADY]
        crept, sure = changes.drift(self._series(steady, changes.DRIFT_NIGHTS))
        found[steady] = np.where(sure, crept, np.nan)
        return found

    def _cause(self, case: np.integer[Any], first: int, last: int) -> str:
        """Which versions differ between the last figure before a night and that of the same or a later night."""
        known = np.flatnonzero(~np.isnan(self.grid.raw[case, :first]))
        known = known[~np.isin(known, list(self.replay.events))]
        if not len(known):
            return ""
        return ", ".join(each.words for each in version_changes(self._with(case, int(known[-1])), self._with(case, last)))

    def _with(self, case: np.integer[Any], night: int) -> tuple[Run, str]:
        return self.grid.runs[night], str(self.history.cells["environment_id"].iloc[self.grid.row[case, night]])

    def _reason(self, case: np.integer[Any]) -> str:
        """Why the case has no figure tonight; empty where it has one."""
        row = self.grid.row[case, -1]
        if row == ABSENT:
            return "not measured"
        told = self.history.cells.iloc[row]
        return str(told["reason"]) or (f"flagged {told['barred_by']}" if told["barred_by"] else "")

    def costs(self) -> list[CostStep]:
        """What its cases cost beside their time, where that has changed."""
        events = self.replay.events
        return costs.steps(
            self.grid, self.history.cells, self.acks, events, lambda case, night: self._cause(case, night, night)
        )

    @property
    def beside_standard(self) -> int:
        """How many cases are judged tonight by their ratio to the standard."""
        return int((self.replay.judged[:, -1] & (self.replay.estimator == STANDARD) & ~self.grid.is_twin).sum())

    def standard(self) -> list[str]:
        """What there is to say of the standard: how many cases are held against it, which lack it, and where it has changed."""
        grid, own = self.grid, ~self.grid.is_twin
        label, told = grid.runs[-1].standard, list[str]()
        beside, without = ~np.isnan(grid.vs_standard), ~np.isnan(grid.raw[:, -1]) & np.isnan(grid.vs_standard[:, -1]) & own
        if label and self.beside_standard:
            told.append(f"{units.many(self.beside_standard, 'case')} judged by the ratio to the standard {label}")
        if label and (missing := int(without.sum())):
            told.append(f"{units.many(missing, 'case')} without the standard {label} tonight, judged by the time alone")
        others = _last(beside & (grid.standard != grid.standard[:, -1:]))
        changed: dict[tuple[str, str], tuple[int, int]] = {}
        for case in np.flatnonzero(beside[:, -1] & own & (others != ABSENT)):
            since = np.flatnonzero(beside[case, others[case] + 1 :]) + others[case] + 1
            if len(since) <= self.enough:
                key = (grid.runs[since[0]].id, self._standard_change(case, int(others[case]), int(since[0])))
                many, nights = changed.get(key, (0, 0))
                changed[key] = many + 1, max(nights, len(since))
        told += [
            f"the standard {label} is another one since {run_id} ({words}): the ratios of {units.many(many, 'case')} to it "
            f"begin anew, with {nights} of the {self.enough} nights before they are judged"
            for (run_id, words), (many, nights) in changed.items()
        ]
        return told

    def _standard_change(self, case: np.integer[Any], before: int, after: int) -> str:
        ids = self.history.cells["standard_environment_id"]
        one, other = ((self.grid.runs[night], str(ids.iloc[self.grid.row[case, night]])) for night in (before, after))
        return ", ".join(each.words for each in version_changes(one, other))

    @property
    def own_record(self) -> OwnRecord:
        """What the gate has seen of this machine so far."""
        found, grid = self.replay, self.grid
        pairs = np.flatnonzero(grid.twin != ABSENT)
        one, other = pairs, grid.twin[pairs]
        judged = found.judged[one] & found.judged[other]

        def alone(matrix: np.ndarray) -> int:
            return int((judged & (matrix[one] != matrix[other])).sum())

        known = ~np.isnan(found.threshold) & (found.nights >= 1) & ~grid.is_twin
        effects = (found.threshold + SURE_TWICE * found.scale)[known & found.judged[:, -1]]
        used = np.bincount(found.estimator[known & found.judged[:, -1]], minlength=len(ESTIMATORS))
        noise = found.aa_noise[used.argmax()]
        return OwnRecord(
            machine_id=grid.machine_id,
            nights=len(grid.runs),
            events=len(found.events),
            cases=int((self.known & ~grid.is_twin).sum()),
            judged=int((found.judged[:, -1] & ~grid.is_twin).sum()),
            aa_nights=2 * int(judged.sum()),
            aa_suspects=alone(found.suspect),
            aa_confirmed=alone(found.confirmed),
            aa_noise=None if np.isnan(noise) else float(noise),
            smallest_effect=float(np.median(effects)) if len(effects) else None,
        )


def _last(matrix: np.ndarray) -> np.ndarray:
    """The last column that is true in each row, ABSENT where none is."""
    if not matrix.shape[1]:
        return np.full(len(matrix), ABSENT)
    return np.where(matrix.any(axis=1), matrix.shape[1] - 1 - matrix[:, ::-1].argmax(axis=1), ABSENT)


def _acknowledged(grid: Grid, said: Sequence[Acknowledgement]) -> tuple[dict[int, np.ndarray], dict[int, str]]:
    """By night, the cases that are acknowledged from it on, and by case what was said last. A twin goes with its equal."""
    ids = [run.id for run in grid.runs]
    place = {cell: case for case, cell in enumerate(grid.axes["cell"])}
    nights: dict[int, np.ndarray] = {}
    notes: dict[int, str] = {}
    for each in said:
        night = each.first(ids)
        if each.machine_id not in (None, grid.machine_id) or night == len(ids):
            continue
        rows = list(place.values()) if each.case == EVERY_CASE else [place[each.case]] if each.case in place else []
        rows += [int(grid.twin[row]) for row in rows if grid.twin[row] != ABSENT]
        nights.setdefault(night, np.zeros(len(place), dtype=bool))[rows] = True
        notes |= dict.fromkeys(rows, f"acknowledged by {each.by}: {each.reason}")
    return nights, notes


def _joined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The cases of all machines with the dtypes of the schema: by state, then the largest change first."""
    frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(CASE_COLUMNS))
    frame = frame.astype({name: COLUMNS[name].dtype for name in CASE_COLUMNS})
    turn = frame["state"].map({str(state): number for number, state in enumerate(State)}).astype("float64")
    keys = frame.assign(turn=turn, size=-frame["change"].abs()).sort_values(
        ["turn", "size", "cell", "machine_id"], kind="stable"
    )
    return frame.loc[keys.index].reset_index(drop=True)


def _of_machine(machine: _Machine) -> list[tuple[Level, str]]:
    """What a machine adds: events, failures, cells lost, or no figures at all."""
    grid, found = machine.grid, []
    if not machine.reports:
        found.append((Level.PARTIAL, f"machine {grid.machine_id} did not report"))
    else:
        for which, words in ((machine.failed, "failed that did not before"), (machine.lost, "lost")):
            cells = grid.axes["cell"].to_numpy()[which & ~grid.is_twin]
            if len(cells):
                statuses = Counter(
                    str(STATUSES[code]) if code != ABSENT else "absent" for code in grid.status[which & ~grid.is_twin, -1]
                )
                told = ", ".join(f"{count} {status}" for status, count in statuses.items())
                found.append((Level.PARTIAL, f"{units.many(len(cells), 'cell')} {words} ({told}): {_first(cells)}"))
    found += [(Level.MACHINE_EVENT, f"machine {event.machine_id}: {event.why}") for event in machine.events]
    found += [(Level.QUIET, note) for note in _notes(machine)]
    ok = grid.status[:, -1] == STATUSES.index(Status.OK)
    barred = int((ok & grid.barred[:, -1]).sum())
    if 2 * barred > int(ok.sum()):
        found.append((Level.INCONCLUSIVE, f"a flag bars the verdict on {barred} of {int(ok.sum())} cells"))
    return found


def _notes(machine: _Machine) -> list[str]:
    """What the night was held against, where the method or the standard has changed."""
    return [*reasons.of_method(machine.grid, machine.enough), *machine.standard()]


def _first(cells: Iterable[str], shown: int = 3) -> str:
    """The first few of them, and how many there are beside."""
    listed = list(cells)
    return ", ".join(listed[:shown]) + (f" and {len(listed) - shown} more" if len(listed) > shown else "")
