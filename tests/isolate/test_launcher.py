import contextlib
import errno
import os
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.axes import Device
from harness.backends import packages, registry
from harness.backends.base import Build
from harness.errors import UserError
from harness.flags import Flag
from harness.isolate import launcher, log, process, wire
from harness.isolate.launcher import Launcher
from harness.isolate.wire import Hello
from harness.measure import machine
from harness.plan import Budget, Plan, Step
from harness.record import Environment, Progress, Record, Status, Visit
from harness.spec import Cell
from tests import builders, machines
from tests.isolate.conftest import ROOT, TINY
from tests.isolate.test_worker import ended
from tests.tree import Tree

HERE = "tests.isolate.backends"
TARGETS = {
    kind: f"{HERE}:{kind.capitalize()}"
    for kind in (
        "plain",
        "moody",
        "framed",
        "refusing",
        "foreign",
        "leaving",
        "stuck",
        "stuttering",
        "confused",
    )
}
TARGETS["broken"] = "tests.isolate.broken:Backend"
TARGETS["misspelt"] = f"{HERE}:Nobody"


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Launcher]:
    return lambda **more: Launcher("run", tmp_path / "logs", targets=TARGETS, **more)


def cell(backend: str, workload: str = "conv", **axes: Any) -> Cell:
    return builders.cell(backend=backend, workload=workload, **axes)


def plan(*cells: Cell, trials: int = 1, budget: Budget = TINY) -> Plan:
    asked = [(trial, found) for trial in range(trials) for found in cells]
    return Plan("tests", tuple(Step(trial, order, found) for order, (trial, found) in enumerate(asked)), 7, budget)


def answers(of: Launcher, asked: Plan) -> list[Record | Environment | Visit]:
    return list(of.execute(asked))


def records(of: Launcher, asked: Plan) -> list[Record]:
    """In the order of the plan, whichever ended first."""
    found = [answer for answer in answers(of, asked) if isinstance(answer, Record)]
    return sorted(found, key=lambda record: record.order)


def visits(record: Record) -> list[int]:
    """The processes of the visits of a record."""
    assert record.samples
    return [visit.process for visit in record.samples.series[0].visits]


def pid(record: Record) -> int:
    assert record.settings is not None
    return int(record.settings["pid"])


def children() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


def workers(among: set[psutil.Process]) -> list[psutil.Process]:
    """Those that measure, without the one that waits for the end of this process."""
    return [child for child in among if "harness.isolate.worker" in child.cmdline()]


# Plan -> Records ----------------------------------------------------------------------------------------------------------


def test_rows_come_in_the_order_of_the_plan(make: Callable[..., Launcher]) -> None:
    asked = plan(cell("plain", "a"), cell("moody", "a"), cell("moody", "b"), cell("plain", "b"), trials=2)
    found = [answer for answer in answers(make(), asked) if isinstance(answer, Record)]
    assert [(row.trial, row.order, row.cell) for row in found] == [(step.trial, step.order, step.cell) for step in asked]
    assert {row.status for row in found} == {Status.OK}
    assert {row.run_id for row in found} == {"run"}
    assert all(row.samples and row.check and row.environment_id for row in found)


def test_each_trial_has_fresh_processes_and_within_it_a_backend_keeps_its_own(make: Callable[..., Launcher]) -> None:
    found = records(make(), plan(cell("plain", "a"), cell("moody", "a"), cell("plain", "b"), cell("moody", "b"), trials=2))
    plain = [pid(row) for row in found if row.cell.backend == "plain"]
    moody = [pid(row) for row in found if row.cell.backend == "moody"]
    assert plain[0] == plain[1] != plain[2] == plain[3]
    assert moody[0] == moody[1] != moody[2] == moody[3]
    assert not set(plain) & set(moody)


def test_another_number_of_threads_is_another_process(make: Callable[..., Launcher]) -> None:
    found = records(make(), plan(cell("plain", threads=1), cell("plain", threads=0), cell("plain", threads=1)))
    assert len({pid(row) for row in found}) == 3


def test_an_environment_comes_before_the_first_record_made_in_it_and_once(make: Callable[..., Launcher]) -> None:
    found = answers(make(), plan(cell("plain"), cell("moody"), trials=2))
    known: set[str] = set()
    for answer in found:
        if isinstance(answer, Environment):
            assert answer.id not in known
            known.add(answer.id)
        elif isinstance(answer, Record):
            assert answer.environment_id in known
        else:
            assert known
    assert len(known) == 2


def test_a_worker_skips_what_cannot_fit_and_goes_on(make: Callable[..., Launcher]) -> None:
    huge = replace(builders.CONV, n=2**20, spatial=(2**14, 2**14))
    skipped, measured = records(make(), plan(cell("plain", "huge", spec=huge), cell("plain", "small")))
    assert skipped.status is Status.SKIPPED
    assert skipped.reason.startswith("needs about ")
    assert skipped.reason.endswith(" are available")
    assert measured.status is Status.OK


def test_an_empty_plan_starts_nobody(make: Callable[..., Launcher]) -> None:
    assert answers(make(), plan()) == []


# Set up before anything is imported ---------------------------------------------------------------------------------------


def test_a_framework_finds_affinity_and_variables_already_set(
    make: Callable[..., Launcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "77")
    monkeypatch.setenv("NUMPY_MADVISE_HUGEPAGE", "1")
    (row,) = records(make(), plan(cell("framed", threads=1)))
    assert row.settings == {
        "affinity": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
        "NUMPY_MADVISE_HUGEPAGE": "0", "own": "1 threads on cpu", "numpy": "False",
    }  # fmt: skip


def test_no_number_of_threads_means_every_core_of_this_process(make: Callable[..., Launcher]) -> None:
    cores = str(len(os.sched_getaffinity(0)))
    (row,) = records(make(), plan(cell("framed", threads=0)))
    assert row.settings is not None
    assert (row.settings["affinity"], row.settings["OMP_NUM_THREADS"]) == (cores, cores)


def test_more_threads_than_cores_are_unsupported_and_nobody_is_started(
    make: Callable[..., Launcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "physical_cores_first", lambda: [0])
    monkeypatch.setattr(launcher.Launcher, "worker", lambda *asked: pytest.fail("started a worker"))
    rows = records(make(), plan(cell("plain", "a", threads=2), cell("plain", "b", threads=2)))
    assert [row.status for row in rows] == [Status.UNSUPPORTED] * 2
    assert rows[0].reason == "asks for 2 threads; this process may use 1 cores"


def test_physical_cores_come_first_and_node_by_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tree, in_turn = Tree(tmp_path), machine.in_turn
    machines.alternating(tree)
    monkeypatch.setattr(machine, "in_turn", lambda cpus: in_turn(cpus, tree.root))
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 3, 8, 10})
    assert launcher.physical_cores_first() == [0, 2, 1, 3, 8, 10]


def test_a_file_of_the_users_folder_shadows_no_package(
    make: Callable[..., Launcher], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "numpy.py").write_text("raise ImportError('not this one')")
    monkeypatch.chdir(tmp_path)
    (row,) = records(make(), plan(cell("plain")))
    assert row.status is Status.OK, row.reason


def test_output_of_a_framework_goes_to_its_log_and_does_not_disturb(
    make: Callable[..., Launcher], capfd: pytest.CaptureFixture[str]
) -> None:
    found = make()
    rows = records(found, plan(cell("moody", "talk"), cell("moody", "conv")))
    assert [row.status for row in rows] == [Status.OK, Status.OK]
    log = (found.logs / "moody.log").read_text()
    assert all(text in log for text in ('"kind": "Done"', "a warning", "printed past Python"))
    assert capfd.readouterr() == ("", "")


# What goes wrong is the row of one cell -----------------------------------------------------------------------------------


def test_a_crash_costs_one_cell_and_a_new_process_goes_on(make: Callable[..., Launcher]) -> None:
    asked = plan(cell("moody", "a"), cell("plain", "a"), cell("moody", "crash"), cell("plain", "b"), cell("moody", "b"))
    rows = records(make(), asked)
    assert [row.status for row in rows] == [Status.OK, Status.OK, Status.CRASHED, Status.OK, Status.OK]
    crashed = rows[2]
    assert crashed.reason == "killed by SIGSEGV in the first call; last output: about to fall over"
    assert crashed.environment_id == rows[0].environment_id
    assert (crashed.order, crashed.cell.workload, crashed.samples) == (2, "crash", None)
    assert pid(rows[4]) == pid(rows[0])  # made ready by the new one
    assert {process for row in (rows[0], rows[4]) for process in visits(row)} == {2}
    assert pid(rows[3]) == pid(rows[1])


@pytest.mark.fault(
    "a signal ends a whole group of processes",
    "the cell that was cut off is not called crashed",
)
def test_a_signal_to_a_whole_group_is_left_to_the_parent_and_is_no_crash(make: Callable[..., Launcher]) -> None:
    (row,) = records(make(), plan(cell("moody", "asked_to_end")))
    assert row.status is Status.OK, row.reason


def test_a_worker_that_leaves_says_its_exit_code(make: Callable[..., Launcher]) -> None:
    (row,) = records(make(), plan(cell("moody", "exits")))
    assert (row.status, row.reason) == (Status.CRASHED, "exit code 3 in the first call")


def test_a_device_that_is_broken_for_the_process_costs_one_cell_and_a_new_process_goes_on(
    make: Callable[..., Launcher],
) -> None:
    asked = plan(cell("moody", "a"), cell("moody", "breaks"), cell("moody", "b"), cell("moody", "breaks"), cell("moody", "c"))
    rows = records(make(), asked)
    assert [row.status for row in rows] == [Status.OK, Status.ERROR, Status.OK, Status.ERROR, Status.OK]
    assert rows[1].reason == "RuntimeError: CUDA error: an illegal memory access was encountered"
    assert visits(rows[0]) == visits(rows[2]) == visits(rows[4]) == [2] * 3  # the third process, after two were let go of


def test_an_error_of_one_cell_costs_no_process(make: Callable[..., Launcher]) -> None:
    rows = records(make(), plan(cell("moody", "a"), cell("moody", "fail"), cell("moody", "b")))
    assert [row.status for row in rows] == [Status.OK, Status.ERROR, Status.OK]
    assert pid(rows[0]) == pid(rows[2])


def test_the_words_of_an_earlier_worker_are_not_put_into_the_mouth_of_a_later_one(make: Callable[..., Launcher]) -> None:
    rows = records(make(), plan(cell("moody", "crash"), cell("moody", "killed")))
    assert rows[1].reason == "killed by SIGKILL in the first call"


@pytest.mark.parametrize(
    ("workload", "kills", "status"),
    [("killed", 1, Status.OOM), ("killed", 0, Status.CRASHED), ("crash", 1, Status.CRASHED)],
)
def test_a_kill_by_the_kernel_for_memory_is_told_apart(
    make: Callable[..., Launcher], monkeypatch: pytest.MonkeyPatch, workload: str, kills: int, status: Status
) -> None:
    counts = iter([5, 5 + kills])
    monkeypatch.setattr(process, "_out_of_memory_kills", lambda: next(counts))
    (row,) = records(make(), plan(cell("moody", workload)))
    assert row.status is status


def test_the_kernels_count_of_kills(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(process, "Path", lambda text: tmp_path / "vmstat")
    assert process._out_of_memory_kills() == 0
    (tmp_path / "vmstat").write_text("pgfree 7\noom_kill 3\nunused 1\n")
    assert process._out_of_memory_kills() == 3


@pytest.mark.fault("a cell hangs", "the row is a timeout that names the step; the run goes on")
def test_a_hang_is_a_timeout_and_the_run_goes_on(make: Callable[..., Launcher]) -> None:
    found = make()
    asked = plan(cell("moody", "hang"), cell("moody", "conv"), budget=replace(TINY, timeout_s=3))
    rows = records(found, asked)
    assert [row.status for row in rows] == [Status.TIMEOUT, Status.OK]
    assert rows[0].reason == "took longer than 3 s and was ended in the first call"
    assert rows[0].environment_id == rows[1].environment_id
    started_by_it = int((found.logs / "moody.log").read_text().split()[0])
    assert ended(started_by_it)


@pytest.mark.fault("a worker crashes in a step of a cell", "the row names the step, and its time is booked there")
@pytest.mark.parametrize(
    ("workload", "where", "spent"),
    [
        ("crash", "in the first call", "operands first_call"),
        ("crash_in_check", "in the check", "operands first_call check"),
        ("crash_in_memory", "in the memory pass", "operands first_call check memory"),
        ("crash_in_sampling", "in sampling", "operands first_call check memory witness warmup sampling"),
    ],
)
def test_a_cell_that_does_not_come_back_says_where_it_was_and_its_time_is_booked_there(
    make: Callable[..., Launcher], workload: str, where: str, spent: str
) -> None:
    (row,) = records(make(), plan(cell("moody", workload)))
    assert (row.status, row.reason) == (Status.CRASHED, f"killed by SIGSEGV {where}; last output: about to fall over")
    assert row.spent_ns is not None
    assert [name for name in row.spent_ns if name not in ("wire", "start", "parent", "energy")] == spent.split()
    assert row.spent_ns[spent.split()[-1]] > 0


@pytest.mark.fault(
    "a cell crashes, hangs, fails or is wrong: alone, when it is made ready, in its third visit, or when it is finished",
    "its row says so; the worker's other cells keep their visits, are made ready by a new process and get all of them",
)
@pytest.mark.parametrize(
    ("workload", "status", "reason"),
    [
        ("crash_at_alone", Status.CRASHED, "killed by SIGSEGV in the first call; last output: about to fall over"),
        ("crash_at_prepare", Status.CRASHED, "killed by SIGSEGV in the first call; last output: about to fall over"),
        ("crash_at_visit", Status.CRASHED, "killed by SIGSEGV in sampling; last output: about to fall over"),
        ("crash_at_finish", Status.CRASHED, "killed by SIGSEGV in the check; last output: about to fall over"),
        ("hang_at_alone", Status.TIMEOUT, "took longer than 3 s and was ended in the first call"),
        ("hang_at_prepare", Status.TIMEOUT, "took longer than 3 s and was ended in the first call"),
        ("hang_at_visit", Status.TIMEOUT, "took longer than 3 s and was ended in sampling"),
        ("hang_at_finish", Status.TIMEOUT, "took longer than 3 s and was ended in the check"),
        ("fail_at_alone", Status.ERROR, "ValueError: cannot do this one"),
        ("fail_at_prepare", Status.ERROR, "ValueError: cannot do this one"),
        ("fail_at_visit", Status.ERROR, "ValueError: cannot do this one"),
        ("fail_at_finish", Status.ERROR, "ValueError: cannot do this one"),
        ("break_at_visit", Status.ERROR, "RuntimeError: CUDA error: an illegal memory access was encountered"),
        ("wrong_at_alone", Status.INCORRECT, ""),
        ("wrong_at_prepare", Status.INCORRECT, ""),
        ("wrong_at_finish", Status.INCORRECT, ""),
    ],
)
def test_where_a_cell_comes_to_nothing_the_others_of_its_worker_keep_their_visits_and_go_on(
    make: Callable[..., Launcher], workload: str, status: Status, reason: str
) -> None:
    what, _, where = workload.partition("_at_")
    asked = plan(cell("moody", "a"), cell("moody", workload), cell("moody", "b"), budget=replace(TINY, timeout_s=3))
    found = answers(make(), asked)
    made = [answer for answer in found if isinstance(answer, Visit)]
    before, row, after = sorted((answer for answer in found if isinstance(answer, Record)), key=lambda record: record.order)
    assert row.status is status
    assert row.reason == reason or (what == "wrong" and row.reason)
    assert row.samples is None
    assert (before.status, after.status) == (Status.OK, Status.OK)
    assert len(visits(before)) == len(visits(after)) == 3
    assert sum(visit.order == 1 for visit in made) == {"visit": 2, "finish": 3}.get(where, 0)
    processes = sorted({visit.process for visit in made})
    anew = what != "fail"
    if where == "visit":
        assert processes == [0, 1] if anew else [0]
        assert visits(before)[:2] == visits(after)[:2] == [0, 0]
    else:  # nothing was visited yet, or all had been
        assert processes == [0 if where == "finish" or not anew else 1]
    assert row.spent_ns is not None
    assert ("sampling" in row.spent_ns) == (where in ("visit", "finish"))


@pytest.mark.fault("a worker is killed while nothing is asked of it", "it is replaced; the third one in a row is not")
@pytest.mark.parametrize("kills", [1, 3])
def test_a_worker_that_is_killed_between_two_visits_is_replaced_twice(make: Callable[..., Launcher], kills: int) -> None:
    found: list[Record | Visit] = []
    asked = plan(cell("plain", "a"), cell("plain", "b"))
    for answer in make().execute(asked):
        if isinstance(answer, Record | Visit):
            found.append(answer)
        if isinstance(answer, Visit) and answer.process < kills:
            (worker,) = workers(children())
            worker.kill()
            os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
    rows = [answer for answer in found if isinstance(answer, Record)]
    made = [answer.process for answer in found if isinstance(answer, Visit)]
    if kills == 1:
        assert made == [0, 1, 1, 1, 1, 1]
        assert [row.status for row in rows] == [Status.OK] * 2
        assert sorted(process for row in rows for process in visits(row)) == made
    else:
        assert made == [0, 1, 2]
        assert [row.status for row in rows] == [Status.CRASHED] * 2
        assert {row.reason for row in rows} == {"its worker ended 3 times in a row while nothing was asked of it"}


@pytest.mark.fault("a call is compiled again during a visit", "that visit is void, and the others count")
def test_a_visit_that_is_void_says_so_and_the_others_count(make: Callable[..., Launcher]) -> None:
    found = answers(make(), plan(cell("moody", "compile_at_visit")))
    made = [answer for answer in found if isinstance(answer, Visit)]
    (row,) = (answer for answer in found if isinstance(answer, Record))
    assert [visit.reason for visit in made] == ["", "", "the call was compiled again during the visit"]
    assert [len(visit.series) for visit in made] == [1, 1, 0]
    assert row.flags == (Flag.RECOMPILED,)
    assert len(visits(row)) == 2


def test_a_cell_of_which_each_visit_is_void_is_an_error(make: Callable[..., Launcher]) -> None:
    (row,) = records(make(), plan(cell("moody", "compile_ever")))
    assert (row.status, row.samples) == (Status.ERROR, None)
    assert row.reason == "each visit was void: the call was compiled again during the visit"


@pytest.mark.fault("a worker had printed something before the cell that crashes", "it is not quoted as the reason")
def test_what_was_printed_before_a_cell_began_is_not_quoted_where_it_crashes(make: Callable[..., Launcher]) -> None:
    rows = records(make(), plan(cell("moody", "talk"), cell("moody", "killed")))
    assert [row.reason for row in rows] == ["", "killed by SIGKILL in the first call"]


@pytest.mark.fault("a forked child holds a crashed worker's socket", "the row is a crash, not a timeout")
def test_a_child_that_holds_the_conversation_open_does_not_make_a_crash_a_timeout(make: Callable[..., Launcher]) -> None:
    rows = records(make(), plan(cell("moody", "fork"), cell("moody", "conv")))
    assert [row.status for row in rows] == [Status.CRASHED, Status.OK]
    assert rows[0].reason == "exit code 3 in the first call"


@pytest.mark.fault("a worker talks without end", "the cell is a timeout all the same")
def test_a_worker_that_talks_without_end_is_late_all_the_same(make: Callable[..., Launcher]) -> None:
    asked = plan(cell("moody", "babble"), cell("moody", "conv"), budget=replace(TINY, timeout_s=2))
    assert [row.status for row in records(make(), asked)] == [Status.TIMEOUT, Status.OK]


@pytest.mark.fault("an answer comes late or twice", "it never is another cell's record")
def test_an_answer_that_comes_twice_is_not_that_of_the_next_cell(make: Callable[..., Launcher]) -> None:
    asked = plan(cell("stuttering", "a"), cell("stuttering", "a"), cell("stuttering", "b"))
    found = answers(make(), asked)
    rows = [answer for answer in found if isinstance(answer, Record)]
    assert [(row.status, row.order, row.cell.workload) for row in rows] == [
        (Status.OK, 0, "a"), (Status.OK, 1, "a"), (Status.OK, 2, "b"),
    ]  # fmt: skip
    made = [answer for answer in found if isinstance(answer, Visit)]
    assert Counter(visit.order for visit in made) == {0: 3, 1: 3, 2: 3}
    assert len({visit.series for visit in made}) == 9
    assert len({row.started_at for row in rows}) == 3
    assert len({pid(row) for row in rows}) == 1


@pytest.mark.fault("an answer is for another cell", "the row is an error")
def test_an_answer_for_another_cell_is_no_record_of_this_one(make: Callable[..., Launcher]) -> None:
    rows = records(make(), plan(cell("confused", "mistaken"), cell("confused", "conv")))
    assert [row.status for row in rows] == [Status.ERROR, Status.OK]
    assert rows[0].reason.startswith("the record cannot be read: it is of another cell, taken/")


@pytest.mark.fault("a visit is of another cell", "the row is an error")
def test_a_visit_to_another_cell_is_no_visit_to_this_one(make: Callable[..., Launcher]) -> None:
    asked = plan(*(cell("confused", name) for name in "abcdefghi"))
    rows = records(make(), asked)
    assert [row.status for row in rows] == [Status.OK] * 7 + [Status.ERROR, Status.OK]
    assert rows[7].reason == "the record cannot be read: it is of step 8"


@pytest.mark.fault("a worker's message has no end", "the row is an error, and memory is bounded")
def test_a_message_without_end_is_an_error_row_and_the_run_goes_on(
    make: Callable[..., Launcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "MAX_MESSAGE_BYTES", 2**20)
    rows = records(make(), plan(cell("moody", "endless"), cell("moody", "conv")))
    assert [row.status for row in rows] == [Status.ERROR, Status.OK]
    assert rows[0].reason == "the record cannot be read: a message of more than 1 MiB"


@pytest.mark.fault("a worker crashes while it lets go of a call", "the finished record is kept, and says so")
def test_a_finished_record_survives_a_crash_in_letting_go_of_its_call(make: Callable[..., Launcher]) -> None:
    rows = records(make(), plan(cell("moody", "a"), cell("moody", "crash_in_close"), cell("moody", "b")))
    assert [row.status for row in rows] == [Status.OK] * 3
    kept = rows[1]
    assert kept.samples
    assert kept.settings is not None
    assert kept.settings["close"] == "killed by SIGSEGV while its call was let go of; last output: about to fall over"
    assert kept.spent_ns is not None
    assert kept.spent_ns["sampling"] > 0
    assert len(visits(kept)) == 3
    assert pid(rows[0]) == pid(kept) != pid(rows[2])


@pytest.mark.fault("a worker hangs while it lets go of a call", "the finished record is kept, and says so")
def test_a_finished_record_survives_a_hang_in_letting_go_of_its_call(
    make: Callable[..., Launcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_GRACE_S", 0.1)
    rows = records(make(), plan(cell("moody", "hang_in_close"), cell("moody", "b"), budget=replace(TINY, timeout_s=3)))
    assert [row.status for row in rows] == [Status.OK] * 2
    assert rows[0].samples
    assert rows[0].settings is not None
    assert rows[0].settings["close"] == "took longer than 3 s and was ended while its call was let go of"
    assert pid(rows[0]) != pid(rows[1])


@pytest.mark.fault("a worker gave a wrong result", "a fresh process measures the next cell")
def test_who_gave_a_wrong_result_measures_nothing_more(make: Callable[..., Launcher]) -> None:
    rows = records(make(), plan(cell("moody", "a"), cell("moody", "wrong"), cell("moody", "b")))
    assert [row.status for row in rows] == [Status.OK, Status.INCORRECT, Status.OK]
    assert visits(rows[0]) == visits(rows[2]) == [1] * 3
    assert pid(rows[1]) != pid(rows[0]) == pid(rows[2])


@pytest.mark.fault("a worker starts a child in a session of its own", "the child ends with the worker")
@pytest.mark.parametrize("workload", ["daemon", "daemon_crash"])
def test_what_a_worker_started_in_a_session_of_its_own_ends_with_it(make: Callable[..., Launcher], workload: str) -> None:
    found = make()
    (row,) = records(found, plan(cell("moody", workload)))
    assert row.status is (Status.OK if workload == "daemon" else Status.CRASHED)
    assert ended(int((found.logs / "moody.log").read_text().split()[0]))


@pytest.mark.fault("a framework prints much", "its log is cut between steps")
def test_a_framework_that_prints_much_does_not_fill_the_disk(
    make: Callable[..., Launcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "LIMIT_BYTES", 50)
    monkeypatch.setattr(log, "_KEPT_BYTES", 20)
    found = make()
    rows = records(found, plan(*(cell("moody", "talk") for _ in range(3))))
    assert [row.status for row in rows] == [Status.OK] * 3
    assert (found.logs / "moody.log").read_text() == "printed past Python\n"


def test_a_failure_inside_the_worker_costs_no_process(make: Callable[..., Launcher]) -> None:
    rows = records(make(), plan(cell("moody", "a"), cell("moody", "fail"), cell("moody", "b")))
    assert [row.status for row in rows] == [Status.OK, Status.ERROR, Status.OK]
    assert rows[1].reason == "ValueError: cannot do this one"
    assert pid(rows[0]) == pid(rows[2])


def test_a_record_that_cannot_be_read_is_an_error_row_and_the_run_goes_on(make: Callable[..., Launcher]) -> None:
    rows = records(make(), plan(cell("moody", "strange"), cell("moody", "conv")))
    assert [row.status for row in rows] == [Status.ERROR, Status.OK]
    assert "expected str, found False" in rows[0].reason


@pytest.mark.parametrize(
    ("backend", "reason"),
    [
        ("refusing", "RuntimeError: built for another CPU"),
        ("foreign", "TypeError: tests.isolate.backends:Foreign does not inherit from harness.backends.base.Backend"),
        ("broken", "ImportError: libbroken.so.1: cannot open shared object file"),
        ("misspelt", "AttributeError: module 'tests.isolate.backends' has no attribute 'Nobody'"),
        ("leaving", "exit code 7; last output: this CPU is too old"),
    ],
)
def test_a_backend_that_cannot_be_set_up_is_an_error_in_all_its_rows(
    make: Callable[..., Launcher], backend: str, reason: str
) -> None:
    rows = records(make(), plan(cell(backend, "a"), cell("plain", "a"), cell(backend, "b")))
    assert [row.status for row in rows] == [Status.ERROR, Status.OK, Status.ERROR]
    assert {rows[0].reason, rows[2].reason} == {f"{backend} could not be set up: {reason}"}


class Starting:
    """What becomes of starting the second worker, in place of subprocess.Popen."""

    def __init__(self, outcome: Callable[[list[str]], list[str]]) -> None:
        self.outcome, self.started, self.popen = outcome, 0, subprocess.Popen

    def __call__(self, command: list[str], **rest: Any) -> Any:
        self.started += "harness.isolate.worker" in command
        return self.popen(self.outcome(command) if self.started == 2 else command, **rest)


def no_process(command: list[str]) -> list[str]:
    raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")


@pytest.mark.fault(
    "a worker cannot be started, or dies before it listens",
    "rows of its own backend say why; the others are measured",
)
@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (no_process, "no process could be started: [Errno 11] Resource temporarily unavailable"),
        (lambda command: ["/nowhere/py"], "no process could be started: [Errno 2] No such file or directory: '/nowhere/py'"),
        (lambda command: ["sh", "-c", "echo 'Unknown option: -P' >&2; exit 2"], "exit code 2; last output: Unknown option: -P"),
        (lambda command: ["sh", "-c", "kill -9 $$"], "killed by SIGKILL"),
    ],
)
def test_a_worker_that_cannot_be_started_or_dies_before_it_listens_costs_its_own_backend_only(
    make: Callable[..., Launcher], monkeypatch: pytest.MonkeyPatch, outcome: Callable[[list[str]], list[str]], reason: str
) -> None:
    monkeypatch.setattr(subprocess, "Popen", Starting(outcome))
    rows = records(make(), plan(cell("plain", "a"), cell("moody", "a"), cell("plain", "b"), cell("moody", "b")))
    assert [row.status for row in rows] == [Status.OK, Status.ERROR] * 2
    assert {rows[1].reason, rows[3].reason} == {f"moody could not be set up: {reason}"}


@pytest.mark.fault("a backend hangs while it starts", "it is waited for once in a run")
def test_a_backend_that_was_waited_for_in_vain_is_not_waited_for_again(
    make: Callable[..., Launcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "START_TIMEOUT_S", 1.0)
    first, second = records(make(), plan(cell("stuck"), trials=2))
    assert first.reason == "stuck could not be set up: the worker was not ready within 1 s"
    assert second.reason == f"{first.reason}; it was not tried again"
    assert second.status is Status.ERROR


def test_a_backend_that_never_gets_ready_is_ended(make: Callable[..., Launcher], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "START_TIMEOUT_S", 1.0)
    (row,) = records(make(), plan(cell("stuck")))
    assert row.status is Status.ERROR
    assert row.reason == "stuck could not be set up: the worker was not ready within 1 s"


def test_a_backend_that_is_not_installed_is_skipped_with_the_line_that_installs_it(
    make: Callable[..., Launcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "find", lambda name: f"{HERE}:Absent")
    rows = records(make(), plan(cell("onnxruntime@old", "a"), cell("plain", "a"), cell("onnxruntime@old", "b")))
    assert [row.status for row in rows] == [Status.SKIPPED, Status.OK, Status.SKIPPED]
    assert rows[0].reason == "onnxruntime is not installed: pip install no_such_package_anywhere"


def test_a_backend_under_another_name_is_the_same_class(make: Callable[..., Launcher]) -> None:
    assert make().target("numpy@old") == make().target("numpy") == registry.find("numpy")
    assert make().target("plain") == f"{HERE}:Plain"


# Watching and ending early ------------------------------------------------------------------------------------------------


def test_the_observer_is_told_of_every_turn(make: Callable[..., Launcher]) -> None:
    told: list[Progress] = []
    asked = plan(cell("plain", "a"), cell("plain", "b"), trials=2, budget=replace(TINY, prepared=1))
    rows = records(make(observe=told.append), asked)
    assert [row.status for row in rows] == [Status.OK] * 4
    assert told == [
        Progress(trial, window, 2, turn, 3) for trial in (1, 2) for window in (1, 2) for turn in (1, 2, 3)
    ]  # fmt: skip


@pytest.fixture
def before() -> set[psutil.Process]:
    return children()


def test_when_the_consumer_stops_no_worker_stays(make: Callable[..., Launcher], before: set[psutil.Process]) -> None:
    def consume() -> None:
        for answer in make().execute(plan(cell("plain"), cell("moody"), cell("plain"), trials=2)):
            if isinstance(answer, Record):
                assert len(workers(children() - before)) == 2
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        consume()
    assert children() == before


def test_when_the_consumer_stops_at_the_first_environment_no_worker_stays(
    make: Callable[..., Launcher], before: set[psutil.Process]
) -> None:
    with contextlib.closing(make().execute(plan(cell("plain"), cell("moody")))) as found:
        assert isinstance(next(found), Environment)
        assert children() > before
    assert children() == before


def test_when_the_watcher_stops_after_a_turn_no_worker_stays(
    make: Callable[..., Launcher], before: set[psutil.Process]
) -> None:
    def observe(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        records(make(observe=observe), plan(cell("plain"), cell("moody")))
    assert children() == before


def test_a_worker_that_does_not_listen_is_killed_at_the_end(
    make: Callable[..., Launcher], before: set[psutil.Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_GRACE_S", 0.2)

    with contextlib.closing(make().execute(plan(cell("plain"), cell("stuck")))) as found:
        assert isinstance(next(found), Environment)
        assert len(workers(children() - before)) == 2
    assert children() == before


def test_the_row_of_a_step_that_nobody_measured(make: Callable[..., Launcher]) -> None:
    (step,) = plan(cell("plain"))
    row = make().row(step, Status.NOT_RUN, "the run ended")
    assert (row.run_id, row.status, row.reason, row.samples) == ("run", Status.NOT_RUN, "the run ended", None)


@pytest.mark.fault("the parent is killed with kill -9", "its workers and what they started end")
def test_when_this_process_is_killed_nothing_that_its_workers_started_stays(tmp_path: Path) -> None:
    hanging = tmp_path / "hanging"
    os.mkfifo(hanging)
    parent = textwrap.dedent(f"""
        from pathlib import Path
        from harness.isolate.launcher import Launcher
        from tests.isolate.test_launcher import TARGETS, cell, plan

        launcher = Launcher("run", Path({str(tmp_path)!r}), targets=TARGETS)
        list(launcher.execute(plan(cell("moody", "daemon_hang"))))
    """)
    environ = {**os.environ, "HANGING": str(hanging)}
    with subprocess.Popen([sys.executable, "-c", parent], cwd=ROOT, env=environ) as process:
        worker = int(hanging.read_text())
        process.kill()
    daemon = int((tmp_path / "moody.log").read_text().split()[0])
    assert ended(worker)
    assert ended(daemon)


# The probe ----------------------------------------------------------------------------------------------------------------


def test_a_probe_says_what_each_backend_sees_and_why_others_cannot_be_loaded(tmp_path: Path) -> None:
    found = launcher.probe({name: TARGETS[name] for name in ("plain", "framed", "refusing", "broken")}, tmp_path / "logs")
    assert list(found) == ["plain", "framed", "refusing", "broken"]
    plain, framed = found["plain"], found["framed"]
    assert isinstance(plain, Hello)
    assert plain.devices == (Device("cpu"),)
    assert isinstance(framed, Hello)
    assert framed.devices == (Device("cpu"), Device("gpu", 1))  # nothing was hidden from it
    assert (plain.build, framed.build) == (None, Build(cuda="13.0"))
    assert packages.NVML in framed.libraries
    assert found["refusing"] == "RuntimeError: built for another CPU"
    assert found["broken"] == "ImportError: libbroken.so.1: cannot open shared object file"


# Logs ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.fault("a label holds a path", "its log stays in its folder")
@pytest.mark.parametrize("label", ["plain@../../x", "plain@/etc/x", "plain@" + "ä" * 300, "plain@x\0y"])
def test_a_label_never_leads_a_log_out_of_its_folder(tmp_path: Path, label: str) -> None:
    of = Launcher("run", tmp_path / "a" / "logs", targets={label: TARGETS["plain"]})
    (found,) = records(of, plan(cell(label)))
    assert found.status is Status.OK
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    (log,) = (tmp_path / "a" / "logs").iterdir()
    assert log.name.startswith("plain@")


def test_labels_that_differ_have_logs_of_their_own(tmp_path: Path) -> None:
    labels = ("plain@a/b", "plain@a%2Fb", "plain@a b", "plain@a+b")
    records(Launcher("run", tmp_path, targets=dict.fromkeys(labels, TARGETS["plain"])), plan(*map(cell, labels)))
    assert len(list(tmp_path.iterdir())) == len(labels)


@pytest.mark.fault("links stand among the logs", "they are not written through")
def test_logs_are_not_written_through_links(make: Callable[..., Launcher], tmp_path: Path) -> None:
    outside, elsewhere = tmp_path / "outside", tmp_path / "elsewhere"
    outside.write_text("mine")
    elsewhere.mkdir()
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "plain.log").symlink_to(outside)
    (row,) = records(make(), plan(cell("plain")))
    assert row.status is Status.ERROR
    assert row.reason.endswith("plain.log is a link, and is not written through")
    assert outside.read_text() == "mine"
    (tmp_path / "linked").symlink_to(elsewhere)
    with pytest.raises(UserError, match="linked is a link"):
        records(Launcher("run", tmp_path / "linked", targets=TARGETS), plan(cell("plain")))
    assert list(elsewhere.iterdir()) == []
