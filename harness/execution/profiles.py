"""Profiles of a run's cells, kept in its journal as they come: after its last trial, or later."""

import contextlib
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

from harness import drafts
from harness.ask import expression
from harness.errors import SelectionError
from harness.execution.interrupts import Interrupts
from harness.execution.watcher import Watcher
from harness.isolate.launcher import Launcher
from harness.plan import Plan
from harness.profile import TRACES, Profile
from harness.record import Status
from harness.spec import Cell
from harness.store import journal


def fitting(text: str) -> Callable[[str], bool]:
    """Whether the id of a cell fits a -k expression; an empty one fits all. Raises SelectionError."""
    try:
        return expression.keyword(text) if text else lambda cell: True
    except ValueError as error:
        raise SelectionError(f"--profile: {error}") from None


def missing(folder: Path, plan: Plan) -> list[Cell]:
    """The cells of a run that its plan wants profiled and that lack one, of those that were timed."""
    if plan.profile is None:
        return []
    found, fits = journal.scan(folder), fitting(plan.profile)
    timed = {str(record.cell) for record in found.records if record.status is Status.OK}
    lacking = timed - {str(profile.cell) for profile in found.profiles if profile.kernels}
    return [cell for cell in plan.profilable if str(cell) in lacking and fits(str(cell))]


def keep(
    book: journal.Journal, folder: Path, executor: Launcher, plan: Plan, cells: Sequence[Cell], interrupts: Interrupts,
    watcher: Watcher,
) -> Generator[Profile]:  # fmt: skip
    """Profile these cells: each profile once it is kept, with its environment and its trace, in the folder of the run.

    Whoever closes this early ends the profiling. What a child that was lost had written of a trace is removed in the end.
    """
    watcher.profiling(len(cells))
    try:
        with contextlib.closing(executor.profile(plan, cells, folder)) as answers:
            for answer in answers:
                with interrupts.put_off():
                    book.append(answer)
                if isinstance(answer, Profile):
                    watcher.profiled(answer)
                    yield answer
                else:
                    watcher.environment(answer)
    finally:
        drafts.sweep(folder / TRACES)
