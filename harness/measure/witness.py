"""What the machine was doing meanwhile: who waited for a core, who else ran, and what the hypervisor took.

A thread that is runnable and has no core holds up the whole call. But frameworks have more threads than cores and so wait for
themselves all the time (TensorFlow on 2 idle cores: a third of the wall time), which is a part of what they cost. So a block
counts as disturbed only where threads of this process waited *and* threads of others ran. All of this is read between timed
blocks, never within one.

Source of the figures: the first and second field of /proc/PID/task/TID/schedstat, which are the time run and the time waited
for a core, in ns, https://www.kernel.org/doc/html/latest/scheduler/sched-stats.html.
"""

import contextlib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Set
from pathlib import Path

from harness.measure import clock as clocks

# A group of samples lasts 25 times as long as each thing that is read beside it, so that all of these together take well under
# a tenth of the time.
WORK_TO_READING = 25
_REFRESH_TO_COST = 50  # looking at all threads of the machine takes at most a fiftieth of the time
_PROC = Path("/proc")
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_RAN, _WAITED = 0, 1
_IDLE, _IDLE_END, _STOLEN = 3, 5, 7  # fields of a line of /proc/stat: idle and iowait are 3 and 4, steal is 7
_ACTIVE_SHARE = 0.005  # a thread that ran for a smaller share of the time since the last look is not watched closely


class _Watched:
    """The sum of one field of `schedstat` over a set of threads, in ns, counted for each thread from when it was added.

    The files stay open, so that a reading costs about two microseconds for each thread.
    """

    def __init__(self, field: int) -> None:
        self._field = field
        self._files: dict[Path, int] = {}
        self._last: dict[Path, int] = {}
        self._total = 0
        self.told = False  # whether any of the files said that its thread has run at all

    def add(self, task: Path) -> None:
        """Watch one more thread from now on. A thread that has ended meanwhile is passed over."""
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
        """The sum over all threads that were added, those that have ended included."""
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
    """How long the threads of this process were runnable and had no core."""

    def __init__(self, proc: Path = _PROC) -> None:
        self._tasks = proc / "self" / "task"
        self._threads = _Watched(_WAITED)
        self.refresh()

    def refresh(self) -> None:
        """Find threads that were started since. What they have waited before now does not count."""
        with contextlib.suppress(OSError):
            for name in os.listdir(self._tasks):
                if (task := self._tasks / name) not in self._threads:
                    self._threads.add(task)

    def read(self) -> int | None:
        """Nanoseconds waited since this object was made, over all threads; None where this kernel does not tell.

        Such a kernel has no such file (gVisor, for one), or its file says 0 even of a thread that is running right now.
        """
        return self._threads.read() if len(self._threads) and self._threads.told else None

    def close(self) -> None:
        """Close the files."""
        self._threads.close()


def ran_ns(
    proc: Path = _PROC, own: int | None = None, apart: Set[str] = frozenset()
) -> Iterator[tuple[Path, int]]:  # fmt: skip
    """(folder in /proc, nanoseconds run) of every thread on the machine but those of this process, or of process `own`.

    Processes `apart`, by their numbers, are left out too.
    """
    leave_out = {str(os.getpid() if own is None else own), *apart}
    for process in _names(proc):
        if process.isdecimal() and process not in leave_out:
            for thread in _names(proc / process / "task"):
                task = proc / process / "task" / thread
                with contextlib.suppress(OSError, IndexError, ValueError):
                    yield task, int((task / "schedstat").read_bytes().split()[_RAN])


def siblings(proc: Path = _PROC, parent: int | None = None) -> set[str]:
    """The numbers of the processes that this one's parent has started; none where the kernel does not list them.

    Source: children of https://man7.org/linux/man-pages/man5/proc_pid_task.5.html.
    """
    tasks = proc / str(os.getppid() if parent is None else parent) / "task"
    found: set[str] = set()
    for name in _names(tasks):
        with contextlib.suppress(OSError):
            found |= set((tasks / name / "children").read_text().split())
    return found


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # the process has ended, or this one may not look into it
        return []


def unseen(proc: Path = _PROC) -> str:
    """Why this process cannot see how long others ran; empty where it can.

    It is tried on process 1, which is there on every machine and in every container, and has run. Where process 1 is this
    user's own it proves nothing, and the options by which /proc is mounted decide.
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
    """The option of /proc's mount that hides processes of other users from this one; None where no option does.

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
    """How long threads of other processes ran. Threads that do next to nothing are looked at by `refresh` only.

    It sees what /proc shows. It does not see the neighbours of a container or of a virtual machine; a part of their time is in
    `steal_ns`. Where /proc hides processes it tells nothing, since those that are shown would pass for all. What `apart` gives
    are processes that do not count, whenever it is asked.
    """

    def __init__(self, proc: Path = _PROC, pid: int | None = None, apart: Callable[[], Set[str]] = frozenset) -> None:
        self._proc, self._own, self._apart = proc, pid, apart
        self._unseen = unseen(proc)
        self._ran: dict[Path, int] = {}
        self._active = _Watched(_RAN)
        self.refresh(0)

    def refresh(self, since_ns: float) -> None:
        """Look at every thread on the machine, and watch those that ran much in the `since_ns` since the last look."""
        if self._unseen:
            return
        before, self._ran = self._ran, dict(ran_ns(self._proc, self._own, self._apart()))
        for task, ran in self._ran.items():
            if since_ns and task not in self._active and ran - before.get(task, 0) > _ACTIVE_SHARE * since_ns:
                self._active.add(task)

    def read(self) -> int | None:
        """Nanoseconds that the watched threads ran, each since it is watched; None where others cannot be seen."""
        return self._active.read() if self._ran else None

    def close(self) -> None:
        """Close the files."""
        self._active.close()


def steal_ns(stat: Path = _PROC / "stat") -> int | None:
    """Time that the hypervisor took from all CPUs since boot, in ns, in steps of a clock tick; None where it is not told."""
    found = cpu_ticks(stat).get("cpu", [])
    return found[_STOLEN] * _TICK_NS if len(found) > _STOLEN else None


def busy_ns(cpus: Iterable[int], stat: Path = _PROC / "stat") -> int | None:
    """How long these CPUs were busy since boot, with whatever it was, in ns, in steps of a clock tick; None: not told.

    The kernel counts the time of all processes, also of those that are hidden from this one.
    """
    told = cpu_ticks(stat)
    found = [told.get(f"cpu{cpu}", []) for cpu in cpus]
    if not all(found):
        return None
    return sum(sum(ticks[:_STOLEN]) - sum(ticks[_IDLE:_IDLE_END]) for ticks in found) * _TICK_NS


def cpu_ticks(stat: Path = _PROC / "stat") -> dict[str, list[int]]:
    """The times of /proc/stat in clock ticks: `cpu` of all CPUs, `cpu0` of one; empty where they are all 0, as in gVisor.

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
    """Reads the run delay of this process and the time that others ran, and knows what it costs to read them.

    The other workers of the run do not count. They sleep, but for the threads that spin for some ms after a visit to theirs,
    within what does not count of the next one: with them two thirds of the visits after PyTorch's were called contended.
    """

    def __init__(self, clock: clocks.Clock) -> None:
        self.clock = clock
        begun = clock()
        self.delay, self.others = RunDelay(), Others(apart=siblings)
        self.refresh_cost_ns = clock() - begun
        self.looked = clock()
        self.read()
        # How long a group of blocks must last to be worth one reading before it and one after it.
        self.group_ns = 2 * WORK_TO_READING * (clock() - self.looked)

    def __enter__(self) -> "Witness":
        return self

    def __exit__(self, *error: object) -> None:
        self.delay.close()
        self.others.close()

    def read(self) -> tuple[float, float]:
        """(run delay, time that others ran) so far, in ns; NaN: not measured."""
        delay, others = self.delay.read(), self.others.read()
        return math.nan if delay is None else delay, math.nan if others is None else others

    @property
    def stale(self) -> bool:
        """Whether it is time to look for new threads, which costs milliseconds where there are many."""
        return self.clock() - self.looked > _REFRESH_TO_COST * self.refresh_cost_ns

    def refresh(self) -> None:
        """Look for threads that were started or began to run since the last look."""
        begun = self.clock()
        self.delay.refresh()
        self.others.refresh(begun - self.looked)
        self.looked = self.clock()
        self.refresh_cost_ns = self.looked - begun


class Company:
    """Counts the processes of others on a GPU: neither this one nor the other workers of the run, which are `ours`.

    `listed` are the numbers that NVML lists. In a container these may be the host's, which tell nobody apart: then it counts
    how many more others there are than when it was asked first, so that who was there by then is not seen. It must not be asked
    before all workers have begun to compute.
    """

    def __init__(
        self, listed: Callable[[], Set[int]], ours: Callable[[], Set[str]] = siblings, own: int | None = None
    ) -> None:  # fmt: skip
        self._listed, self._ours, self._own = listed, ours, os.getpid() if own is None else own
        self._first: int | None = None

    def __call__(self) -> int:
        """How many there are now; 0 where NVML lists none."""
        listed = self._listed()
        if not listed:
            return 0
        ours = {self._own, *map(int, self._ours())}
        if self._own in listed:
            return len(listed - ours)
        others = len(listed) - len(ours)  # below 0 where not all of ours compute on this GPU
        self._first = others if self._first is None else self._first
        return max(0, others - self._first)
