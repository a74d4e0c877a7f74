"""pytest's face: every cell of a suite as a test, timed by the `benchmark` fixture of pytest-benchmark.

pytest loads this into every session of an environment in which convbench is installed, so nothing is imported and nothing done
until `--convbench SUITE`, or `Cells` in a test module, asks for it.

Frameworks disturb each other in one process, and read their settings when they are imported. So the tests of each framework run
in a process of its own (`worker`), forked before any framework is there; their reports and rounds come back to the
session, which shows and writes them as it does those of any test.
"""

from __future__ import annotations

import importlib.metadata
import os
import shlex
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

    from harness.ask.suite import Suite
    from harness.execution.host import Lock
    from harness.pytest_plugin.worker import Process
    from harness.record import Environment
    from harness.spec import Cell
    from harness.store.pytest_json import Block, Row


@dataclass(frozen=True)
class Cells:
    """Stands in a test module for every cell of a suite, a name or a path: `test_first = Cells("first")`."""

    suite: str | Path


def pytest_addoption(parser: pytest.Parser) -> None:
    """--convbench and --convbench-backend."""
    group = parser.getgroup("convbench", "convolutions, one test per cell of a suite")
    group.addoption(
        "--convbench", metavar="SUITE", action="append", default=[],
        help="Every cell of this suite, a name or a path, as a test; may be repeated. Files are collected only where named.",
    )  # fmt: skip
    group.addoption("--convbench-backend", metavar="NAMES", help="Only the cells of these backends: torch,jax.")


# Collection ---------------------------------------------------------------------------------------------------------------

_FILES = pytest.StashKey[frozenset[Path]]()


def pytest_configure(config: pytest.Config) -> None:
    """Have the files of the suites collected that were asked for."""
    if not config.getoption("convbench"):
        return
    from harness.ask import suite as suites
    from harness.errors import UserError

    try:
        paths = [Path(os.path.abspath(suites.load(name).path)) for name in config.getoption("convbench")]
    except UserError as error:
        raise pytest.UsageError(str(error)) from None
    config.stash[_FILES] = frozenset(paths)
    named = config.args if config.args_source is pytest.Config.ArgsSource.ARGS else []
    # One of a file's tests may be named, by its node id; then that one is meant, and not all.
    files = {config.invocation_params.dir / argument.partition("::")[0] for argument in named}
    config.args = [*named, *(str(path) for path in paths if path not in files)]


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """The file of a suite that was asked for, as a file of tests."""
    if file_path in parent.config.stash.get(_FILES, ()):
        return SuiteFile.from_parent(parent, path=file_path)
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Collector, name: str, obj: object) -> list[CellTest] | None:
    """The tests of `Cells` in a test module."""
    return _tests(collector, obj.suite) if isinstance(obj, Cells) else None


class SuiteFile(pytest.Module):
    """The TOML file of a suite; each of its cells is a test. A module, so that fixtures of that scope have a place."""

    obj = None  # and nothing to import

    def collect(self) -> list[CellTest]:
        """The tests."""
        return _tests(self, self.path)


class CellTest(pytest.Function):
    """One cell as a test; its name is the cell's id. Those of one workload in one direction are a group of pytest-benchmark."""

    def __init__(self, *, cell: Cell, suite: Suite, **rest: Any) -> None:
        super().__init__(callobj=_test, **rest)
        self.cell, self.suite = cell, suite
        # As in `convbench run`: Python's garbage collector does not run while the clock does.
        self.add_marker(pytest.mark.benchmark(group=f"{cell.workload} {cell.direction}", disable_gc=True))

    def reportinfo(self) -> tuple[Path, int, str]:
        """The file that asks for the cell, not the one of the function that all of them share."""
        return self.path, 0, self.name


def _test(benchmark: Any, request: pytest.FixtureRequest) -> None:
    """Check the call of a cell, then have the fixture time it."""
    from harness.pytest_plugin.worker import FRAMEWORK

    request.config.stash[FRAMEWORK].measure(request.node, benchmark)


def _tests(collector: pytest.Collector, name: str | Path) -> list[CellTest]:
    """A test for each cell of a suite; those that can share processes follow each other."""
    from harness.ask import planning
    from harness.ask import suite as suites
    from harness.ask.selection import Selection, narrow
    from harness.errors import UserError
    from harness.execution import discovery

    config = collector.config
    if not hasattr(config, "_benchmarksession"):
        raise collector.CollectError("cells are timed by pytest-benchmark: pip install 'convbench[pytest]'")
    distributed = hasattr(config, "workerinput")  # this is a worker of pytest-xdist
    if distributed or config.getoption("benchmark_cprofile", None):  # a profile stays in the process in which it was made
        option = "-n" if distributed else "--benchmark-cprofile"
        raise collector.CollectError(f"{option}: found beside cells; each is timed alone, in the process of its framework")
    only = config.getoption("convbench_backend")
    try:
        suite = narrow(suites.load(name), Selection(axes={"backend": only.split(",")} if only else {}))
        backends = discovery.concerned(suite)
        found = discovery.discover(backends, suite.interpreters)
        cells = planning.cells(suite, found, discovery.absent(backends, found, suite.interpreters))
    except UserError as error:
        raise collector.CollectError(str(error)) from None
    rounds: dict[object, list[Cell]] = {}
    for cell in cells:
        rounds.setdefault((cell.device, cell.threads), []).append(cell)
    ordered = [cell for together in rounds.values() for cell in together]
    return [CellTest.from_parent(collector, name=str(cell), cell=cell, suite=suite) for cell in ordered]


# The session --------------------------------------------------------------------------------------------------------------


@dataclass
class Frameworks:
    """The processes of a session, by backend, device, number of threads and what else keeps them apart, and what they told."""

    session: pytest.Session
    lock: Lock  # the host's: no run measures while this session does
    running: dict[tuple[Any, ...], Process] = field(default_factory=dict)
    suites: dict[str, str] = field(default_factory=dict)
    environments: dict[str, Environment] = field(default_factory=dict)
    unmeasured: list[Row] = field(default_factory=list)

    def run(self, test: CellTest) -> list[pytest.TestReport]:
        """The reports of a test. It fails where its process dies or falls silent; the next test gets a new one."""
        from harness.plan import own_process
        from harness.pytest_plugin.worker import Process, timed

        config, cell = self.session.config, test.cell
        self.suites[test.suite.name] = test.suite.sha256
        for key in [key for key in self.running if key[1:3] != (cell.device, cell.threads)]:
            self.running.pop(key).close()
        apart = cell.of_process, own_process(cell)  # as in a run: what a process is set to is the same for all of its cells
        key, started = (cell.backend, cell.device, cell.threads, *apart), datetime.now(UTC)
        process = self.running[key] = self.running.get(key) or Process(self.session, cell)
        try:
            # pytest-benchmark stops by itself at its own limit, which may be any.
            answer = process.run(test, test.suite.budget.timeout_s + float(config.getoption("benchmark_max_time")))
        except (EOFError, OSError) as error:
            return [self._lost(key, test, started, error)]
        if answer.broken:
            self.running.pop(key).kill()
        if answer.environment:
            self.environments[answer.environment.id] = answer.environment
        if answer.unmeasured:
            self.unmeasured.append(answer.unmeasured)
        timed(config).extend(answer.benchmarks)
        return [config.hook.pytest_report_from_serializable(config=config, data=data) for data in answer.reports]

    def _lost(self, key: tuple[Any, ...], test: CellTest, started: datetime, error: Exception) -> pytest.TestReport:
        """The report of a test whose process is gone, or has to go."""
        from harness.record import Status
        from harness.store.pytest_json import Row

        process = self.running.pop(key)
        if isinstance(error, TimeoutError):
            status, reason = Status.TIMEOUT, str(error)
        else:
            status, reason = Status.CRASHED, process.cause_of_death()
        process.kill()
        self.unmeasured.append(replace(Row.of(test.cell, test.suite.name, started), status=status, reason=reason))
        return pytest.TestReport(test.nodeid, test.location, {}, "failed", f"{status}: {reason}", "call")

    def block(self) -> Block:
        """What the JSON carries beside the benchmarks."""
        from harness.pytest_plugin.worker import SEED
        from harness.store.pytest_json import Block

        return Block(
            suites=self.suites, environments=tuple(self.environments.values()), unmeasured=tuple(self.unmeasured), seed=SEED,
            command=shlex.join(["pytest", *map(str, self.session.config.invocation_params.args)]),
            harness_version=importlib.metadata.version("convbench"),
        )  # fmt: skip

    def close(self) -> None:
        """End them all."""
        for process in self.running.values():
            process.close()
        self.running.clear()
        self.lock.release()


def _lock() -> Lock:
    """The host's lock, held. Ends the session where another run holds it."""
    from harness.errors import UserError
    from harness.execution import host

    lock = host.Lock()
    try:
        why = "" if lock.take() else lock.holder()
    except UserError as error:
        why = str(error)
    if why:
        pytest.exit(f"convbench: {why}", returncode=pytest.ExitCode.USAGE_ERROR)
    return lock


_FRAMEWORKS = pytest.StashKey[Frameworks]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """Have the test of a cell run in the process of its framework, and hand on its reports."""
    if not isinstance(item, CellTest):
        return None
    frameworks = item.config.stash.get(_FRAMEWORKS, None)
    if not frameworks:
        frameworks = item.config.stash[_FRAMEWORKS] = Frameworks(item.session, _lock())
    # The test is set up and torn down elsewhere, whole: nothing of the tests before it may be up meanwhile.
    item.session._setupstate.teardown_exact(None)
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in frameworks.run(item):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, object, object]:
    """End the processes, before another plug-in may end the session by an error: a process that is left would be waited for."""
    if frameworks := session.config.stash.get(_FRAMEWORKS, None):
        frameworks.close()
    return (yield)


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    """Put into the JSON what it carries beside the benchmarks, so that `convbench import` can read it."""
    if frameworks := config.stash.get(_FRAMEWORKS, None):
        from harness import codec
        from harness.store.pytest_json import BLOCK

        output_json[BLOCK] = codec.encode(frameworks.block())
