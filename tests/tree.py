"""A /proc and a /sys of a test's own making."""

from pathlib import Path
from typing import Any

CPUS = "sys/devices/system/cpu"


class Tree:
    """Files under a root that stands for /."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def say(self, path: str, text: Any) -> None:
        """Let a file say something, with the newline that the kernel's end with."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")

    def cpus(self, number: int, cores: int | None = None) -> None:
        """That many CPUs on that many cores; as on Intel's, CPU n and n + cores share one."""
        cores = cores or number
        self.say(f"{CPUS}/online", f"0-{number - 1}")
        for cpu in range(number):
            sharing = ",".join(map(str, range(cpu % cores, number, cores)))
            self.say(f"{CPUS}/cpu{cpu}/topology/thread_siblings_list", sharing)

    def ran(self, process: int, ns: int, thread: int | None = None, name: str = "burner") -> None:
        """A thread that ran for so long since it was born."""
        self.say(f"proc/{process}/task/{thread or process}/schedstat", f"{ns} 0 1")
        self.say(f"proc/{process}/comm", name)

    def memory(self, **kilobytes: int) -> None:
        """/proc/meminfo."""
        self.say("proc/meminfo", "\n".join(f"{name}: {amount:>12} kB" for name, amount in kilobytes.items()))
