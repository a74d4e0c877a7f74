"""Profiles by real child processes of scripted backends: what reaches them, what reaches no timed one, and what goes wrong."""

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.isolate import launcher, process
from harness.isolate.launcher import Launcher
from harness.isolate.process import Worker
from harness.isolate.wire import Look, Setup
from harness.plan import Budget, Plan, Step
from harness.profile import Kind, Profile, trace_name
from harness.record import Environment, Record
from harness.spec import Cell
from tests import builders
from tests.isolate.conftest import TINY

TARGETS = {kind: f"tests.isolate.backends:{kind.capitalize()}" for kind in ("plain", "watched", "refusing", "stuck", "absent")}


@pytest.fixture
def make(tmp_path: Path) -> Callable[[], Launcher]:
    return lambda: Launcher("run", tmp_path / "logs", targets=TARGETS)


def cell(workload: str = "conv", backend: str = "watched", **axes: Any) -> Cell:
    return builders.cell(backend=backend, workload=workload, **axes)


def plan(*cells: Cell, budget: Budget = TINY) -> Plan:
    return Plan("tests", tuple(Step(0, order, found) for order, found in enumerate(cells)), 7, budget)


def profiles(of: Launcher, asked: Plan, folder: Path | None = None) -> list[Profile]:
    return [found for found in of.profile(asked, asked.cells, folder) if isinstance(found, Profile)]


def told(found: Profile) -> list[str]:
    """What the child of a profile knew: its process, the variable, and what it could read of its own output."""
    assert found.problem == ""
    (detail,) = (kernel.detail for kernel in found.kernels if kernel.kind is Kind.CONVOLUTION)
    return detail.split("; ")


def test_a_child_is_set_up_for_profiles_and_shared_by_the_cells_of_a_worker(make: Callable[[], Launcher]) -> None:
    of = make()
    answers = list(of.profile(plan(), [cell("a"), cell("b"), cell("c", threads=1)]))
    (environment, *found) = answers[0], *(answer for answer in answers if isinstance(answer, Profile))
    assert isinstance(environment, Environment)
    assert [each.cell.workload for each in found] == ["a", "b", "c"]
    assert found[0].environment_id == found[1].environment_id == environment.id
    (first, variable, printed), second, third = map(told, found)
    cores = len(environment.affinity)
    assert (variable, third[1]) == (f"{cores} threads on cpu", "1 threads on cpu")
    assert printed.startswith("printed past Python")
    assert second[0] == first != third[0]
    assert "printed past" not in (of.logs / "watched.log").read_text()
    assert sum(kernel.kernel_ns for kernel in found[0].kernels) == pytest.approx(found[0].watched_ns)


@pytest.mark.fault("a run is profiled", "no variable of a profile, nor its output, reaches a process that is timed")
def test_nothing_of_a_profile_reaches_a_timed_worker(make: Callable[[], Launcher]) -> None:
    of, asked = make(), plan(cell())
    timed = list(of.execute(asked))
    (profile,) = profiles(of, asked)
    (row,) = (answer for answer in timed if isinstance(answer, Record))
    assert row.settings is not None
    assert row.settings["variable"] == "not set"
    assert row.settings["output"] == str((of.logs / "watched.log").resolve())
    assert told(profile)[0] != row.settings["pid"]
    # It is told as the same environment: what a profile sets is no setting of the figures that it explains.
    assert profile.environment_id == row.environment_id


def test_a_timed_worker_is_asked_for_the_same_with_and_without_profiles_after_it(
    make: Callable[[], Launcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What workers are sent settles all that they do between two readings of the clock."""
    sent: list[Any] = []
    start = launcher.start

    def noting(first: Setup | Look, logs: Path, name: str, python: str | None = None) -> Any:
        sent.append(first)
        return start(first, logs, name, python)

    monkeypatch.setattr("harness.isolate.bench.start", noting)
    ask = Worker._heard
    monkeypatch.setattr(Worker, "_heard", lambda self, message, *rest: (sent.append(message), ask(self, message, *rest))[1])
    asked, seen = plan(cell("a"), cell("b"), cell("a", "plain")), []
    for profiled in (False, True):
        sent.clear()
        of = make()
        list(of.execute(asked))
        seen.append(list(sent))
        if profiled:
            profiles(of, asked)
            (setup,) = [each for each in sent[len(seen[0]) :] if isinstance(each, Setup) and each.backend == "watched"]
            assert setup.profile
    assert seen[0] == seen[1]
    assert not any(each.profile for each in seen[0] if isinstance(each, Setup))


def test_the_trace_of_a_cell_is_written_under_its_name(make: Callable[[], Launcher], tmp_path: Path) -> None:
    (found,) = profiles(make(), plan(cell()), tmp_path)
    assert found.trace == trace_name(cell())
    trace = json.loads(gzip.decompress((tmp_path / found.trace).read_bytes()))
    assert trace["otherData"]["cell"] == str(cell())


def test_a_backend_that_nothing_watches_has_a_time_and_a_problem(make: Callable[[], Launcher]) -> None:
    (found,) = profiles(make(), plan(cell(backend="plain")))
    assert found.problem == "nothing watches this backend"
    assert found.kernels == ()


# What goes wrong ---------------------------------------------------------------------------------------------------------


@pytest.mark.fault("a child that profiles crashes or hangs", "its cell has no profile, and says why; the next one gets another")
@pytest.mark.parametrize(
    ("workload", "problem"),
    [
        ("crash", "crashed: killed by SIGSEGV in the watched calls; last output: about to fall over"),
        ("hang", "timeout: took longer than 6 s and was ended in the watched calls"),
        ("breaks", "RuntimeError: CUDA error: an illegal memory access was encountered"),
    ],
)
def test_what_goes_wrong_in_a_child_costs_one_profile(make: Callable[[], Launcher], workload: str, problem: str) -> None:
    asked = plan(cell("a"), cell(workload), cell("b"), budget=replace(TINY, timeout_s=3))
    before, lost, after = profiles(make(), asked)
    assert lost.problem == problem
    assert (lost.kernels, lost.cell.workload, lost.environment_id) == ((), workload, before.environment_id)
    assert told(before)[0] != told(after)[0]


@pytest.mark.fault("a backend of a profile cannot be loaded", "its cells have no profile, and say why")
def test_a_child_that_cannot_be_set_up_says_so_for_each_of_its_cells(make: Callable[[], Launcher]) -> None:
    asked = plan(cell("a", "refusing"), cell("b", "refusing"), cell("a", "absent"), cell("a"))
    first, second, absent, fine = profiles(make(), asked)
    assert first.problem == second.problem == "refusing could not be set up: RuntimeError: built for another CPU"
    assert absent.problem.startswith("absent could not be set up: ")
    assert fine.problem == ""


def test_a_backend_that_was_waited_for_in_vain_is_not_waited_for_again(
    make: Callable[[], Launcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "START_TIMEOUT_S", 3.0)
    first, second = profiles(make(), plan(cell("a", "stuck"), cell("b", "stuck", threads=1)))
    assert first.problem == "stuck could not be set up: the worker was not ready within 3 s"
    assert second.problem == f"{first.problem}; it was not tried again"


def test_more_threads_than_cores_start_nobody(make: Callable[[], Launcher], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "physical_cores_first", lambda: [0])
    monkeypatch.setattr(Launcher, "worker", lambda *asked, **more: pytest.fail("started a worker"))
    (found,) = profiles(make(), plan(cell(threads=2)))
    assert found.problem == "asks for 2 threads; this process may use 1 cores"


def test_whoever_stops_listening_leaves_no_child(make: Callable[[], Launcher]) -> None:
    answers = make().profile(plan(), [cell("a"), cell("b")])
    assert isinstance(next(answers), Environment)
    answers.close()  # type: ignore[attr-defined]  # nobody may stay behind, as the fixture of these tests checks
