"""The stored nights of a suite -> the gate's judgement of one of them, its digest, and the history of a single cell."""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness import units
from harness.analysis import changes, gate, reasons
from harness.analysis import history as analysis
from harness.analysis.environments import kind, version_changes
from harness.analysis.gate import NightJudgement
from harness.analysis.history import ABSENT, FIGURES, STATUSES, Grid, History, grids
from harness.analysis.replay import ESTIMATORS, STANDARD, Rules
from harness.analysis.summary import summarize
from harness.analysis.visits import visits
from harness.ask.wording import not_one_of, show
from harness.errors import HistoryError
from harness.flags import Flag
from harness.outcome import State
from harness.record import EVERY_CASE, NIGHTLY, VISITS_SINCE, Acknowledgement, Run, Status
from harness.rows import rows
from harness.store import acknowledgements, nights, table
from harness.store.table import Stored


def history(store: str | Path, suite: str) -> History:
    """The nights of a suite, oldest first: the runs tagged nightly. Tables missing or out of date are made and kept."""
    return History(*nights.load(table.stored(store), suite, read, FIGURES))


def read(of: Stored) -> pd.DataFrame:
    """What is kept of one run for its history, with NIGHT_COLUMNS."""
    return figures(of.run, table.records_of(of), table.samples_of(of))


def figures(run: Run, records: pd.DataFrame, samples: pd.DataFrame) -> pd.DataFrame:
    """The same from its records and samples; a cell that lacks a trial has too few samples for it."""
    summary = summarize(records, samples)
    lacking = set(records.loc[records["status"] == str(Status.NOT_RUN), "cell"])
    short = (summary["status"] == str(Status.OK)) & summary["cell"].isin(lacking)
    summary = summary.assign(barred_by=summary["barred_by"].mask(short, str(Flag.FEW_SAMPLES)))
    return analysis.night(summary, visits(samples) if run.standard else None, run.standard, samples)


def both_ways(store: str | Path, suite: str, machine_id: str) -> bool:
    """Whether the next night of a suite on a machine is to be measured by long stays as well: its method would be another one.

    So it is where the last night with figures is by the method that stays sample like. A night that was cut off and is not
    resumed does not count as one by its method.
    """
    known = history(store, suite)
    here = known.cells[(known.cells["machine_id"] == machine_id) & (known.cells["status"] == str(Status.OK))]
    measured = set(here["run_id"].unique())
    methods = [
        run.method_version for run in known.runs
        if run.id in measured and (run.finished_at or run.method_version < VISITS_SINCE)
    ]  # fmt: skip
    return bool(methods) and methods[-1] == VISITS_SINCE - 1


# One night ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Night:
    """A stored night among those before it; it is the newest of `history`.

    `acknowledged` is what people have said of its cases. `unmeasured` says why nothing was measured, where nothing was.
    """

    run: Run
    history: History
    acknowledged: tuple[Acknowledgement, ...] = ()
    unmeasured: str = ""

    @property
    def before(self) -> Run | None:
        """The last run before it that says what it was measured with, on one of the same machines; None: there is none."""
        here = _machines(self.run)
        earlier = [run for run in self.history.runs if run.id != self.run.id and run.environments]
        return next((run for run in reversed(earlier) if not here or _machines(run) & here), None)

    def baseline(self, judgement: NightJudgement) -> str:
        """What its cases were held against, in words: a case may have fewer good nights than another. Empty for nothing."""
        most = int(judgement.cases["nights"].max()) if len(judgement.cases) else 0
        if not most or self.before is None:
            return ""
        beside = (judgement.cases["estimator"] == ESTIMATORS[STANDARD]).any()
        how = f", by the ratio to the standard {self.run.standard} visited beside each cell" if beside else ""
        return f"up to {most} earlier nights, the last of {self.before.started_at:%Y-%m-%d}{how}"

    def judge(self, invalid: Sequence[str] = (), rules: Rules | None = None) -> NightJudgement:
        """The gate's judgement, by other than its own rules where some are given; `invalid` are the checks that block one."""
        barring = (self.unmeasured, *invalid) if self.unmeasured else invalid
        return gate.judge(self.history, self.acknowledged, invalid=tuple(barring), rules=rules)

    def figures(self) -> pd.DataFrame:
        """A row per night and cell of this night's machines, as the page draws them.

        `run_id`, `started_at`, `cell`, `backend`, `device`, `status`, `median_ns`, and `night_ns`, missing under a status
        that is not ok or a flag that bars a verdict.
        """
        cells = self.history.cells
        here = _machines(self.run) or (_machines(self.before) if self.before else set())
        here_cells = cells[cells["machine_id"].astype("string").isin(here) & ~self.history.beside].astype({"run_id": object})
        good = (here_cells["status"] == str(Status.OK)) & (here_cells["barred_by"] == "")
        began = {run.id: run.place[0] for run in self.history.runs}  # a page draws them by time
        here_cells = here_cells.assign(started_at=here_cells["run_id"].map(began), night_ns=here_cells["median_ns"].where(good))
        names = ["run_id", "started_at", "cell", "backend", "device", "status", "median_ns", "night_ns"]
        return here_cells[names].reset_index(drop=True)

    def breaks(self) -> tuple[tuple[str, str], ...]:
        """The ids of runs before which versions changed, and which."""
        told = [run for run in self.history.runs if _machines(run) & _machines(self.run)]
        breaks = ((after.id, ", ".join(changed(before, after))) for before, after in pairwise(told))
        return tuple((run_id, words) for run_id, words in breaks if words)


def _machines(run: Run) -> set[str]:
    return set(run.machines)


def changed(before: Run, run: Run) -> tuple[str, ...]:
    """The versions that differ between two runs, each once."""
    old = {kind(each): each.id for each in before.environments}
    told = [version_changes((before, old[kind(each)]), (run, each.id)) for each in run.environments if kind(each) in old]
    return tuple(dict.fromkeys(each.words for each in chain.from_iterable(told)))


# One cell -----------------------------------------------------------------------------------------------------------------


def of_cell(store: Path, name: str, suite: str | None = None) -> pd.DataFrame:
    """A row per night and machine of one cell, oldest first.

    `run_id`, `started_at`, `machine_id`, `status`, `flags` (those that bar a verdict), `median_ns`, `yardstick_ratio`,
    `vs_standard`, `segment` (a number, from 0, that changes with the versions), `changed` (which of them differ from the night
    before), `step` (what the change point before this night changed, 0.08 is 8 % slower; missing: there is none) and `note`
    (what was acknowledged from here on).

    `name` is the id of a cell or the start of one alone; `suite` is that of the newest night by default. `attrs` holds the
    `cell`, its `shape`, `now`, lines on what the gate says of it, and `machines`, by id in words. Raises HistoryError.
    """
    known = history(store, suite or _newest_suite(store))
    if not known.runs:
        raise HistoryError(f"{store}: holds no night of suite {suite!r}; convbench nightly {suite} makes one")
    cell = find_cell(known, name)
    said = acknowledgements.read(store)
    frames = [_of_grid(known, grid, cell, said) for grid in grids(known, every=True) if cell in set(grid.axes["cell"])]
    nights_of_cell = pd.concat(frames, ignore_index=True).sort_values("machine_id", kind="stable", ignore_index=True)
    names = {machine_id: words for run in known.runs for machine_id, words in run.machines.items()}
    here = {str(machine_id): names.get(machine_id, "") for machine_id in nights_of_cell["machine_id"].unique()}
    shape = str(known.cells.loc[known.cells["cell"] == cell, "shape"].iloc[-1])
    nights_of_cell.attrs = {"cell": cell, "shape": shape, "now": _now(known, said, cell, nights_of_cell), "machines": here}
    return nights_of_cell


def _now(known: History, said: Sequence[Acknowledgement], cell: str, nights_of_cell: pd.DataFrame) -> list[str]:
    """What the gate says of a cell, a line per machine: on the newest night, or on the machine's own newest."""
    newest = gate.judge(known, said).cases
    told = [newest]
    for machine_id, mine in nights_of_cell.groupby("machine_id", sort=True):
        if machine_id not in set(newest["machine_id"]):
            earlier = gate.judge(known.until(mine["run_id"].iloc[-1]), said).cases
            told.append(earlier[earlier["machine_id"] == machine_id])
    return [_line(row) for cases in told for row in rows(cases[cases["cell"] == cell])]


def _line(row: Any) -> str:
    told = f"{row.cell}: {State(row.state).words}"
    how = f" {reasons.correction(row.estimator)}" if reasons.correction(row.estimator) else ""
    told += f", {units.percent(row.change)}{how} over {row.nights} nights" if pd.notna(row.change) else f", {row.nights} nights"
    told += f", since {row.since}" if row.since else ""
    told += f", before {row.dated}" if row.dated and row.dated != row.since else ""
    told += f", with {row.cause}" if row.cause else ""
    return f"{told} (machine {row.machine_id})"


def _newest_suite(store: Path) -> str:
    for run in reversed(table.runs(store)):
        if NIGHTLY in run.tags:
            return run.suite
    raise HistoryError(f"{store}: holds no night; convbench nightly SUITE makes one")


def find_cell(known: History, name: str) -> str:
    """The cell of that id, or the only one whose id begins so. Raises HistoryError, which names those nearby."""
    cells = sorted(map(str, known.cells["cell"][~known.beside].unique()))
    if name in cells:
        return name
    begun = [cell for cell in cells if cell.startswith(name)]
    if len(begun) == 1:
        return begun[0]
    if begun and name:
        shown = ", ".join(begun[:3]) + (f" and {len(begun) - 3} more" if len(begun) > 3 else "")
        raise HistoryError(f"cell: {name!r} is the start of {len(begun)}: {shown}")
    near = difflib.get_close_matches(name, cells, n=3, cutoff=0.0)
    raise HistoryError(f"cell: found {show(name)}; nearest of {len(cells)}: {', '.join(near) or 'none'}")


def _of_grid(known: History, grid: Grid, cell: str, said: Sequence[Acknowledgement]) -> pd.DataFrame:
    case = list(grid.axes["cell"]).index(cell)
    rows, last = [], None
    steps = dict(_steps(grid.raw[case]))
    for night, run in enumerate(grid.runs):
        row = int(grid.row[case, night])
        if row == ABSENT:
            continue
        told = known.cells.iloc[row]
        here = (run, str(told["environment_id"]))
        versions = ", ".join(each.words for each in version_changes(last, here))
        rows.append({
            "run_id": run.id, "started_at": run.started_at, "machine_id": grid.machine_id,
            "status": str(STATUSES[grid.status[case, night]]), "flags": str(told["barred_by"]), "median_ns": told["median_ns"],
            "yardstick_ratio": told["yardstick_ratio"], "vs_standard": told["vs_standard"],
            "segment": int(grid.segment[case, night]), "changed": versions, "step": steps.get(night, np.nan), "note": "",
        })  # fmt: skip
        last = here if here[1] else last
    frame = pd.DataFrame(rows)
    frame["segment"] = pd.factorize(frame["segment"])[0]
    for each in said:
        if each.case in (cell, EVERY_CASE) and each.machine_id in (None, grid.machine_id):
            first = each.first(list(frame["run_id"]))
            if first < len(frame):
                frame.loc[first, "note"] = f"acknowledged by {each.by}: {each.reason}"
    return frame


def _steps(series: np.ndarray) -> Iterator[tuple[int, float]]:
    """The nights before which a change point lies, of those that are looked at, and what it changed."""
    first = max(0, len(series) - changes.NIGHTS)
    (points,) = changes.change_points(series[None, first:])
    for point in points:
        yield first + point, changes.step(series[first:], points, point)


def acknowledge(
    store: Path, name: str, reason: str, by: str, *, suite: str | None = None, from_run: str | None = None, at: datetime
) -> Acknowledgement:
    """Keep that a cell's new level is known, from a run on: by default from the first night of what the gate holds against it.

    Without anything held against it, from the newest night on. `name` as in `of_cell`, or EVERY_CASE. Raises HistoryError.
    """
    if not reason.strip():
        raise HistoryError("--reason: found none; say what is known, the report shows it")
    known = history(store, suite or _newest_suite(store))
    if not known.runs:
        raise HistoryError(f"{store}: holds no night of suite {suite!r}; convbench nightly {suite} makes one")
    cell = EVERY_CASE if name == EVERY_CASE else find_cell(known, name)
    ids = [run.id for run in known.runs]
    if from_run is None:
        judged = gate.judge(known, acknowledgements.read(store))
        since = [run for run in judged.cases.loc[judged.cases["cell"] == cell, "since"] if run]
        since += [step.since for step in judged.costs if step.cell == cell]
        from_run = min(since, default=ids[-1], key=ids.index)
    elif not any(id.startswith(from_run) for id in ids):
        raise HistoryError(f"--from: {not_one_of(from_run, ids[::-1])}")
    said = Acknowledgement(cell, None, from_run, " ".join(reason.split()), by, at)
    acknowledgements.append(store, said)
    return said
