"""Plan -> Records: fresh worker processes for every trial, one cell at a time, killed when late, replaced when dead.

The parent sleeps on the socket while a worker measures; it never polls. What goes wrong in a worker becomes the row of the
cell that was being measured, and a fresh worker goes on with the next one.
"""

import contextlib
import itertools
import math
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from harness import drafts
from harness.backends import registry
from harness.errors import UserError
from harness.isolate.wire import (
    Channel,
    ClosedError,
    Done,
    GarbledError,
    GoOn,
    Hello,
    Measure,
    Message,
    Refused,
    Setup,
    SilentError,
    Stop,
    Working,
)
from harness.record import Environment, Flag, Progress, Record, Status
from harness.spec import Budget, Device, Plan, Step

START_TIMEOUT_S = 180.0  # importing a framework from a cold disk
_GRACE_S = 2.0

Observe = Callable[[Step, Progress], None]
Doubts = Callable[[Record], tuple[Flag, ...]]


def _nobody(step: Step, progress: Progress) -> None:
    """Nobody watches."""


def _none(record: Record) -> tuple[Flag, ...]:
    """Every record is good enough."""
    return ()


class Worker:
    """A child process with one backend, and the conversation with it."""

    def __init__(self, setup: Setup, log: Path) -> None:
        output = drafts.appending(log)
        ours, theirs = socket.socketpair()
        with theirs, output:
            self.log_start = output.seek(0, os.SEEK_END)  # what stands before was printed by workers before this one
            # -P: a numpy.py in the user's folder must not shadow anything.
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "harness.isolate.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        self.channel, self.log = Channel(ours), log
        self.leaving = False
        self.channel.send(setup)

    def hello(self) -> Hello | str:
        """The worker's first words, or the reason why it cannot serve."""
        try:
            answer = self.channel.receive(time.monotonic() + START_TIMEOUT_S)
        except SilentError:
            self.kill()
            return f"the worker was not ready within {START_TIMEOUT_S:.0f} s"
        except ClosedError:
            return self.cause_of_death()
        except GarbledError as error:
            self.kill()
            return f"the worker said what cannot be read: {error}"
        if isinstance(answer, Hello):
            return answer
        self.stop()
        return answer.reason if isinstance(answer, Refused) else f"unexpected answer {answer}"

    def measure(self, step: Step, timeout_s: float, observe: Observe) -> Record:
        """The record of a step. Raises SilentError past the deadline, ClosedError where the worker died, GarbledError."""
        deadline = time.monotonic() + timeout_s
        self.channel.send(Measure(step))
        while True:
            message: Message = self.channel.receive(deadline)
            if isinstance(message, Done):
                self.leaving = message.leaving
                return message.record
            if isinstance(message, Working):
                observe(step, message.progress)
                self.channel.send(GoOn())

    def cause_of_death(self) -> str:
        """What ended the process, with the last line that it printed. Hangs up."""
        self.channel.close()
        try:
            code = self.process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return "the worker stopped talking"
        cause = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        printed = self.log.read_bytes()[self.log_start :] if self.log.exists() else b""
        lines = printed.decode(errors="replace").strip().splitlines()
        return f"{cause}; last output: {lines[-1][:200]}" if lines else cause

    def stop(self) -> None:
        """Ask it to end, and wait for that."""
        with contextlib.suppress(ClosedError):
            self.channel.send(Stop())
        self.channel.close()
        try:
            self.process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it and whatever it started, now."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.channel.close()


@dataclass
class Launcher:
    """Executes plans on this host. `logs` is where the workers' own output goes, one file per backend.

    `doubts` tells the flags that bar a record: such a cell is measured once more, and its second record says why.
    """

    run_id: str
    logs: Path
    observe: Observe = _nobody
    targets: Mapping[str, str] = field(default_factory=dict)  # backend -> module:Class, for those not registered
    doubts: Doubts = _none

    def execute(self, plan: Plan) -> Iterator[Record | Environment]:
        """Round after round the records in the order of the plan, then those of cells measured once more, with the old `order`.

        Each environment comes before the first record made in it.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        if self.logs.is_symlink():
            raise UserError(f"{self.logs} is a link, and is not written through")
        known: set[str] = set()
        parent_ns = 0  # what the caller took for the records before this one
        for _, steps in itertools.groupby(plan.steps, key=lambda step: (step.trial, step.cell.device, step.cell.threads)):
            barred: dict[int, tuple[Flag, ...]] = {}  # by order; the round reads it when all else is measured
            for answer in self._round(plan, list(steps), barred):
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

    def _round(self, plan: Plan, steps: list[Step], barred: Mapping[int, tuple[Flag, ...]]) -> Iterator[Record | Environment]:
        """Steps that can share workers: one trial, one device, one number of threads; then those that are `barred` by then."""
        device, threads = steps[0].cell.device, steps[0].cell.threads
        available = physical_cores_first()
        if threads > len(available):
            reason = f"asks for {threads} threads; this process may use {len(available)} cores"
            yield from (self.row(step, Status.UNSUPPORTED, reason) for step in steps)
            return
        cores = tuple(available[: threads or len(available)])
        bench = _Bench(self, plan, device, cores)
        try:
            bench.open(dict.fromkeys(step.cell.backend for step in steps))
            yield from bench.greetings()
            for step in steps:
                yield from bench.measure(step)
            # At the end of the round, when what disturbed a cell may have passed, and by the same processes.
            again = [step for step in steps if step.order in barred]
            for step in again[: math.ceil(plan.budget.repeat_share * len(steps))]:
                for answer in bench.measure(step):
                    yield replace(answer, repeated_for=barred[step.order]) if isinstance(answer, Record) else answer
        finally:
            bench.close()

    def target(self, backend: str) -> str:
        """`module:Class` of a backend; `torch@old` is torch under another name."""
        return self.targets.get(backend) or registry.find(backend.partition("@")[0])

    def missing(self, backend: str) -> str | None:
        """Why a backend cannot take part at all, None where its package is there."""
        return None if backend in self.targets else registry.missing(backend.partition("@")[0])

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
            reason = self.launcher.missing(backend)
            if reason:
                self.refusals[backend] = Status.SKIPPED, reason
            else:
                self._start(backend)

    def _start(self, backend: str) -> None:
        plan, launcher = self.plan, self.launcher
        setup = Setup(launcher.target(backend), backend, self.device, self.cores, plan.budget, plan.seed, launcher.run_id)
        self.workers[backend] = Worker(setup, _log(launcher.logs, backend))

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
            self.refusals[backend] = Status.ERROR, f"{backend} could not be set up: {answer}"

    def measure(self, step: Step) -> Iterator[Record | Environment]:
        """The record of a step, whatever happens; a new worker's environment before it."""
        backend, row = step.cell.backend, self.launcher.row
        if backend in self.workers and self.workers[backend].process.poll() is not None:
            self.workers.pop(backend).kill()  # it died while idle, which is no fault of this step
        if backend not in self.workers and backend not in self.refusals:
            self._start(backend)
            yield from self._greet(backend)
        if backend in self.refusals:
            yield row(step, *self.refusals[backend])
            return
        worker, timeout_s, kills = self.workers[backend], self.plan.budget.timeout_s, _out_of_memory_kills()
        begun, start_ns, self.start_ns = time.perf_counter_ns(), self.start_ns, 0
        try:
            record = worker.measure(step, timeout_s, self.launcher.observe)
            told = record.spent_ns or {}
            rest = time.perf_counter_ns() - begun - sum(told.values()) + told.get("wire", 0)
            if worker.leaving:  # not found dead later: it may take seconds to end, and be asked meanwhile
                self.workers.pop(backend).kill()
            yield _spent(record, start=start_ns, wire=rest)
            return
        except SilentError:
            worker.kill()
            status, reason = Status.TIMEOUT, f"took longer than {timeout_s:g} s and was ended"
        except GarbledError as error:
            worker.kill()
            status, reason = Status.ERROR, f"the record cannot be read: {error}"
        except ClosedError:
            reason = worker.cause_of_death()
            status = Status.OOM if _out_of_memory_kills() > kills and "SIGKILL" in reason else Status.CRASHED
        del self.workers[backend]
        lost = row(step, status, reason, self.environments[backend])
        yield _spent(lost, start=start_ns, wire=time.perf_counter_ns() - begun)

    def close(self) -> None:
        """End all workers."""
        for worker in self.workers.values():
            worker.stop()
        self.workers.clear()


def _log(logs: Path, backend: str) -> Path:
    """The file for what a backend's workers print: in this folder, whatever its label holds."""
    return logs / f"{urllib.parse.quote(backend, safe='@+')[:200]}.log"


def _out_of_memory_kills() -> int:
    """How many processes this kernel has killed for memory; 0 where it does not say."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def physical_cores_first() -> list[int]:
    """The CPUs of this process's affinity, one of each physical core first, then their siblings."""
    cpus = sorted(os.sched_getaffinity(0))
    seen: set[str] = set()
    first, rest = [], []
    for cpu in cpus:
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        core = siblings.read_text().strip() if siblings.exists() else str(cpu)
        (rest if core in seen else first).append(cpu)
        seen.add(core)
    return first + rest


def probe(backends: Mapping[str, str], logs: Path) -> dict[str, Hello | str]:
    """What each backend says of itself, or why it cannot be loaded, by name; `backends` maps names to module:Class.

    One short-lived worker each, side by side, without the settings that hide devices from one another.
    """
    logs.mkdir(parents=True, exist_ok=True)
    cores = tuple(physical_cores_first())
    workers = {
        name: Worker(Setup(target, name, Device("cpu"), cores, Budget(), 0, "probe", probe=True), _log(logs, name))
        for name, target in backends.items()
    }
    answers = {name: worker.hello() for name, worker in workers.items()}
    for name, answer in answers.items():
        if isinstance(answer, Hello):
            workers[name].stop()
    return answers
