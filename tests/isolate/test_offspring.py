import os
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from harness.isolate import offspring
from tests.isolate.test_worker import ended

PAUSE = "import signal; signal.pause()"


@pytest.fixture
def mark() -> Iterator[str]:
    mark = offspring.new_mark()
    yield mark
    offspring.end(mark, None)


def start(mark: str, code: str = PAUSE) -> subprocess.Popen[str]:
    environ = {**os.environ, offspring.MARK: mark}
    command = [sys.executable, "-c", f"print(flush=True); {code}"]
    return subprocess.Popen(command, env=environ, start_new_session=True, stdout=subprocess.PIPE, text=True)


def listening(process: subprocess.Popen[str]) -> str:
    """Its first line, which it prints when it runs."""
    assert process.stdout
    return process.stdout.readline()


def let_go(process: subprocess.Popen[str]) -> int:
    """Its exit code."""
    with process:
        return process.wait()


def test_every_mark_is_another() -> None:
    assert len({offspring.new_mark() for _ in range(10)}) == 10


def test_who_bears_the_mark_is_ended_and_nobody_else(mark: str) -> None:
    mine, other = start(mark), start(offspring.new_mark())
    for process in (mine, other):
        listening(process)
    offspring.end(mark, None)
    assert let_go(mine) == -9
    assert other.poll() is None
    other.kill()
    let_go(other)


def test_who_took_the_mark_off_is_ended_with_its_parents(mark: str) -> None:
    command = [sys.executable, "-c", PAUSE]
    child = f"import subprocess; print(subprocess.Popen({command}, env={{}}, start_new_session=True).pid, flush=True)"
    parent = start(mark, f"{child}; {PAUSE}")
    listening(parent)
    grandchild = int(listening(parent))
    offspring.end(mark, parent.pid)
    assert ended(grandchild)
    assert let_go(parent) == -9


def test_no_mark_stands_for_nobody(mark: str) -> None:
    """Most processes of a machine have none."""
    child = subprocess.Popen([sys.executable, "-c", f"print(flush=True); {PAUSE}"], stdout=subprocess.PIPE, text=True)
    listening(child)
    offspring.end("", None)
    assert child.poll() is None
    child.kill()
    let_go(child)


@pytest.mark.fault("the guard of a run was killed too", "the next run ends what was left, and nothing of a living run")
def test_what_a_process_left_that_is_gone_is_ended_and_what_a_living_one_started_is_not(mark: str) -> None:
    namespace, _, started, _ = mark.split("-")
    gone = subprocess.Popen(["true"])
    gone.wait()
    mine = start(mark)
    orphans = [start(f"{namespace}-{gone.pid}-{started}-0"), start(f"{namespace}-{os.getpid()}-1-0")]  # its number given anew
    elsewhere = start(f"7-{gone.pid}-{started}-0")
    for process in (mine, elsewhere, *orphans):
        listening(process)
    offspring.end_orphans()
    assert [let_go(process) for process in orphans] == [-9, -9]
    assert (mine.poll(), elsewhere.poll()) == (None, None)
    for process in (mine, elsewhere):
        process.kill()
        let_go(process)


def test_the_guard_leaves_when_all_is_well() -> None:
    before = set(psutil.Process().children())
    with offspring.guarded():
        assert set(psutil.Process().children()) > before
    assert set(psutil.Process().children()) == before  # it would be among them as a zombie, too


def test_without_a_guard_work_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with offspring.guarded():
        done = True
    assert done
