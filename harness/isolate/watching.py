"""Profiles of cells, by child processes of their own: nothing that a profile sets or loads reaches a process that is timed.

Cells that share a worker when they are timed share a child. One that hangs or dies costs the profile of the cell that it was
asked for, and the next cell gets another.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from harness.axes import Device
from harness.isolate.bench import Session
from harness.isolate.process import LostError, Refusal, Worker
from harness.isolate.wire import Hello
from harness.plan import Plan, Step, own_process
from harness.profile import Profile, trace_name
from harness.record import Environment
from harness.spec import Cell

# As of the workers of a run: backend, device, threads, what a process is begun with, settings of the process.
Key = tuple[str, Device, int, tuple[tuple[str, str], ...], str]


def _key(cell: Cell) -> Key:
    return cell.backend, cell.device, cell.threads, cell.of_process, own_process(cell)


def profiles(
    session: Session, plan: Plan, cells: Sequence[Cell], folder: Path | None, cores: Sequence[int]
) -> Generator[Profile | Environment]:  # fmt: skip
    """Of each cell a profile, and before it the environment that it was made in, where that is new.

    The traces go to `folder`; None: there are none. `cores` are those that this process may use, in the order in which threads
    take them.
    """
    children: dict[Key, list[Cell]] = {}
    for cell in cells:
        children.setdefault(_key(cell), []).append(cell)
    plan = replace(plan, budget=replace(plan.budget, stay_s=0.0))  # a long stay is there to be timed
    known: set[str] = set()
    for key, asked in children.items():
        with contextlib.closing(_Child(session, plan, key, folder, cores).all(asked)) as answers:
            for answer in answers:
                if isinstance(answer, Environment):
                    if answer.id in known:
                        continue
                    known.add(answer.id)
                yield answer


@dataclass
class _Child:
    """The child process for some cells, and the one that takes its place where it is lost."""

    session: Session
    plan: Plan
    key: Key
    folder: Path | None
    cores: Sequence[int]
    worker: Worker | None = None
    environment_id: str = ""
    refused: str = ""  # why none can be started

    def all(self, cells: Sequence[Cell]) -> Generator[Profile | Environment]:
        """The profiles of these cells, one after the other."""
        try:
            for order, cell in enumerate(cells):
                yield from self._started()
                yield self._profile(Step(0, order, cell))
        finally:
            self._end()

    def _end(self) -> None:
        if self.worker:
            self.worker.stop()
            self.worker = None

    def _started(self) -> Generator[Environment]:
        """See to it that there is a child, unless there can be none."""
        if self.refused or (self.worker and not self.worker.ended()):
            return
        self._end()
        backend, device, threads, options, _ = self.key
        if threads > len(self.cores):
            self.refused = f"asks for {threads} threads; this process may use {len(self.cores)} cores"
            return
        if reason := self.session.hung.get((backend, device)):
            self.refused = f"{backend} could not be set up: {reason}; it was not tried again"
            return
        cores = tuple(self.cores[: threads or len(self.cores)])
        found = self.session.worker(self.plan, backend, device, cores, first=True, profile=True, options=options)
        answer: Hello | Refusal = found if isinstance(found, Refusal) else self._greeted(found)
        if isinstance(answer, Hello):
            self.environment_id = answer.environment.id
            yield answer.environment
            return
        self.worker = None
        if answer.hung:
            self.session.hung[backend, device] = answer.reason
        self.refused = f"{backend} could not be set up: {answer.reason}"

    def _greeted(self, worker: Worker) -> Hello | Refusal:
        self.worker = worker  # so that it is ended where this is interrupted
        return worker.hello()

    def _profile(self, step: Step) -> Profile:
        """The profile of a cell, or why there is none."""
        blank = Profile(self.session.run_id, step.cell, datetime.now(UTC), self.environment_id, problem=self.refused)
        if not self.worker:
            return blank
        budget = self.plan.budget
        trace = str((self.folder / trace_name(step.cell)).absolute()) if self.folder else ""
        try:
            found = self.worker.watch(step, trace, budget.preparing_s(step.cell.device) + budget.timeout_s)
        except LostError as lost:  # it has ended
            self.worker = None
            return replace(blank, problem=f"{lost.status}: {lost.reason}", spent_ns=sum(lost.spent_ns.values()))
        if self.worker.leaving:
            self.worker.kill()
            self.worker = None
        return found
