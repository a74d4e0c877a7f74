"""The process of a framework under pytest: a fork of the session, in which whole tests run, and what comes back of each.

Fixtures and their teardown run here too: so the clock of pytest-benchmark's own fixture stands around launch and wait. What is
asked for and what is shown is the package's.
"""

from __future__ import annotations

import contextlib
import gc
import math
import multiprocessing
import os
import signal
import sys
import time
import warnings
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from multiprocessing.connection import Connection

    from harness.backends.base import Backend, Prepared
    from harness.record import Environment, Status
    from harness.spec import Cell
    from harness.store.pytest_json import Row

SEED = 0
CellTest = Any  # pytest_plugin's, which imports this room
_GRACE_S = 5.0  # for a process to end by itself


@dataclass(frozen=True)
class Answer:
    """What comes back of a test: its reports, its rounds, the row of a cell that has none, and what the process runs in.

    `broken`: the process must measure nothing more, since its device is broken for it, or since it gave a wrong result.
    """

    reports: list[dict[str, Any]]
    benchmarks: list[Any]
    unmeasured: Row | None
    environment: Environment | None
    broken: bool


class Process:
    """The process of one framework, on one device with one number of threads and one setting, as the session sees it."""

    def __init__(self, session: pytest.Session, cell: Cell) -> None:
        fork = multiprocessing.get_context("fork")
        self.connection, theirs = fork.Pipe()
        self.process = fork.Process(target=_serve, args=(session, cell, theirs, self.connection))
        self.process.start()
        theirs.close()
        self.places = {item: index for index, item in enumerate(session.items)}
        self.busy = False
        self.at = ""  # the part of the test that it is in, as it told last

    def run(self, test: CellTest, timeout_s: float) -> Answer:
        """What comes back of a test. Raises EOFError or OSError where the process died, TimeoutError where it fell silent."""
        self.busy, self.at = True, ""
        deadline = time.monotonic() + timeout_s
        self.connection.send(self.places[test])
        while self.connection.poll(max(0.0, deadline - time.monotonic())):
            answer = self.connection.recv()
            if isinstance(answer, Answer):
                self.busy = False
                return answer
            self.at = answer
        raise TimeoutError(f"took longer than {timeout_s:g} s and was ended {self._where()}".strip())

    def cause_of_death(self) -> str:
        """What ended it."""
        self.process.join(_GRACE_S)
        code = self.process.exitcode
        if code is None:
            told = "its process stopped talking"
        else:
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"left with code {code}"
            told = f"its process {how}"
        return f"{told} {self._where()}".strip()

    def _where(self) -> str:
        """The part of the test that it is in, in words; empty before the first."""
        from harness.isolate.process import WHERE

        return WHERE.get(self.at, "")

    def close(self) -> None:
        """Ask it to end, and wait for that; a closed pipe would not tell, since every later fork holds a copy of our end.

        In the middle of a test, which an interrupted session leaves, it would not hear.
        """
        if not self.busy:
            with contextlib.suppress(OSError):  # it has ended already
                self.connection.send(None)
            self.process.join(_GRACE_S)
        self.kill()

    def kill(self) -> None:
        """End it and whatever it started, now."""
        from harness.isolate import offspring

        offspring.end("", self.process.pid if self.process.exitcode is None else None)
        if self.process.pid is not None:  # it was started
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join()
        self.connection.close()


def timed(config: pytest.Config) -> list[Any]:
    """What pytest-benchmark has timed so far in this process: a list of its own, to be added to."""
    benchmarks: list[Any] = config._benchmarksession.benchmarks  # type: ignore[attr-defined]  # pytest-benchmark sets it
    return benchmarks


def _serve(session: pytest.Session, cell: Cell, connection: Connection, theirs: Connection) -> None:
    """Run the tests that are asked for, until none is."""
    from _pytest.runner import runtestprotocol

    from harness.isolate import worker

    theirs.close()
    worker.die_with_parent()
    os.setsid()  # Ctrl-C is the session's; and what a framework starts ends with it
    # A worker of `convbench run` shows none of a framework's warnings; the filters of a project may make errors of them.
    warnings.resetwarnings()
    warnings.simplefilter("ignore")
    config = session.config
    for debugger in filter(config.pluginmanager.hasplugin, ("pdbinvoke", "pdbtrace")):  # which would have no terminal
        config.pluginmanager.unregister(name=debugger)
    framework = config.stash[FRAMEWORK] = Framework(cell, connection.send)
    benchmarks = timed(config)
    while (index := connection.recv()) is not None:
        benchmarks.clear()
        framework.unmeasured = None
        reports = runtestprotocol(session.items[index], log=False)
        for benchmark in benchmarks:  # of its fixture, which holds the test, the session needs this alone
            benchmark.fixture = SimpleNamespace(has_error=benchmark.has_error)
        told = [config.hook.pytest_report_to_serializable(config=config, report=report) for report in reports]
        connection.send(Answer(told, list(benchmarks), framework.unmeasured, framework.environment, framework.broken))


class _Refused(Exception):
    """A cell gets no time: status and reason."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Framework:
    """The backend of this process; it is loaded when the first cell needs it, so that a skipped test costs nothing."""

    def __init__(self, cell: Cell, enter: Callable[[str], None]) -> None:
        self.enter = enter  # tells the session which part of a test begins, by a key of `isolate.process.WHERE`
        self.name, self.device, self.threads, self.options = cell.backend, cell.device, cell.threads, dict(cell.of_process)
        self.environment: Environment | None = None
        self.unmeasured: Row | None = None
        self.broken = False
        self._backend: Backend | _Refused | None = None
        self._modules = 0

    def measure(self, test: CellTest, benchmark: Any) -> None:
        """Check the call of a cell and have the fixture time it, which then carries the columns.

        A cell that gets no time is skipped, or fails, with the reason; what a framework throws goes through.
        """
        from harness import codec
        from harness.record import Status
        from harness.store.pytest_json import Row

        row = Row.of(test.cell, test.suite.name, datetime.now(UTC))
        try:
            benchmark.extra_info.update(codec.encode(self._timed(test, benchmark, row)))
        except _Refused as refused:
            self._without(row, refused.status, refused.reason)
            self.broken = refused.status is Status.INCORRECT  # it may have written where it should not
            text = f"{refused.status}: {refused.reason}"
            if refused.status.failed:
                pytest.fail(text, pytrace=False)
            pytest.skip(text)
        except Exception as error:
            from harness.measure import cuda_errors, engine

            status, reason = engine.failure(error)
            self._without(row, status, reason)
            self.broken = cuda_errors.fatal(reason)
            raise

    def _without(self, row: Row, status: Status, reason: str) -> None:
        """Note the row of a cell that gets no time."""
        environment_id = self.environment.id if self.environment else ""
        self.unmeasured = replace(row, status=status, reason=reason, environment_id=environment_id)

    def _timed(self, test: CellTest, benchmark: Any, row: Row) -> Row:
        """The row of a cell that was timed. Raises _Refused, or whatever the framework throws."""
        from harness.axes import Cache
        from harness.flags import Flag
        from harness.record import Status

        cell = test.cell
        if cell.cache is Cache.COLD:
            told = "pytest-benchmark cannot overwrite the caches between calls and keep its own code in them"
            raise _Refused(Status.UNSUPPORTED, told)
        if reason := _elsewhere(cell.backend, test.suite.interpreters):
            raise _Refused(Status.SKIPPED, reason)
        backend, environment = self._loaded()
        from harness.backends.base import unsupported
        from harness.isolate import worker
        from harness.measure import engine
        from harness.measure.operands import draw
        from harness.measure.wrong import WrongResultError

        if reason := unsupported(backend, cell):
            raise _Refused(Status.UNSUPPORTED, reason)
        self._modules = worker.set_aside(self._modules)
        self.enter("operands")
        operands, rng = draw(cell, SEED)
        self.enter("first_call")
        begun = time.perf_counter_ns()
        prepared = backend.prepare(cell, operands)
        try:
            handle = prepared.launch()
            prepared.wait(handle)
            first_call_ns = time.perf_counter_ns() - begun
            self.enter("check")
            check, first = engine.checked(cell, prepared, operands, handle, rng)
            del handle, operands
            self.enter("sampling")
            wall_ns, cpu_ns = _clocked(test, benchmark, prepared)
            self.enter("check")
            _ready(cell, prepared)
            handle = prepared.launch()
            prepared.wait(handle)
            first.compare(prepared, handle, "one made after the clock had stopped")
            return replace(
                row, flags=(Flag.COMPOSITE,) if prepared.composite else (), op=prepared.op, op_reason=backend.op_reason(cell),
                settings=dict(prepared.settings), threads_used=backend.threads_used(), check_method=check.method,
                max_rel_err=check.max_rel_err, tolerance=check.tolerance, results_vary=first.varies,
                first_call_ns=first_call_ns, wall_ns=wall_ns, cpu_ns=cpu_ns, environment_id=environment.id,
            )  # fmt: skip
        except WrongResultError as wrong:
            benchmark.has_error = True  # what it timed is left out of the session's results
            raise _Refused(Status.INCORRECT, str(wrong)) from None
        finally:
            prepared.close()

    def _loaded(self) -> tuple[Backend, Environment]:
        """The backend and what it runs in. Raises _Refused, for the same reason each time."""
        if self._backend is None:
            try:
                self._backend, self.environment = self._load()
            except _Refused as refused:
                self._backend = refused
        if isinstance(self._backend, _Refused):
            raise self._backend
        assert self.environment is not None
        return self._backend, self.environment

    def _load(self) -> tuple[Backend, Environment]:
        from harness.backends import registry
        from harness.isolate import launcher, worker
        from harness.record import Status

        if reason := registry.missing(self.name, registry.find(self.name)):
            raise _Refused(Status.SKIPPED, reason)
        available = launcher.physical_cores_first()
        if self.threads > len(available):
            told = f"asks for {self.threads} threads; this process may use {len(available)} cores"
            raise _Refused(Status.UNSUPPORTED, told)
        if already := self._imported():
            told = f"{already} was imported by a conftest.py or a plug-in, before its settings could be made; try --noconftest"
            raise _Refused(Status.ERROR, told)
        try:
            cores = available[: self.threads or len(available)]
            backend = worker.load(registry.find(self.name), self.device, cores, options=self.options)
        except Exception as error:
            raise _Refused(Status.ERROR, f"{self.name} could not be set up: {worker.refusal(error)}") from None
        from harness.measure import environment, gpu

        facts = environment.board(gpu.Gpu(self.device.index), backend.board()) if self.device.kind == "gpu" else {}
        return backend, environment.describe(self.name, backend.distributions, environment.machine_name(), board=facts)

    def _imported(self) -> str | None:
        """A framework that is there already; numpy counts where it is what is timed, since much imports it."""
        from harness.ask.axes import REFERENCE
        from harness.backends import registry
        from harness.execution import discovery
        from harness.isolate.wire import Adapter

        names = {self.name, *registry.names()} - ({REFERENCE} - {self.name})
        told = discovery.adapters(names).values()
        packages = sorted(answer.package for answer in told if isinstance(answer, Adapter))
        return next((package for package in packages if package in sys.modules), None)


def _elsewhere(backend: str, given: Mapping[str, str]) -> str | None:
    """Why a backend is not measured here: it has an interpreter of its own, given or found. None for one that has none."""
    from harness.execution import discovery
    from harness.plan import interpreter

    if interpreter(discovery.interpreters([backend], given), backend) is None:
        return None
    return f"{backend} has an interpreter of its own, and under pytest cells run in the session's: convbench run measures it"


FRAMEWORK = pytest.StashKey[Framework]()  # in the process of a framework only


def _clocked(test: CellTest, benchmark: Any, prepared: Prepared) -> tuple[int, int]:
    """Wall and CPU time in ns of all that the fixture did; what it times is one call and its wait, the result let go."""
    from harness.axes import Direction

    launch, wait = prepared.launch, prepared.wait

    def call() -> None:
        wait(launch())

    def reset() -> None:
        _ready(test.cell, prepared)

    gc.collect()
    wall_ns, cpu_ns = time.perf_counter_ns(), time.process_time_ns()
    if test.cell.direction is Direction.TRAIN:  # the filter and the optimizer's slots as they were, before each round
        benchmark.pedantic(call, setup=reset, rounds=_rounds(test.config, reset, call))
    else:
        benchmark(call)
    return time.perf_counter_ns() - wall_ns, time.process_time_ns() - cpu_ns


def _ready(cell: Cell, prepared: Prepared) -> None:
    """The filter and the optimizer's slots as they were at first; nothing for the other directions."""
    prepared.reset()
    if cell.device.kind != "cpu":  # it was only queued
        prepared.wait(None)


def _rounds(config: pytest.Config, *parts: Any) -> int:
    """How many rounds of these parts fit into the options of pytest-benchmark: the rule by which it counts its own."""
    begun = time.perf_counter()
    for part in parts:
        part()
    took_s = max(time.perf_counter() - begun, 1e-9)
    return max(int(config.getoption("benchmark_min_rounds")), math.ceil(float(config.getoption("benchmark_max_time")) / took_s))
