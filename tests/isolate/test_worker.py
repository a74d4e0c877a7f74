import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.axes import Device
from harness.isolate.launcher import physical_cores_first
from harness.isolate.process import Worker
from harness.isolate.wire import Alone, Call, Closed, ClosedError, Done, Finish, GoOn, Hello, Prepare, Ready, Visited, Working
from harness.plan import Step
from harness.record import Status
from tests import builders
from tests.isolate.conftest import ROOT

MakeWorker = Callable[[str], Worker]
PATIENCE_S = 30


def step(workload: str = "conv") -> Step:
    return Step(0, 0, builders.cell(workload=workload, backend="moody"))


def ask(worker: Worker, workload: str = "conv") -> tuple[Done, Closed]:
    """What a worker answers in the end to being asked for a step alone."""
    worker.channel.send(Alone(step(workload), 1))
    return record(worker)


def heard(worker: Worker) -> object:
    """What a worker says next that is no news of what it does."""
    while isinstance(answer := worker.channel.receive(), Working):
        worker.channel.send(GoOn())
    return answer


def record(worker: Worker) -> tuple[Done, Closed]:
    answer = heard(worker)
    assert isinstance(answer, Done)
    closed = heard(worker)
    assert isinstance(closed, Closed)
    return answer, closed


def ended(pid: int) -> bool:
    """Whether a process that need not be our child is gone, or goes within our patience."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], PATIENCE_S)[0])
    finally:
        os.close(handle)


def test_it_says_hello_answers_and_ends_when_told(make_worker: MakeWorker) -> None:
    worker = make_worker("Plain")
    hello = worker.hello()
    assert isinstance(hello, Hello)
    assert hello.devices == (Device("cpu"),)
    assert hello.environment.affinity == (physical_cores_first()[0],)
    assert hello.environment.backend == "plain"
    assert "numpy" in hello.environment.packages
    answer, closed = ask(worker)
    assert answer.number == closed.number == 1
    assert answer.record.status is Status.OK
    assert answer.record.run_id == "run"
    assert answer.record.environment_id == hello.environment.id
    assert answer.record.settings == {"pid": str(worker.process.pid)}
    worker.stop()
    assert worker.process.returncode == 0


def test_it_is_made_ready_visited_and_finished(make_worker: MakeWorker) -> None:
    """Two steps at a time; nothing is said during a visit but what it brought."""
    worker = make_worker("Plain")
    worker.hello()
    steps = [Step(0, order, builders.cell(workload=f"w{order}")) for order in (3, 5)]
    for number, asked in enumerate(steps):
        worker.channel.send(Prepare(asked, number))
        ready = heard(worker)
        assert isinstance(ready, Ready)
        assert ready.number == number
        assert {"operands", "first_call", "check", "warmup"} <= set(ready.spent_ns)
    for number, order in enumerate((5, 3, 5), start=2):
        worker.channel.send(Call(order, number))
        visited = worker.channel.receive()
        assert isinstance(visited, Visited)
        assert (visited.number, visited.visit.order, visited.visit.reason) == (number, order, "")
        assert visited.visit.series[0].block_ns
        assert visited.visit.spent_ns is not None
        assert "first_call" not in visited.visit.spent_ns  # which was told before
    for number, order in enumerate((3, 5), start=5):
        worker.channel.send(Finish(order, number))
        done, closed = record(worker)
        assert (done.number, closed.number, done.record.order, done.record.status) == (number, number, order, Status.OK)
        assert done.record.samples
        assert done.record.samples.series == ()
        assert done.record.samples.first_call_ns > 0
        assert closed.spent_ns is not None
        assert "warmup" not in closed.spent_ns


def test_it_says_that_its_device_is_broken_and_ends_after_the_record(make_worker: MakeWorker) -> None:
    worker = make_worker("Moody")
    worker.hello()
    assert not ask(worker, "conv")[1].leaving
    answer, closed = ask(worker, "breaks")
    assert closed.leaving
    assert answer.record.status is Status.ERROR
    assert worker.process.wait(PATIENCE_S) == 0


def test_it_ends_when_the_parent_hangs_up(make_worker: MakeWorker) -> None:
    worker = make_worker("Plain")
    worker.hello()
    worker.channel.close()
    assert worker.process.wait(PATIENCE_S) == 0


def test_it_ends_when_the_parent_hangs_up_before_it_was_ready(make_worker: MakeWorker) -> None:
    worker = make_worker("Plain")
    worker.channel.close()
    assert worker.process.wait(PATIENCE_S) == 0


def test_what_it_was_not_asked_in_this_way_ends_it_with_the_reason_in_its_log(make_worker: MakeWorker) -> None:
    worker = make_worker("Plain")
    worker.hello()
    worker.channel.send(GoOn())
    with pytest.raises(ClosedError):
        worker.channel.receive()
    assert worker.cause_of_death() == ("exit code 1; last output: TypeError: expected something to do, or Stop, got GoOn()")


def test_it_is_deaf_to_ctrl_c_of_the_terminal(make_worker: MakeWorker) -> None:
    worker = make_worker("Plain")
    worker.hello()
    assert os.getsid(worker.process.pid) != os.getsid(0)


def test_it_dies_with_its_parent_even_where_it_listens_to_nobody(tmp_path: Path) -> None:
    parent = textwrap.dedent(f"""
        import os, signal
        from pathlib import Path
        from harness.isolate.launcher import physical_cores_first
        from harness.isolate.process import Worker
        from harness.isolate.wire import Alone, GoOn, Setup
        from harness.axes import Device
        from tests.isolate.conftest import TINY
        from tests.isolate.test_worker import step

        cores = tuple(physical_cores_first())
        setup = Setup("tests.isolate.backends:Moody", "moody", Device("cpu"), cores, TINY, 1, "run")
        worker = Worker(setup, Path({str(tmp_path / "log")!r}))
        worker.hello()
        worker.channel.send(Alone(step("hang"), 1))
        for _ in range(2):  # the operands, and the first call, in which it hangs
            worker.channel.receive()
            worker.channel.send(GoOn())
        print(worker.process.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    done = subprocess.run([sys.executable, "-c", parent], cwd=ROOT, stdout=subprocess.PIPE, check=False, text=True)
    assert done.returncode == -signal.SIGKILL
    assert ended(int(done.stdout))


@pytest.mark.fault("the parent dies while a worker starts", "the worker ends at once")
def test_a_worker_whose_parent_was_gone_before_it_began_ends_at_once() -> None:
    """The kernel ends it with its parent only from when it has asked for that."""
    ours, theirs = socket.socketpair()
    with ours, theirs:  # nobody hangs up
        command = [sys.executable, "-P", "-m", "harness.isolate.worker", str(theirs.fileno()), "1"]
        assert subprocess.run(command, pass_fds=[theirs.fileno()], check=False, timeout=PATIENCE_S).returncode == 0


def test_what_a_framework_starts_does_not_hold_the_conversation(make_worker: MakeWorker) -> None:
    worker = make_worker("Plain")
    worker.hello()
    of_it = Path(f"/proc/{worker.process.pid}")
    (descriptor,) = (path.name for path in (of_it / "fd").iterdir() if os.readlink(path).startswith("socket:"))
    flags = (of_it / "fdinfo" / descriptor).read_text().split("flags:")[1].split()[0]
    assert int(flags, 8) & os.O_CLOEXEC


def test_nothing_but_the_standard_library_is_loaded_before_it_is_set_up() -> None:
    code = "import sys, harness.isolate.worker; print(sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, check=True, text=True)
    assert not {"numpy", "pandas", "psutil", "pydantic", "torch"} & set(eval(done.stdout))


def test_numpy_is_told_to_ask_for_no_huge_pages(make_worker: MakeWorker) -> None:
    """Its arrays, the check's among them, would leave them to the framework's buffers."""
    worker = make_worker("Paged")
    hello = worker.hello()
    assert isinstance(hello, Hello)
    assert hello.environment.environ["NUMPY_MADVISE_HUGEPAGE"] == "0"
    assert ask(worker)[0].record.settings == {"numpy asks for huge pages": "False"}
