"""What the machine was doing meanwhile: who waited for a core, who else ran, and what the hypervisor took.

A thread that stands runnable but not running holds up the whole call. But frameworks keep more threads than cores and wait
for themselves all the time (TensorFlow on 2 idle cores: a third of the wall time), which is part of what they cost. So a block
counts as disturbed only where our threads waited *and* somebody else ran. Read outside the timed part only.

Source of the figures: the first and second field of /proc/PID/task/TID/schedstat, time run and time waited for a core, in ns,
https://www.kernel.org/doc/html/latest/scheduler/sched-stats.html.
"""

import contextlib
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from harness.measure import clock as clocks

# What is read beside the samples may take a 25th of their time, each: together well under a tenth.
WORK_TO_READING = 25
_REFRESH_TO_COST = 50  # looking at all threads of the machine takes at most a fiftieth of the time
_PROC = Path("/proc")
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_RAN, _WAITED = 0, 1
_IDLE, _IDLE_END, _STOLEN = 3, 5, 7  # of the fields of a line of /proc/stat: idle and iowait, and the last
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
        self.told = False  # of no thread yet that it has run at all

    def add(self, task: Path) -> None:
        """Watch one more thread from now on; one that has ended meanwhile is passed over."""
        with contextlib.suppress(OSError):
            file = os.open(task / "schedstat", os.O_RDONLY)
            try:
                fields = self._fields(file)
                self._last[task] = fields[self._field]
            except (OSError, IndexError, ValueError):
                os.close(file)
            else:
                self._files[task] = file
                self.told |= fields[_RAN] > 0

    @staticmethod
    def _fields(file: int) -> list[int]:
        return [int(field) for field in os.pread(file, 96, 0).split()]

    def read(self) -> int:
        """The sum over all threads, those that have ended included."""
        for task, file in list(self._files.items()):
            try:
                value = self._fields(file)[self._field]
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
        """Nanoseconds since this was made, over all threads; None where this kernel does not tell.

        It has no such file (gVisor, for one), or the file says nothing but 0, of a thread that is running right now.
        """
        return self._threads.read() if len(self._threads) and self._threads.told else None

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


def unseen(proc: Path = _PROC) -> str:
    """Why it is not told how long the processes of others ran; "" where it is.

    By what can really be seen: process 1 is there on every machine and in every container, and has run. It proves nothing
    where it is this user's own; then what the mount says counts.
    """
    try:
        ran = int((proc / "1" / "task" / "1" / "schedstat").read_bytes().split()[_RAN])
    except (OSError, IndexError, ValueError):
        hidden = _hidden(proc)
        if hidden is None and not (proc / "self" / "schedstat").exists():
            return "this kernel does not tell how long a process ran"
        return f"/proc hides the processes of other users ({hidden or 'process 1 cannot be looked into'})"
    if not ran:
        return "this kernel says of every process that it ran for 0 ns"
    with contextlib.suppress(OSError):
        if (hidden := _hidden(proc)) and (proc / "1").stat().st_uid == os.geteuid() != 0:
            return f"/proc hides the processes of other users ({hidden})"
    return ""


def _hidden(proc: Path) -> str | None:
    """The option by which /proc is mounted so that processes of other users are hidden from this one; None: by none.

    Source: https://www.kernel.org/doc/html/latest/filesystems/proc.html#mount-options.
    """
    try:
        mounts = [line.split() for line in (proc / "self" / "mounts").read_text(errors="replace").splitlines()]
    except OSError:
        return None
    found = [mount[3].split(",") for mount in mounts if mount[1:3] == ["/proc", "proc"] and len(mount) > 3]
    options = dict(option.partition("=")[::2] for option in (found[-1] if found else ()))
    mode, group = options.get("hidepid", "0"), options.get("gid", "0")
    if mode in ("0", "off"):
        return None
    if mode not in ("4", "ptraceable") and group.isdecimal() and int(group) in (os.getegid(), *os.getgroups()):
        return None
    return f"mounted with hidepid={mode}"


class Others:
    """How long threads of other processes ran. Those that do next to nothing are looked at in `refresh` only.

    Sees what /proc shows: not the neighbours of a container or of a virtual machine, whose time `steal_ns` has in part. Where
    /proc hides processes nothing is told: those that are left would pass for all.
    """

    def __init__(self, proc: Path = _PROC, pid: int | None = None) -> None:
        self._proc, self._own = proc, pid
        self._unseen = unseen(proc)
        self._ran: dict[Path, int] = {}
        self._active = _Watched(_RAN)
        self.refresh(0)

    def refresh(self, since_ns: float) -> None:
        """Look at every thread on the machine and watch those that ran much in the `since_ns` since the last look."""
        if self._unseen:
            return
        before, self._ran = self._ran, dict(ran_ns(self._proc, self._own))
        for task, ran in self._ran.items():
            if since_ns and task not in self._active and ran - before.get(task, 0) > _ACTIVE_SHARE * since_ns:
                self._active.add(task)

    def read(self) -> int | None:
        """Nanoseconds that the watched threads ran since each was found; None where others cannot be seen."""
        return self._active.read() if self._ran else None

    def close(self) -> None:
        """Close the files."""
        self._active.close()


def steal_ns(stat: Path = _PROC / "stat") -> int | None:
    """Time stolen from all CPUs since boot, in ns, in steps of a clock tick; None where it is not told."""
    found = cpu_ticks(stat).get("cpu", [])
    return found[_STOLEN] * _TICK_NS if len(found) > _STOLEN else None


def busy_ns(cpus: Iterable[int], stat: Path = _PROC / "stat") -> int | None:
    """How long these CPUs were busy since boot, in ns, in steps of a clock tick, with whatever it was; None: not told.

    The kernel counts this of all processes, those too that are hidden from this one.
    """
    told = cpu_ticks(stat)
    found = [told.get(f"cpu{cpu}", []) for cpu in cpus]
    if not all(found):
        return None
    return sum(sum(ticks[:_STOLEN]) - sum(ticks[_IDLE:_IDLE_END]) for ticks in found) * _TICK_NS


def cpu_ticks(stat: Path = _PROC / "stat") -> dict[str, list[int]]:
    """The times of /proc/stat in clock ticks, of all CPUs (`cpu`) and of each (`cpu0`); none where they are all 0 (gVisor).

    Source: user, nice, system, idle, iowait, irq, softirq, steal in
    https://www.kernel.org/doc/html/latest/filesystems/proc.html#miscellaneous-kernel-statistics-in-proc-stat.
    """
    found = {}
    with contextlib.suppress(OSError, ValueError):
        for line in stat.read_text().splitlines():
            name, *fields = line.split() or [""]
            if name.startswith("cpu"):
                found[name] = [int(field) for field in fields]
    return found if any(map(sum, found.values())) else {}


class Witness:
    """The run delay of this process and the time that others ran, read together; knows what reading costs."""

    def __init__(self, clock: clocks.Clock) -> None:
        self.clock = clock
        begun = clock()
        self.delay, self.others = RunDelay(), Others()
        self.refresh_cost_ns = clock() - begun
        self.looked = clock()
        self.read()
        self.group_ns = 2 * WORK_TO_READING * (clock() - self.looked)  # one reading before a group and one after

    def __enter__(self) -> "Witness":
        return self

    def __exit__(self, *error: object) -> None:
        self.delay.close()
        self.others.close()

    def read(self) -> tuple[float, float]:
        """(run delay, others' time) so far, in ns; NaN for not measured."""
        delay, others = self.delay.read(), self.others.read()
        return math.nan if delay is None else delay, math.nan if others is None else others

    @property
    def stale(self) -> bool:
        """Whether to look for new threads: looking costs milliseconds where there are many."""
        return self.clock() - self.looked > _REFRESH_TO_COST * self.refresh_cost_ns

    def refresh(self) -> None:
        """Look for threads that were born or woke up since."""
        begun = self.clock()
        self.delay.refresh()
        self.others.refresh(begun - self.looked)
        self.looked = self.clock()
        self.refresh_cost_ns = self.looked - begun
