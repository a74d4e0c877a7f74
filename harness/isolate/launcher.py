"""Plan -> Records: fresh worker processes for every trial, visited turn by turn, killed when late, replaced when dead."""

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from harness.axes import Device
from harness.errors import UserError
from harness.isolate import offspring, watching
from harness.isolate.bench import Bench, Session, spent, start
from harness.isolate.process import Refusal, Worker
from harness.isolate.windows import windows
from harness.isolate.wire import Adapter, Hello, Look, Setup
from harness.measure import machine
from harness.measure.gpu import Gpu
from harness.plan import Budget, Plan, Step, interpreter
from harness.profile import Profile
from harness.record import Environment, Progress, Record, Status, Visit
from harness.spec import Cell

if TYPE_CHECKING:
    from harness.measure.footprint import Need, Room

LOOK_TIMEOUT_S = 30.0  # importing one file, and whatever a package's own __init__ does

Heard = TypeVar("Heard")


class Launcher(Session):
    """Executes plans on this host."""

    def execute(
        self, plan: Plan, visits: Mapping[int, Sequence[Visit]] = MappingProxyType({})
    ) -> Iterator[Record | Environment | Visit]:  # fmt: skip
        """Every visit when it was made, and of each step a record, which holds the samples of its visits.

        Each environment comes before what was made in it. `visits` are those that there are, by the order of their step.
        """
        self._make_logs()
        there = [visit for of_step in visits.values() for visit in of_step]
        self.processes = max([self.processes, *(visit.process + 1 for visit in there)])
        self.turns = max([self.turns, *(visit.turn + 1 for visit in there)])
        known: set[str] = set()
        parent_ns = 0  # what the caller took for what came before
        with offspring.guarded(), contextlib.closing(self._rounds(plan, visits)) as answers:
            for answer in answers:
                if isinstance(answer, Record):
                    answer, parent_ns = spent(answer, parent=parent_ns), 0
                elif isinstance(answer, Environment):
                    if answer.id in known:
                        continue
                    known.add(answer.id)
                begun = time.perf_counter_ns()
                yield answer
                parent_ns += time.perf_counter_ns() - begun

    def profile(self, plan: Plan, cells: Sequence[Cell], folder: Path | None = None) -> Generator[Profile | Environment]:
        """What runs inside the calls of these cells, each as soon as it is known, by child processes that time nothing.

        The plan says by what budget and interpreters. Traces go to that folder; None: there are none.
        """
        self._make_logs()
        made = watching.profiles(self, plan, cells, folder, physical_cores_first())
        with offspring.guarded(), contextlib.closing(made) as answers:
            yield from answers

    def _make_logs(self) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)
        if self.logs.is_symlink():
            raise UserError(f"{self.logs} is a link, and is not written through")

    def _rounds(self, plan: Plan, visits: Mapping[int, Sequence[Visit]]) -> Generator[Record | Environment | Visit]:
        """Round after round: steps whose workers are alive together."""
        for _, steps in itertools.groupby(plan.steps, key=lambda step: (step.trial, *plan.round(step.cell))):
            together = list(steps)
            available = physical_cores_first()
            able = [step for step in together if step.cell.threads <= len(available)]
            for step in together:
                if step.cell.threads > len(available):
                    reason = f"asks for {step.cell.threads} threads; this process may use {len(available)} cores"
                    yield self.row(step, Status.UNSUPPORTED, reason)
            if not able:
                continue
            device, trial = able[0].cell.device, able[0].trial
            bench = Bench(self, plan, device, available, first=trial == 0)
            try:
                bench.open(able)
                yield from bench.greetings()
                needs = {step.order: _need(step, len(available)) for step in able}
                room = _room(device)
                bench.too_large = {order for order, need in needs.items() if need.lacking(room)}
                found = windows(plan, able, needs, room)
                for number, window in enumerate(found, start=1):
                    yield from bench.measure(window, visits, Progress(trial + 1, number, len(found), 0, 0))
            finally:
                bench.close()


def _need(step: Step, cores: int) -> "Need":
    """The memory that a step needs at the most; whether the backend pads beforehand only it knows."""
    from harness.measure import footprint

    return footprint.need(step.cell, step.cell.threads or cores, prepadded=not step.cell.spec.pads_evenly)


def _room(device: Device) -> "Room":
    """The memory that is left, on the host and on a GPU."""
    from harness.measure import footprint

    return footprint.Look(None if device.kind == "cpu" else Gpu(device.index))()


def physical_cores_first() -> list[int]:
    """The CPUs of this process's affinity in the order in which threads take them: see `machine.in_turn`."""
    return machine.in_turn(os.sched_getaffinity(0))


def probe(
    backends: Mapping[str, str], logs: Path, interpreters: Mapping[str, str] = MappingProxyType({})
) -> dict[str, Hello | str]:  # fmt: skip
    """What each backend says of itself, or why it cannot be loaded, by name; `backends` maps names to module:Class.

    `interpreters` are the paths of those that some backends have of their own.

    One short-lived worker each, side by side, without the settings that hide devices from one another.
    """
    cores = tuple(physical_cores_first())
    asked = {
        name: Setup(target, name, Device("cpu"), cores, Budget(), 0, "probe", probe=True) for name, target in backends.items()
    }
    return _ask(asked, logs, interpreters, Worker.hello)


def look(
    backends: Mapping[str, str], logs: Path, interpreters: Mapping[str, str] = MappingProxyType({})
) -> dict[str, Adapter | str]:  # fmt: skip
    """What each adapter says without its framework, or why it says nothing: its module may do anything when it is imported."""
    asked = {name: Look(name.partition("@")[0], target) for name, target in backends.items()}
    return _ask(asked, logs, interpreters, lambda worker: worker.adapter(LOOK_TIMEOUT_S))


def _ask(
    asked: Mapping[str, Setup | Look], logs: Path, interpreters: Mapping[str, str], hear: Callable[[Worker], Heard | Refusal]
) -> dict[str, Heard | str]:  # fmt: skip
    """What each new worker answers to its first message, or why it does not; none of them is left."""
    logs.mkdir(parents=True, exist_ok=True)
    workers = {name: start(first, logs, name, interpreter(interpreters, name)) for name, first in asked.items()}
    try:
        answers = {name: hear(worker) if isinstance(worker, Worker) else worker for name, worker in workers.items()}
    finally:
        for worker in workers.values():
            if isinstance(worker, Worker):
                worker.stop()
    return {name: answer.reason if isinstance(answer, Refusal) else answer for name, answer in answers.items()}
