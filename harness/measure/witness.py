"""What the machine was doing meanwhile: run delay of the process's threads, and time stolen by the hypervisor.

A thread that stands runnable but not running holds up the whole call, and the call's time then says more about the
machine's other guests than about the framework. Read outside the timed part only.
"""

import contextlib
import os
from pathlib import Path

_TASKS = Path("/proc/self/task")
_STAT = Path("/proc/stat")
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class RunDelay:
    """The run delay of all threads of this process so far, in ns, from the second field of each schedstat.

    Source: https://www.kernel.org/doc/html/latest/scheduler/sched-stats.html. The files stay open: a reading costs a few
    microseconds per thread. `refresh` finds threads that were born since; what they had waited before is left out.
    """

    def __init__(self, tasks: Path = _TASKS) -> None:
        self._tasks = tasks
        self._files: dict[str, int] = {}
        self._last: dict[str, int] = {}
        self._total = 0
        self.refresh()

    @property
    def available(self) -> bool:
        """Whether this kernel tells: some (gVisor, or without CONFIG_SCHED_INFO) do not."""
        return bool(self._files)

    def refresh(self) -> None:
        """Open the files of threads that were born since the last time."""
        with contextlib.suppress(OSError):
            for name in set(os.listdir(self._tasks)) - self._files.keys():
                with contextlib.suppress(OSError, IndexError, ValueError):
                    self._files[name] = os.open(self._tasks / name / "schedstat", os.O_RDONLY)
                    self._last[name] = self._delay(name)

    def _delay(self, name: str) -> int:
        return int(os.pread(self._files[name], 96, 0).split()[1])

    def read(self) -> int | None:
        """Nanoseconds since this was made, over all threads; None where the kernel does not tell."""
        if not self._files:
            return None
        for name in list(self._files):
            try:
                delay = self._delay(name)
            except (OSError, IndexError, ValueError):  # the thread has ended
                os.close(self._files.pop(name))
                continue
            self._total += delay - self._last[name]
            self._last[name] = delay
        return self._total

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            os.close(file)
        self._files.clear()


def steal_ns(stat: Path = _STAT) -> int | None:
    """Time stolen from all CPUs since boot, in ns, in steps of a clock tick; None where it is not told."""
    try:
        return int(stat.read_text().split("\n", 1)[0].split()[8]) * _TICK_NS
    except (OSError, IndexError, ValueError):
        return None
