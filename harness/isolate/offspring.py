"""What a worker started and left behind: found by a mark in the environment, which every descendant inherits, and ended.

A process group does not hold a child with a session of its own, and a tree does not hold one whose parent has ended. The mark
holds both. What takes the mark off (an environment of its own) is found as long as its line of parents up to the worker is
alive, and no longer after that. Of other users' processes and of those in other PID namespaces nothing is read, so nothing
of theirs is ended.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

MARK = "CONVBENCH_WORKER"
_PASSES = 20  # what is ended may be starting more
_numbers = count()


def new_mark() -> str:
    """A mark that no other worker bears: the namespace, the process that starts it and since when that runs, and a number."""
    return f"{_namespace()}-{os.getpid()}-{_started(os.getpid())}-{next(_numbers)}"


def end(mark: str, root: int | None) -> None:
    """End every process with that mark, and every descendant of the process `root`, itself included.

    An empty mark stands for nobody, and so does None, for a root that is gone: its number may be another's by now.
    """
    for _ in range(_PASSES):
        family = _family(root)
        if not _kill(lambda pid: pid in family or (mark != "" and _mark(pid) == mark)):  # noqa: B023
            return


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Have a process wait beside this one that ends the offspring of its workers where this one is killed and cannot."""
    end_orphans()  # of a process whose guard was killed too
    command = [sys.executable or "", "-P", "-m", "harness.isolate.offspring", str(os.getpid())]
    quiet = subprocess.DEVNULL
    try:
        guard = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, start_new_session=True)
    except OSError:  # the workers cannot be started either, and their rows say why
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            guard.communicate(b"all is well")


def guard(parent: int) -> None:
    """Wait for the end of the process that started this one, and do what it should have done."""
    with contextlib.suppress(OSError):
        handle = os.pidfd_open(parent)
        if sys.stdin.buffer.read():
            return
        select.select([handle], [], [])  # its files are closed a little before it has ended
    end_orphans()


def end_orphans() -> None:
    """End what workers left whose parent was killed before it could do so."""
    here = _namespace()

    def orphaned(pid: int) -> bool:
        namespace, *starter = _mark(pid).split("-")[:3]
        return namespace == here and len(starter) == 2 and _started(starter[0]) != starter[1]

    _kill(orphaned)


def _kill(which: Callable[[int], bool]) -> bool:
    """Kill those processes; whether there were any. A handle makes sure that it is the process that was looked at."""
    found = False
    for pid in _processes():
        if pid == os.getpid() or not which(pid):
            continue
        with contextlib.suppress(OSError):  # it has ended meanwhile, or is not ours
            handle = os.pidfd_open(pid)
            try:
                if which(pid):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                    found = True
            finally:
                os.close(handle)
    return found


def _processes() -> Iterator[int]:
    with contextlib.suppress(OSError):
        yield from (int(name) for name in os.listdir("/proc") if name.isdigit())


def _mark(pid: int) -> str:
    """The mark of a process; empty where it has none, is dead already or somebody else's."""
    try:
        environ = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return ""
    begins = f"{MARK}=".encode()
    marks = [entry[len(begins) :] for entry in environ.split(b"\0") if entry.startswith(begins)]
    return marks[0].decode(errors="replace") if marks else ""


def _stat(pid: int | str) -> list[str]:
    """The fields of a process behind its name, the state first; empty where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _started(pid: int | str) -> str:
    """When a process was started, in ticks since the machine was; empty where it has ended."""
    fields = _stat(pid)
    return fields[19] if fields and fields[0] not in "ZX" else ""


def _family(root: int | None) -> set[int]:
    """A process and its descendants, those that are dead already left out."""
    if root is None:
        return set()
    fields = {pid: _stat(pid) for pid in _processes()}
    parents = {pid: int(found[1]) for pid, found in fields.items() if found and found[0] not in "ZX"}
    family = {root}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return {pid for pid in family if pid in parents}


def _namespace() -> str:
    """The PID namespace: numbers of another one mean nothing here."""
    with contextlib.suppress(OSError):
        return "".join(filter(str.isdigit, os.readlink("/proc/self/ns/pid")))
    return ""


if __name__ == "__main__":
    guard(int(sys.argv[1]))
