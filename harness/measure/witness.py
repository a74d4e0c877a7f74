"""What the machine was doing meanwhile: who waited for a core, who else ran, and what the hypervisor took.

A thread that stands runnable but not running holds up the whole call. But frameworks keep more threads than cores and wait
for themselves all the time (TensorFlow on 2 idle cores: a third of the wall time), which is part of what they cost. So a block
counts as disturbed only where our threads waited *and* somebody else ran. Read outside the timed part only.

Source of the figures: the first and second field of /proc/PID/task/TID/schedstat, time run and time waited for a core, in ns,
https://www.kernel.org/doc/html/latest/scheduler/sched-stats.html.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_PROC = Path("/proc")
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_RAN, _WAITED = 0, 1
_ACTIVE_SHARE = 0.005  # a task that ran for less than this share of the time since the last look is not watched closely


class _Watched:
    """One field of the schedstat of a set of threads, summed, in ns since each was added.

    The files stay open, so that a reading costs about two microseconds a thread.
    """

    def __init__(self, field: int) -> None:
        self._field = field
        self._files: dict[Path, int] = {}
        self._last: dict[Path, int] = {}
        self._total = 0

    def add(self, task: Path) -> None:
        """Watch one more thread from now on; one that has ended meanwhile is passed over."""
        with contextlib.suppress(OSError):
            file = os.open(task / "schedstat", os.O_RDONLY)
            try:
                self._last[task] = self._value(file)
            except (OSError, IndexError, ValueError):
                os.close(file)
            else:
                self._files[task] = file

    def _value(self, file: int) -> int:
        return int(os.pread(file, 96, 0).split()[self._field])

    def read(self) -> int:
        """The sum over all threads, those that have ended included."""
        for task, file in list(self._files.items()):
            try:
                value = self._value(file)
            except (OSError, IndexError, ValueError):  # the thread has ended
                os.close(self._files.pop(task))
                continue
            self._total += value - self._last[task]
            self._last[task] = value
        return self._total

    def __contains__(self, task: Path) -> bool:
        return task in self._files

    def __len__(self) -> int:
        return len(self._files)

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            os.close(file)
        self._files.clear()


class RunDelay:
    """How long the threads of this process stood runnable but not running."""

    def __init__(self, proc: Path = _PROC) -> None:
        self._tasks = proc / "self" / "task"
        self._threads = _Watched(_WAITED)
        self.refresh()

    def refresh(self) -> None:
        """Find threads that were born since; what they had waited before is left out."""
        with contextlib.suppress(OSError):
            for name in os.listdir(self._tasks):
                if (task := self._tasks / name) not in self._threads:
                    self._threads.add(task)

    def read(self) -> int | None:
        """Nanoseconds since this was made, over all threads; None where this kernel does not tell (gVisor, for one)."""
        return self._threads.read() if len(self._threads) else None

    def close(self) -> None:
        """Close the files."""
        self._threads.close()


def ran_ns(proc: Path = _PROC, own: int | None = None) -> Iterator[tuple[Path, int]]:
    """How long every thread on the machine has run, by its folder in /proc, less those of this process, or of process `own`."""
    leave_out = str(os.getpid() if own is None else own)
    for process in _names(proc):
        if process.isdecimal() and process != leave_out:
            for thread in _names(proc / process / "task"):
                task = proc / process / "task" / thread
                with contextlib.suppress(OSError, IndexError, ValueError):
                    yield task, int((task / "schedstat").read_bytes().split()[_RAN])


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # a process that has ended, or may not be looked into
        return []


class Others:
    """How long threads of other processes ran. Those that do next to nothing are looked at in `refresh` only.

    Sees what /proc shows: not the neighbours of a container or of a virtual machine, whose time `steal_ns` has in part.
    """

    def __init__(self, proc: Path = _PROC, pid: int | None = None) -> None:
        self._proc, self._own = proc, pid
        self._ran: dict[Path, int] = {}
        self._active = _Watched(_RAN)
        self.refresh(0)

    def refresh(self, since_ns: float) -> None:
        """Look at every thread on the machine and watch those that ran much in the `since_ns` since the last look."""
        before, self._ran = self._ran, dict(ran_ns(self._proc, self._own))
        for task, ran in self._ran.items():
            if since_ns and task not in self._active and ran - before.get(task, 0) > _ACTIVE_SHARE * since_ns:
                self._active.add(task)

    def read(self) -> int | None:
        """Nanoseconds that the watched threads ran since each was found; None where no other process can be seen."""
        return self._active.read() if self._ran else None

    def close(self) -> None:
        """Close the files."""
        self._active.close()


def steal_ns(stat: Path = _PROC / "stat") -> int | None:
    """Time stolen from all CPUs since boot, in ns, in steps of a clock tick; None where it is not told."""
    try:
        return int(stat.read_text().split("\n", 1)[0].split()[8]) * _TICK_NS
    except (OSError, IndexError, ValueError):
        return None
