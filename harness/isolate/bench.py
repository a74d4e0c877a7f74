"""The workers of one round: what is prepared in them, whose turn it is, and what becomes of a step whose worker is lost.

Nothing runs beside anything else: while one worker measures, the others sleep on their sockets, and so does the parent. What
goes wrong in a worker becomes the row of the cell that was asked for; what else the worker had prepared is prepared anew by a
fresh one when its turn comes.
"""

from __future__ import annotations

import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from harness.axes import Device
from harness.backends import registry
from harness.isolate import interpreter
from harness.isolate.process import LostError, Refusal, Worker
from harness.isolate.windows import Window
from harness.isolate.wire import Hello, Look, Setup
from harness.measure.environment import told_by_nvml
from harness.plain import plain
from harness.plan import FIRST_VISITS, Plan, Step, own_process
from harness.record import Environment, Progress, Record, Status, Visit, joined, summed

_IDLE_DEATHS = 3  # so often may a worker end while nothing is asked of it, unless one lived through a turn in between

# A worker serves one backend with one number of threads and one way to choose kernels, and one kind of settings at a time.
Key = tuple[str, int, tuple[tuple[str, str], ...], str]


def start(first: Setup | Look, logs: Path, name: str, python: str | None = None) -> Worker | Refusal:
    """A worker whose output goes to the log of that name, or why none could be started.

    `python` is the path of a foreign interpreter, which may have no NVML and is told what this one's tells; None: this one.
    """
    if python and isinstance(first, Setup):
        first = replace(first, **told_by_nvml(first.device))
    try:
        return Worker(first, _log(logs, name), python)
    except OSError as error:  # no interpreter, no process or file left, no log
        if python and error.filename == python:
            return Refusal(f"its interpreter cannot be started: {error.strerror}")
        return Refusal(interpreter.hidden(plain(f"no process could be started: {error}"), python))


def _log(logs: Path, backend: str) -> Path:
    """The file for what a backend's workers print: in this folder, whatever its label holds."""
    return logs / f"{urllib.parse.quote(backend, safe='@+')[:200]}.log"


def _nobody(progress: Progress) -> None:
    """Nobody watches."""


@dataclass
class Session:
    """What the rounds of a run have in common: where workers come from, and how many there were.

    `logs` is where the workers' own output goes, one file per backend. `observe` is told after every turn. `machine` is the
    name that this one was given.
    """

    run_id: str
    logs: Path
    observe: Callable[[Progress], None] = _nobody
    targets: Mapping[str, str] = field(default_factory=dict)  # backend -> module:Class, for those not registered
    hung: dict[tuple[str, Device], str] = field(default_factory=dict)  # those that were waited for in vain, and are not again
    machine: str = ""
    cache: Path | None = None  # where compilers keep what they compiled for the trials after the first; None: nowhere
    processes: int = 0  # how many workers there were; the number of the next one
    turns: int = 0  # how many turns there were; the number of the next one

    def worker(
        self, plan: Plan, backend: str, device: Device, cores: tuple[int, ...], *, first: bool, profile: bool = False,
        options: Sequence[tuple[str, str]] = (),
    ) -> Worker | Refusal:  # fmt: skip
        """A new worker that uses these cores, or why there is none. In the `first` trial compilers compile anew.

        With `profile` it is one that tells what runs inside calls, and is asked for nothing else. `options` are those of
        `Cell.of_process`.
        """
        cache = "" if first or self.cache is None or device.kind != "cpu" else str(self.cache.absolute())
        setup = Setup(
            self.target(backend), backend, device, cores, plan.budget, plan.seed, self.run_id, machine=self.machine,
            cache=cache, profile=profile, options=dict(options),
        )  # fmt: skip
        return start(setup, self.logs, backend, plan.interpreter(backend))

    def target(self, backend: str) -> str:
        """`module:Class` of a backend; `torch@old` is torch under another name."""
        return self.targets.get(backend) or registry.find(backend.partition("@")[0])

    def row(self, step: Step, status: Status, reason: str, environment_id: str = "") -> Record:
        """The row of a step that no worker answered."""
        now = datetime.now(UTC)
        return Record(self.run_id, step.trial, step.order, step.cell, status, now, reason, environment_id=environment_id)


def spent(record: Record, **more_ns: int) -> Record:
    """The record with more entries of where the time went."""
    return replace(record, spent_ns={**(record.spent_ns or {}), **more_ns})


@dataclass
class _Going:
    """A step that is being measured."""

    step: Step
    visits: list[Visit]
    process: int = -1  # the worker that has it prepared
    settings: str = ""  # what keeps it apart from what the backend's first worker has prepared; as of `own_process`
    first: Record | None = None  # what was read of it while nothing else was prepared
    beside: str = ""  # whose company left too little of the GPU's memory for it, so that it is measured once more alone
    spent_ns: dict[str, int] = field(default_factory=dict)  # but for the visits, which have their own

    @property
    def key(self) -> Key:
        """The worker that it belongs to."""
        return _key(self.step, self.settings)

    def whole(self, record: Record) -> Record:
        """Its record, with what was read before, and with the samples of its visits."""
        took = summed(self.spent_ns, record.spent_ns, *(visit.spent_ns for visit in self.visits))
        record = replace(record, spent_ns=took)
        if self.beside:
            told = {"memory": f"ran out beside {self.beside}; measured alone"}
            record = replace(record, settings={**(record.settings or {}), **told})
        if record.samples is None:
            return record
        samples = joined(record.samples, self.visits)
        if self.first and self.first.samples:
            samples = replace(samples, first_call_ns=self.first.samples.first_call_ns)
            memory, power, flop = self.first.memory, self.first.power, self.first.flop_framework
            record = replace(record, memory=memory, power=power, flop_framework=flop)
        if not any(series.visits for series in samples.series):
            why = f"each visit was void: {self.visits[-1].reason}" if self.visits else "it was not visited"
            return replace(record, status=Status.ERROR, reason=why, samples=None)
        return replace(record, samples=samples)


def _key(step: Step, settings: str) -> Key:
    """The worker of a step that needs these settings of its process."""
    return step.cell.backend, step.cell.threads, step.cell.of_process, settings


def _begun(step: Step, visits: Sequence[Visit]) -> _Going:
    return _Going(step, list(visits), settings=own_process(step.cell))


@dataclass
class _Life:
    """A worker, and its number in the run."""

    worker: Worker
    process: int


class Bench:
    """The workers of one round."""

    def __init__(self, session: Session, plan: Plan, device: Device, cores: Sequence[int], *, first: bool) -> None:
        self.session, self.plan, self.device, self.cores, self.first = session, plan, device, cores, first
        self.lives: dict[Key, _Life] = {}
        self.environments: dict[Key, str] = {}
        self.refusals: dict[Key, tuple[Status, str]] = {}
        self.deaths: Counter[Key] = Counter()  # of workers that nothing was asked of, since one lived through a turn
        self.going: dict[int, _Going] = {}  # the steps of the window that have not ended, by order
        self.starved: list[_Going] = []  # those that the GPU's memory did not suffice for beside others
        self.too_large: Set[int] = frozenset()  # the orders of steps that do not fit while nothing is prepared
        self.start_ns = 0  # time taken by starting workers since the last record

    # Workers ----------------------------------------------------------------------------------------------------------------

    def open(self, steps: Sequence[Step]) -> None:
        """Start each worker that the steps have need of; they import side by side, since nothing is measured yet."""
        for key in dict.fromkeys(_key(step, own_process(step.cell)) for step in steps):
            self._start(key)

    def greetings(self) -> Iterator[Environment]:
        """The environments of the workers that are ready, once all are ready or have refused."""
        for key in list(self.lives):
            yield from self._greet(key)

    def close(self) -> None:
        """End all workers."""
        for life in self.lives.values():
            life.worker.stop()
        self.lives.clear()

    def _start(self, key: Key) -> None:
        backend, threads, options, _ = key
        if reason := self.session.hung.get((backend, self.device)):
            self._refuse(key, Refusal(f"{reason}; it was not tried again"))
            return
        cores = tuple(self.cores[: threads or len(self.cores)])
        worker = self.session.worker(self.plan, backend, self.device, cores, first=self.first, options=options)
        if isinstance(worker, Worker):
            self.lives[key] = _Life(worker, self.session.processes)
            self.session.processes += 1
        else:
            self._refuse(key, worker)

    def _refuse(self, key: Key, why: Refusal) -> None:
        """Its cells of this round become rows that say why."""
        backend, *_ = key
        if why.hung:
            self.session.hung[backend, self.device] = why.reason
        absent = why.status is Status.SKIPPED
        self.refusals[key] = why.status, why.reason if absent else f"{backend} could not be set up: {why.reason}"

    def _greet(self, key: Key) -> Iterator[Environment]:
        begun = time.perf_counter_ns()
        answer = self.lives[key].worker.hello()
        self.start_ns += time.perf_counter_ns() - begun
        if isinstance(answer, Hello):
            self.environments[key] = answer.environment.id
            yield answer.environment
        else:
            del self.lives[key]
            self._refuse(key, answer)

    # A window ---------------------------------------------------------------------------------------------------------------

    def measure(
        self, window: Window, visits: Mapping[int, Sequence[Visit]], progress: Progress
    ) -> Iterator[Record | Environment | Visit]:  # fmt: skip
        """Prepare the steps of a window, visit them turn by turn, and finish them.

        `visits` are those that are there already, by order. What a cell needs alone is read in the first trial, before anything
        is prepared. A step that the memory of a GPU did not suffice for beside others is measured once more in the end, by a
        fresh worker while no other is alive.
        """
        self.going = {step.order: _begun(step, visits.get(step.order, ())) for step in window}
        most = self.plan.budget.visits or FIRST_VISITS
        yield from self._measured(window, most, progress)
        while self.starved:
            going = self.starved.pop(0)
            self.close()
            self.going = {going.step.order: going}
            yield from self._measured(Window(((going.step,),)), most, progress, anew=True)
            self.close()  # what its framework keeps of the GPU's memory would be missing for the others

    def _measured(
        self, window: Window, most: int, progress: Progress, *, anew: bool = False
    ) -> Iterator[Record | Environment | Visit]:  # fmt: skip
        """What `measure` does in `most` turns, fewer where there are visits already, unless `anew`; it adds to `starved`."""
        for step in window:
            if step.trial == 0:
                yield from self._ask(step, self._alone)
        for step in window:
            yield from self._ask(step, self._prepared)
        begun = 0 if anew else min((len(going.visits) for going in self.going.values()), default=most)
        for turn in range(begun, most):
            if not self.going:
                return
            number, self.session.turns = self.session.turns, self.session.turns + 1
            alive = dict(self.lives)
            for place, step in enumerate(window.turn(number, self.plan.seed)):
                yield from self._ask(step, partial(self._visit, turn=number, place=place))
            for key in [key for key, life in alive.items() if self.lives.get(key) is life]:
                del self.deaths[key]
            self.session.observe(replace(progress, turn=turn + 1, turns=most))
        for step in window:
            yield from self._ask(step, self._finished)

    def _ask(
        self, step: Step, what: Callable[[_Going, _Life], Record | Visit | None]
    ) -> Iterator[Record | Environment | Visit]:  # fmt: skip
        """Ask the step's worker for something, where the step has not ended; a fresh one, where its worker has."""
        going = self.going.get(step.order)
        if going is None:
            return
        yield from self._revived(going)
        if self.deaths[going.key] >= _IDLE_DEATHS:
            reason = f"its worker ended {_IDLE_DEATHS} times in a row while nothing was asked of it"
            yield self._ended(going, self.session.row(step, Status.CRASHED, reason, self.environments[going.key]))
            return
        if going.key in self.refusals:
            yield self._ended(going, self.session.row(step, *self.refusals[going.key]))
            return
        key, life = going.key, self.lives[going.key]
        try:
            found = what(going, life)
        except LostError as lost:
            del self.lives[going.key]
            row = self.session.row(step, lost.status, lost.reason, self.environments[going.key])
            found = replace(row, spent_ns=lost.spent_ns)
        if isinstance(found, Record):
            # One that leaves is not found dead later: it may take seconds to end, and be asked meanwhile. And whoever gave a
            # wrong result may have written where it should not: nothing that it says later would be worth anything.
            if going.key in self.lives and (life.worker.leaving or found.status is Status.INCORRECT):
                self.lives.pop(going.key).worker.kill()
            if beside := self._starved(going, life, found):
                going.beside, going.spent_ns = beside, summed(going.spent_ns, found.spent_ns)
                self.starved.append(self.going.pop(step.order))
            else:
                yield self._ended(going, found)
        elif found is not None:
            yield found
        elif going.key != key:  # it goes to a worker of its own
            yield from self._ask(step, what)

    def _revived(self, going: _Going) -> Iterator[Environment]:
        """See to it that the step's worker is alive, unless it has refused, or died too often."""
        key = going.key
        if key in self.lives and self.lives[key].worker.ended():
            self.lives.pop(key).worker.kill()  # it died while idle, which is no fault of this step
            self.deaths[key] += 1
        if key not in self.lives and key not in self.refusals and self.deaths[key] < _IDLE_DEATHS:
            self._start(key)
            if key in self.lives:
                yield from self._greet(key)

    def _starved(self, going: _Going, life: _Life, record: Record) -> str:
        """Beside whom the memory of a GPU did not suffice for a step; empty where it did, or would not by itself either.

        A worker leaves a cell out as well where it forecasts that what is free now does not suffice.
        """
        ran_out = self.device.kind != "cpu" and record.status in (Status.OOM, Status.SKIPPED)
        if going.beside or not ran_out or going.step.order in self.too_large:
            return ""
        if any(other is not life for other in self.lives.values()):
            return "other workers"
        shared = any(other.process == life.process for other in self.going.values() if other is not going)
        return "other cells" if shared else ""

    def _ended(self, going: _Going, record: Record) -> Record:
        """The record of a step that has ended."""
        del self.going[going.step.order]
        record = spent(going.whole(record), start=self.start_ns)
        self.start_ns = 0
        return record

    # What is asked of a worker ----------------------------------------------------------------------------------------------

    def _alone(self, going: _Going, life: _Life) -> Record | None:
        found = life.worker.alone(going.step, self.plan.budget.preparing_s(self.device))
        if found.status is not Status.OK:
            return found
        if life.worker.leaving:  # the call was let go of, and that ended the worker
            self.lives.pop(going.key).worker.kill()
        going.first = found
        going.spent_ns = summed(going.spent_ns, found.spent_ns)
        return None

    def _prepared(self, going: _Going, life: _Life) -> Record | None:
        """Have the step prepared where its worker has not, as a fresh one has nothing."""
        if going.process == life.process:
            return None
        found = life.worker.prepare(going.step, self.plan.budget.preparing_s(self.device) + self.plan.budget.stay_s)
        if isinstance(found, Record):
            return found
        going.spent_ns = summed(going.spent_ns, found.spent_ns)
        if found.apart:
            going.settings = found.apart
        else:
            going.process = life.process
        return None

    def _visit(self, going: _Going, life: _Life, turn: int, place: int) -> Record | Visit | None:
        if record := self._prepared(going, life):
            return record
        if going.process != life.process:  # it goes to a worker of its own
            return None
        found = life.worker.visit(going.step, self.plan.budget.timeout_s)
        if isinstance(found, Visit):
            found = replace(found, process=life.process, turn=turn, place=place)
            going.visits.append(found)
        return found

    def _finished(self, going: _Going, life: _Life) -> Record | None:
        if record := self._prepared(going, life):
            return record
        if going.process != life.process:  # it goes to a worker of its own
            return None
        return life.worker.finish(going.step, self.plan.budget.timeout_s)
