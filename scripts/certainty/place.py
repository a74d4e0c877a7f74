"""Where a job works, and what it starts there: runs of convbench, and whether others leave the machine to it."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
MOST_OTHERS = 0.15  # cores that others may use before a job begins
LOOK_S, WAIT_S = 5.0, 30.0
FAILED = 5  # the exit code of a run or night that is whole but for cells that failed
TRY = "example and fprop and not jax"  # the cells of a try


@dataclass(frozen=True)
class Place:
    """The folder of one job, and that of all. With `tries` a job does the least that shows that its code works."""

    folder: Path
    out: Path
    tries: bool = False

    def convbench(
        self, command: str, suite: Path | str, *options: str, python: str = sys.executable,
        environ: dict[str, str] | None = None,
    ) -> str:  # fmt: skip
        """Its standard output, and the run in `store` below the job's folder. Raises SystemExit where it fails."""
        asked = [python, "-P", "-m", "harness", command, str(suite), "--out", "store", "--reports", "reports", "--no-report",
                 "--no-ceilings", *options]  # fmt: skip
        return self.started(asked, environ, good=(0, FAILED))

    def started(self, command: Sequence[str], environ: dict[str, str] | None = None, good: Sequence[int] = (0,)) -> str:
        """The standard output of a command in the job's folder; what it says is kept there. SystemExit where it fails."""
        with (self.folder / "said.txt").open("a") as said:
            done = subprocess.run(
                command, cwd=self.folder, env={**os.environ, **(environ or {})}, stdout=subprocess.PIPE, stderr=said, text=True,
                check=False,
            )  # fmt: skip
            said.write(done.stdout)
        if done.returncode not in good:
            raise SystemExit(f"{self.folder.name}: exit code {done.returncode}: {self._last_words()}")
        return done.stdout

    def _last_words(self) -> str:
        return " ".join((self.folder / "said.txt").read_text().split())[-600:]

    def cut(self, seconds: float, *options: str, tried: str = TRY) -> list[str]:
        """The options of a run that is measured for so long; in a try for seconds, and only the cells that fit `tried`."""
        return [*options, "--time", "3s", "-k", tried] if self.tries else [*options, "--time", f"{seconds:.0f}s"]

    def run(self) -> str:
        """The latest run of the job's store, as a path below `out`."""
        from harness.store import table

        return str(table.find(self.folder / "store", "latest").relative_to(self.out))


def busy_s() -> float:
    """CPU seconds that all of the machine has used."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    idle = fields[3] + fields[4]
    return (sum(fields) - idle) / os.sysconf("SC_CLK_TCK")


def own_s() -> float:
    """CPU seconds of this process and of what it has started and waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


class Others:
    """How many cores others use, from when it is made until it is asked, in a process whose children have ended."""

    def __init__(self) -> None:
        self.begun, self.busy, self.own = time.monotonic(), busy_s(), own_s()

    def cores(self) -> float:
        """What the machine used, less what this process and its children did."""
        return max(0.0, busy_s() - self.busy - (own_s() - self.own)) / max(time.monotonic() - self.begun, 1e-9)


def wait_for_quiet(most: float = MOST_OTHERS) -> float:
    """Wait until others use no more than so many cores; how many they use. Says so each time that it has to wait."""
    while True:
        others = Others()
        time.sleep(LOOK_S)
        if (cores := others.cores()) <= most:
            return cores
        print(
            f"others use {cores:.2f} cores, and {most} are allowed; looked at again in {WAIT_S:.0f} s",
            file=sys.stderr,
            flush=True,
        )
        time.sleep(WAIT_S)
