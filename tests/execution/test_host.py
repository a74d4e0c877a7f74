"""The host's lock: who has it, who is told so, and what others may put in its place."""

import functools
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import BusyError, UserError
from harness.execution import host

HOLDING = """
import sys, signal
from harness.execution import host
lock = host.Lock()
assert lock.take()
lock.tell("20260301-tiny")
print("held", flush=True)
signal.pause()
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(host.VARIABLE, str(tmp_path / "lock"))
    return tmp_path / "lock"


@pytest.fixture
def other(path: Path) -> Callable[[], subprocess.Popen[str]]:
    """Another process, which holds the lock until it is killed."""
    running: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        command = [sys.executable, "-P", "-c", HOLDING, "an argument"]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment))
        assert running[-1].stdout
        assert running[-1].stdout.readline() == "held\n"
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.mark.fault(
    "users of a host have a TMPDIR of their own",
    "they have one lock",
)
def test_the_lock_is_one_for_all_users_whatever_their_folder_for_temporary_files_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(host.VARIABLE)
    places = set()
    for folder in ("one", "two"):
        monkeypatch.setenv("TMPDIR", str(tmp_path / folder))
        places.add(host.Lock().path)
    assert places == {Path("/tmp/convbench.lock")}


@pytest.mark.fault(
    "another run measures, or was killed while it did",
    "it is named; a killed one is in nobody's way",
)
def test_who_is_refused_is_told_by_whom_and_a_killed_holder_is_in_nobodys_way(path: Path, other) -> None:
    process = other()
    with pytest.raises(BusyError) as refused, host.alone():
        pass
    assert [word for word in ("20260301-tiny", f"pid {process.pid} of ", " since ", "an argument", "--wait 30m")
            if word not in str(refused.value)] == []  # fmt: skip
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert str(process.pid) in path.read_text()  # what it wrote is left
    with host.alone():
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert path.read_text() == ""


WHOLE = {"pid": 1, "born": "", "user": "u", "command": "c", "since": "s", "run": ""}
WRONG = ({"born": "not then"}, {"pid": -1}, {"pid": 10**20, "born": "1"}, {"pid": "one"})


@pytest.mark.fault(
    "the lock's file says something stale or broken",
    "it is not believed",
)
@pytest.mark.parametrize(
    "text",
    ["", "{", "[1]", "[" * 10_000, '{"pid": 1}', "\0\xff", *(json.dumps(WHOLE | wrong) for wrong in WRONG)],
)
def test_a_text_that_its_holder_did_not_write_is_not_believed(path: Path, text: str) -> None:
    with host.alone():
        path.write_text(text)
        assert host.Lock().holder() == f"another run is measuring on this host (it holds {path})"


@pytest.mark.fault(
    "the lock's file holds terminal escapes",
    "nothing raw is printed",
)
def test_what_a_holder_says_of_itself_cannot_touch_the_terminal(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["convbench", "run", "\x1b[2Jfirst\n\udcff" + "x" * 10_000])
    with host.alone():
        said = host.Lock().holder()
    assert said.isprintable()
    assert len(said) < 1000


def test_a_lock_that_its_own_process_holds_is_held(path: Path) -> None:
    with host.alone(), pytest.raises(BusyError), host.alone():
        pass


def test_everybody_may_use_the_file_whatever_the_umask_of_who_made_it(path: Path) -> None:
    before = os.umask(0o077)
    try:
        with host.alone():
            assert stat.S_IMODE(path.stat().st_mode) == 0o666
    finally:
        os.umask(before)


@pytest.mark.fault(
    "the lock's file may only be read",
    "it can be held all the same",
)
def test_a_file_that_may_only_be_read_can_be_held_and_keeps_its_text(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one on a medium for reading alone; root may write to any other."""
    path.write_text("theirs")
    really = os.open

    def refused(name, flags, *mode):
        if flags & os.O_RDWR:
            raise PermissionError(13, "Permission denied")
        return really(name, flags, *mode)

    monkeypatch.setattr(os, "open", refused)
    with host.alone():
        assert not host.Lock().take()
    assert path.read_text() == "theirs"


@pytest.mark.fault(
    "a link stands in the lock's place",
    "it is refused and not followed",
)
def test_a_link_in_its_place_is_refused_and_not_followed(path: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    path.symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match=r"lock: it is a link, .* CONVBENCH_LOCK"), host.alone():
        pass
    assert (tmp_path / "precious").read_text() == "mine"


@pytest.mark.fault(
    "the lock's file is a second name of another one",
    "that is not written",
)
def test_a_second_name_of_another_file_is_locked_and_not_written(path: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    path.hardlink_to(tmp_path / "precious")
    with host.alone():
        assert not host.Lock().take()
    assert (tmp_path / "precious").read_text() == "mine"


@pytest.mark.fault(
    "a folder or a pipe stands in the lock's place",
    "one line names it and the remedy",
)
@pytest.mark.parametrize(("make", "why"), [(Path.mkdir, "it is a folder"), (os.mkfifo, "it is no plain file")])
def test_what_is_no_file_is_refused_and_named(path: Path, make, why: str) -> None:
    make(path)
    with pytest.raises(UserError, match=why), host.alone():
        pass


@pytest.mark.fault(
    "the lock's file is removed while it is taken",
    "two runs never both hold it",
)
def test_a_lock_that_was_removed_while_it_was_opened_is_not_taken_for_the_one_that_stands_there(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes would each hold a lock of their own."""
    really, removed = host._opened, []

    def opened(where: Path) -> int:
        descriptor = really(where)
        if not removed:
            removed.append(where.unlink())
        return descriptor

    monkeypatch.setattr(host, "_opened", opened)
    with host.alone():
        assert not host.Lock().take()


def test_a_child_that_was_forked_meanwhile_does_not_go_on_holding_it(path: Path) -> None:
    with host.locked() as lock:
        assert lock.take()
        os.set_inheritable(lock._descriptor, True)
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
        lock.release()
        with host.alone():
            assert child.poll() is None
        child.communicate(b"\n")


# Waiting ------------------------------------------------------------------------------------------------------------------


def test_a_busy_host_is_waited_for_and_it_is_said_on_whom(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told, slept = [], []
    with host.locked() as holder:
        assert holder.take()

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            if len(slept) == 3:
                holder.release()

        monkeypatch.setattr(host, "Patience", functools.partial(host.Patience, sleep=sleep))
        with host.alone(1e6, told.append) as lock:
            assert lock.take()
    assert slept == [host.LOOK_EVERY_S] * 3
    (said,) = told
    assert f"pid {os.getpid()}" in said


def test_a_holder_with_a_long_command_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["convbench", "run", "ä" * 2000])
    with host.alone() as lock:
        lock.tell("20260301-tiny")
        assert host.Lock().measured() == "20260301-tiny"
