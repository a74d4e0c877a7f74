"""Profiles without timing: they join the latest run that timed their cells, or stand in a run of their own."""

import contextlib
from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from harness.ask.selection import Selection
from harness.ask.suite import Suite
from harness.errors import SelectionError, UserError
from harness.execution import execute, host, profiles
from harness.execution.interrupts import Interrupts
from harness.execution.watcher import Watcher, tolerant
from harness.isolate.launcher import Launcher
from harness.measure import environment
from harness.plan import Plan
from harness.profile import Profile
from harness.record import METHOD_VERSION, Environment, Run, Status
from harness.spec import Cell
from harness.store import journal, table

PROFILE = "profile"  # the tag of a run that holds nothing but profiles


@dataclass(frozen=True)
class Profiled:
    """The folder of the run that the profiles stand in, and the ids of the cells that were asked for."""

    folder: Path
    cells: tuple[str, ...]


def profile(
    suite: Suite, selection: Selection, *, out: str | Path = "results", watcher: Watcher | None = None, command: str = "",
    machine: str | None = None, lock: host.Lock | None = None,
) -> Profiled:  # fmt: skip
    """Profile the convolutions that the selection leaves of a suite, each in a child process; what is timed is not timed again.

    The profiles join the latest run of that suite that timed all of them here, by this method; without one they stand in
    a new run. `lock` is as in `execute`. Raises UserError before anything is profiled; what was profiled is kept where this is
    interrupted.
    """
    here, watching = environment.describe("", (), environment.machine_name(machine)), tolerant(watcher)
    with contextlib.nullcontext(lock) if lock else host.alone() as held:
        plan, _ = execute.prepare(suite, selection, 0, ceilings=False, watcher=watching)
        watching.lacking(plan.absent)
        cells = plan.profilable
        if not cells:
            raise SelectionError(f"suite {suite.name!r}: no convolution is left to be profiled")
        folder = _that_timed(Path(out), suite.name, cells, here)
        if folder is None:
            folder = journal.create(out, execute.begun(suite, plan, out, here, [PROFILE], plan.seed, command))
        run = journal.read_run(folder)
        if held:
            held.tell(run.id)
        for _ in _kept(folder, run, replace(plan, seed=run.seed), cells, watching):
            pass
    return Profiled(folder, tuple(map(str, cells)))


def of_run(folder: Path, cells: Sequence[Cell]) -> Generator[Profile]:
    """Profile cells of a run that has ended, by its plan: each profile once it is kept in its folder. Who calls holds the lock.

    Whoever closes this early ends the profiling; the run is sealed again whatever ends it.
    """
    return _kept(folder, journal.read_run(folder), journal.read_plan(folder), cells, Watcher())


def _that_timed(store: Path, suite: str, cells: Collection[Cell], here: Environment) -> Path | None:
    """The folder of the latest run of a suite that has ended, and timed all of these cells on this machine by this method."""
    for of in reversed(table.stored(store)):
        known = of.run.planned_on
        if of.run.suite != suite or of.run.method_version != METHOD_VERSION or not of.run.finished_at or of.folder.is_symlink():
            continue
        if known is None or known.machine_id != here.machine_id or not (of.folder / journal.JOURNAL).exists():
            continue
        try:
            records = table.records_of(of)
        except UserError:  # a damaged run, as whoever reads it is told
            continue
        timed = records[records["status"] == str(Status.OK)]
        there = set(zip(timed["cell"], timed["shape"], strict=True))
        if all((str(cell), str(cell.spec)) in there for cell in cells):
            return of.folder
    return None


def _kept(folder: Path, run: Run, plan: Plan, cells: Sequence[Cell], watcher: Watcher) -> Generator[Profile]:
    """Profile these cells into the folder of a run, and seal it whatever ends that."""
    executor = Launcher(run.id, folder / execute.LOGS, machine=run.planned_on.machine if run.planned_on else "")
    with Interrupts() as interrupts, journal.Journal(folder) as book:
        try:
            yield from profiles.keep(book, folder, executor, plan, cells, interrupts, watcher)
        finally:
            interrupts.shut()
            book.sync()
            if run.finished_at is None:
                environments = tuple(journal.read(folder)[1])
                journal.finish(folder, replace(run, finished_at=datetime.now(UTC), environments=environments))
            table.seal(folder)
    if interrupts.waiting:
        raise interrupts.waiting
