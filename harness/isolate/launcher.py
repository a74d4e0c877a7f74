"""Plan -> Records: fresh worker processes for every trial, one cell at a time, killed when late, replaced when dead.

The parent sleeps on the socket while a worker measures; it never polls. What goes wrong in a worker becomes the row of the
cell that was being measured, and a fresh worker goes on with the next one.
"""

import contextlib
import itertools
import math
import os
import time
import urllib.parse
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from harness.axes import Device
from harness.backends import registry
from harness.errors import UserError
from harness.isolate import offspring
from harness.isolate.process import LostError, Observe, Refusal, Worker
from harness.isolate.wire import Adapter, Hello, Look, Setup
from harness.measure import machine
from harness.plain import plain
from harness.plan import Budget, Plan, Step
from harness.record import Environment, Flag, Progress, Record, Status

LOOK_TIMEOUT_S = 30.0  # importing one file, and whatever a package's own __init__ does

Doubts = Callable[[Record], tuple[Flag, ...]]
Heard = TypeVar("Heard")


def _nobody(step: Step, progress: Progress) -> None:
    """Nobody watches."""


def _none(record: Record) -> tuple[Flag, ...]:
    """Every record is good enough."""
    return ()


def start(first: Setup | Look, logs: Path, name: str) -> Worker | Refusal:
    """A worker whose output goes to the log of that name, or why none could be started."""
    try:
        return Worker(first, _log(logs, name))
    except OSError as error:  # no interpreter, no process or file left, no log
        return Refusal(plain(f"no process could be started: {error}"))


@dataclass
class Launcher:
    """Executes plans on this host. `logs` is where the workers' own output goes, one file per backend.

    `doubts` tells the flags that bar a record: such a cell is measured once more, and its second record says why. `machine` is
    the name that this one was given.
    """

    run_id: str
    logs: Path
    observe: Observe = _nobody
    targets: Mapping[str, str] = field(default_factory=dict)  # backend -> module:Class, for those not registered
    doubts: Doubts = _none
    hung: dict[tuple[str, Device], str] = field(default_factory=dict)  # those that were waited for in vain, and are not again
    machine: str = ""

    def execute(self, plan: Plan, before: Sequence[Record] = ()) -> Iterator[Record | Environment]:
        """Round after round the records in the order of the plan, then those of cells measured once more, with the old `order`.

        Each environment comes before the first record made in it. `before` are records that are there already: their steps are
        not measured anew, but once more as if they had been measured now, where that was not done yet.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        if self.logs.is_symlink():
            raise UserError(f"{self.logs} is a link, and is not written through")
        known: set[str] = set()
        done = {record.order: record for record in before}  # of a cell that was measured once more, that record
        parent_ns = 0  # what the caller took for the records before this one
        with offspring.guarded(), contextlib.closing(self._rounds(plan, done)) as answers:
            for answer, barred in answers:
                if isinstance(answer, Record):
                    answer, parent_ns = _spent(answer, parent=parent_ns), 0
                elif answer.id in known:
                    continue
                else:
                    known.add(answer.id)
                begun = time.perf_counter_ns()
                yield answer
                if isinstance(answer, Record) and not answer.repeated_for and (flags := self.doubts(answer)):
                    barred[answer.order] = flags
                parent_ns += time.perf_counter_ns() - begun

    def _rounds(
        self, plan: Plan, done: Mapping[int, Record]
    ) -> Generator[tuple[Record | Environment, dict[int, tuple[Flag, ...]]]]:
        """Every answer, with what is barred of its round, by order; the round reads that when all else of it is measured."""
        for _, steps in itertools.groupby(plan.steps, key=lambda step: (step.trial, step.cell.device, step.cell.threads)):
            together = list(steps)
            there = [done[step.order] for step in together if step.order in done]
            barred = {record.order: flags for record in there if (flags := record.repeated_for or self.doubts(record))}
            with contextlib.closing(self._round(plan, together, barred, done)) as answers:
                for answer in answers:
                    yield answer, barred

    def _round(
        self, plan: Plan, steps: list[Step], barred: Mapping[int, tuple[Flag, ...]], done: Mapping[int, Record]
    ) -> Generator[Record | Environment]:
        """Steps that can share workers: one trial, one device, one number of threads; then those that are `barred` by then."""

        def again() -> list[Step]:
            some = [step for step in steps if step.order in barred][: math.ceil(plan.budget.repeat_share * len(steps))]
            return [step for step in some if not (step.order in done and done[step.order].repeated_for)]

        left = [step for step in steps if step.order not in done]
        if not left and not again():
            return
        device, threads = steps[0].cell.device, steps[0].cell.threads
        available = physical_cores_first()
        if threads > len(available):
            reason = f"asks for {threads} threads; this process may use {len(available)} cores"
            yield from (self.row(step, Status.UNSUPPORTED, reason) for step in left)
            return
        cores = tuple(available[: threads or len(available)])
        bench = _Bench(self, plan, device, cores)
        try:
            bench.open(dict.fromkeys(step.cell.backend for step in left or again()))
            yield from bench.greetings()
            for step in left:
                yield from bench.measure(step)
            # At the end of the round, when what disturbed a cell may have passed, and by the same processes.
            for step in again():
                for answer in bench.measure(step):
                    yield replace(answer, repeated_for=barred[step.order]) if isinstance(answer, Record) else answer
        finally:
            bench.close()

    def target(self, backend: str) -> str:
        """`module:Class` of a backend; `torch@old` is torch under another name."""
        return self.targets.get(backend) or registry.find(backend.partition("@")[0])

    def row(self, step: Step, status: Status, reason: str, environment_id: str = "") -> Record:
        """The row of a step that no worker answered."""
        now = datetime.now(UTC)
        return Record(self.run_id, step.trial, step.order, step.cell, status, now, reason, environment_id=environment_id)


def _spent(record: Record, **more_ns: int) -> Record:
    """The record with more entries of where the time went."""
    return replace(record, spent_ns={**(record.spent_ns or {}), **more_ns})


class _Bench:
    """The workers of one round, by backend."""

    def __init__(self, launcher: Launcher, plan: Plan, device: Device, cores: tuple[int, ...]) -> None:
        self.launcher, self.plan, self.device, self.cores = launcher, plan, device, cores
        self.workers: dict[str, Worker] = {}
        self.environments: dict[str, str] = {}
        self.refusals: dict[str, tuple[Status, str]] = {}
        self.start_ns = 0  # time taken by starting workers since the last record

    def open(self, backends: Mapping[str, None]) -> None:
        """Start a worker for each; they import side by side, since nothing is measured yet."""
        for backend in backends:
            if reason := self.launcher.hung.get((backend, self.device)):
                self._refuse(backend, Refusal(f"{reason}; it was not tried again"))
            else:
                self._start(backend)

    def _start(self, backend: str) -> None:
        plan, launcher = self.plan, self.launcher
        setup = Setup(
            launcher.target(backend), backend, self.device, self.cores, plan.budget, plan.seed, launcher.run_id,
            machine=launcher.machine,
        )  # fmt: skip
        worker = start(setup, launcher.logs, backend)
        if isinstance(worker, Worker):
            self.workers[backend] = worker
        else:
            self._refuse(backend, worker)

    def _refuse(self, backend: str, why: Refusal) -> None:
        """Its cells of this round become rows that say why."""
        if why.hung:
            self.launcher.hung[backend, self.device] = why.reason
        absent = why.status is Status.SKIPPED
        self.refusals[backend] = why.status, why.reason if absent else f"{backend} could not be set up: {why.reason}"

    def greetings(self) -> Iterator[Environment]:
        """The environments of the workers that are ready, once all are ready or have refused."""
        for backend in list(self.workers):
            yield from self._greet(backend)

    def _greet(self, backend: str) -> Iterator[Environment]:
        begun = time.perf_counter_ns()
        answer = self.workers[backend].hello()
        self.start_ns += time.perf_counter_ns() - begun
        if isinstance(answer, Hello):
            self.environments[backend] = answer.environment.id
            yield answer.environment
        else:
            del self.workers[backend]
            self._refuse(backend, answer)

    def measure(self, step: Step) -> Iterator[Record | Environment]:
        """The record of a step, whatever happens; a new worker's environment before it."""
        backend, row = step.cell.backend, self.launcher.row
        if backend in self.workers and self.workers[backend].ended():
            self.workers.pop(backend).kill()  # it died while idle, which is no fault of this step
        if backend not in self.workers and backend not in self.refusals:
            self._start(backend)
            if backend in self.workers:
                yield from self._greet(backend)
        if backend in self.refusals:
            yield row(step, *self.refusals[backend])
            return
        worker, start_ns, self.start_ns = self.workers[backend], self.start_ns, 0
        try:
            record = worker.measure(step, self.plan.budget.timeout_s, self.launcher.observe)
        except LostError as lost:
            del self.workers[backend]
            record = replace(row(step, lost.status, lost.reason, self.environments[backend]), spent_ns=lost.spent_ns)
        else:
            # One that leaves is not found dead later: it may take seconds to end, and be asked meanwhile. And whoever gave a
            # wrong result may have written where it should not: nothing that it says later would be worth anything.
            if worker.leaving or record.status is Status.INCORRECT:
                self.workers.pop(backend).kill()
        yield _spent(record, start=start_ns)

    def close(self) -> None:
        """End all workers."""
        for worker in self.workers.values():
            worker.stop()
        self.workers.clear()


def _log(logs: Path, backend: str) -> Path:
    """The file for what a backend's workers print: in this folder, whatever its label holds."""
    return logs / f"{urllib.parse.quote(backend, safe='@+')[:200]}.log"


def physical_cores_first() -> list[int]:
    """The CPUs of this process's affinity in the order in which threads take them: see `machine.in_turn`."""
    return machine.in_turn(os.sched_getaffinity(0))


def probe(backends: Mapping[str, str], logs: Path) -> dict[str, Hello | str]:
    """What each backend says of itself, or why it cannot be loaded, by name; `backends` maps names to module:Class.

    One short-lived worker each, side by side, without the settings that hide devices from one another.
    """
    cores = tuple(physical_cores_first())
    asked = {
        name: Setup(target, name, Device("cpu"), cores, Budget(), 0, "probe", probe=True) for name, target in backends.items()
    }
    return _ask(asked, logs, Worker.hello)


def look(backends: Mapping[str, str], logs: Path) -> dict[str, Adapter | str]:
    """What each adapter says without its framework, or why it says nothing: its module may do anything when it is imported."""
    asked = {name: Look(name.partition("@")[0], target) for name, target in backends.items()}
    return _ask(asked, logs, lambda worker: worker.adapter(LOOK_TIMEOUT_S))


def _ask(asked: Mapping[str, Setup | Look], logs: Path, hear: Callable[[Worker], Heard | Refusal]) -> dict[str, Heard | str]:
    """What each new worker answers to its first message, or why it does not; none of them is left."""
    logs.mkdir(parents=True, exist_ok=True)
    workers = {name: start(first, logs, name) for name, first in asked.items()}
    try:
        answers = {name: hear(worker) if isinstance(worker, Worker) else worker for name, worker in workers.items()}
    finally:
        for worker in workers.values():
            if isinstance(worker, Worker):
                worker.stop()
    return {name: answer.reason if isinstance(answer, Refusal) else answer for name, answer in answers.items()}
