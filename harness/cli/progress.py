"""The progress of a run in a terminal.

It is drawn only when told to, between visits, while the workers wait: there is no refresh thread. Without a terminal it is one
plain line per turn and per cell.
"""

import contextlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from harness import units
from harness.analysis.ranking import Sureness
from harness.axes import Device
from harness.cli.options import lacking, missing, size
from harness.cli.tables import STATUS_STYLES, words
from harness.doctor import Finding, unseen_gpu
from harness.execution.watcher import Watcher
from harness.plan import FIRST_VISITS, Plan
from harness.profile import Profile
from harness.record import Environment, Progress, Record, Status, Visit
from harness.spec import Cell


class Screen(Watcher):
    """Draws a run on standard error. `findings` are what is wrong with the machine; None: not to be spoken of."""

    def __init__(self, console: Console, findings: Sequence[Finding] | None = None) -> None:
        self.console = console
        self.findings = None if findings is None else list(findings)
        self.counts: Counter[Status] = Counter()
        self.total, self.done, self.began, self.estimate_s = 0, 0, time.monotonic(), 0.0
        self.visits, self.each, self.trials, self.turn = 0, 1, 1, ""
        self.profiles = self.to_profile = 0
        self.cells: dict[int, Cell] = {}  # by the order of the step
        self.absent: Mapping[str, str] = {}
        self.live: Live | None = None

    def __enter__(self) -> "Screen":
        """Ready to draw."""
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the terminal as it was, if it is still there."""
        with contextlib.suppress(OSError, ValueError):
            if self.live:
                self.live.update(Text(""), refresh=True)
                self.live.stop()

    def discovered(self, devices: Mapping[str, Sequence[Device]]) -> None:
        """A GPU that none of the frameworks sees is worth a line too."""
        if self.findings is not None and (unseen := unseen_gpu(devices)):
            self.findings.append(unseen)

    def planned(self, plan: Plan, seconds: float) -> None:
        """Say what is wrong with the machine and what is coming, and start."""
        for finding in self.findings or ():
            line = f"{finding.severity}: {finding.name}: {finding.found}"
            self.console.print(line, style="bold red", markup=False, soft_wrap=True)
        if self.findings:
            self.console.print("convbench doctor tells more")
        self.absent = missing(plan)
        self.total, self.estimate_s, self.began = len(plan.measurable), seconds, time.monotonic()
        self.cells, self.each = {step.order: step.cell for step in plan}, plan.budget.visits or FIRST_VISITS
        self.trials = plan.budget.trials
        self.console.print(size(plan, seconds), highlight=False, markup=False, soft_wrap=True)
        self.lacking(self.absent)
        if self.console.is_terminal:
            self.live = Live(console=self.console, auto_refresh=False, transient=True)
            self.live.start()

    def environment(self, environment: Environment) -> None:
        """Name the versions once."""
        versions = ", ".join(f"{name} {version}" for name, version in environment.packages.items())
        text = f"  {environment.backend}: {versions}, Python {environment.python.split()[-1]}"
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def grown(self, plan: Plan) -> None:
        """One more trial of what is not decided."""
        self.cells |= {step.order: step.cell for step in plan}
        self.total += len(plan)
        self.console.print(f"{units.many(len(plan), 'cell')} not decided yet: one more trial of these", highlight=False)

    def sure(self, trials: int, sureness: Sureness) -> None:
        """A trial is over."""
        if sureness.comparisons:
            self.console.print(f"after {units.many(trials, 'trial')}: {sureness.words}", highlight=False, soft_wrap=True)

    def progress(self, progress: Progress) -> None:
        """A turn is over."""
        trial = f"trial {progress.trial} of {self.trials}, " if self.trials > 1 else ""
        window = f"window {progress.window} of {progress.windows}, " if progress.windows > 1 else ""
        self.turn = f"{trial}{window}turn {progress.turn} of {progress.turns}"
        if not self.live:
            self.console.print(self.turn, highlight=False)

    def visited(self, visit: Visit) -> None:
        """One more visit."""
        self.visits += 1
        if self.live and visit.order in self.cells:
            self._draw(self.cells[visit.order])

    def lacking(self, absent: Mapping[str, str]) -> None:
        """A line for each backend that is not installed; its rows get none."""
        for line in lacking(absent):
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def recorded(self, record: Record) -> None:
        """One more."""
        if record.status is Status.SKIPPED and record.cell.backend in self.absent:
            return
        self.done += 1
        self.counts[record.status] += 1
        if self.live:
            self._draw(record.cell)
        else:
            told = record.reason or ", ".join(record.flags)
            line = f"[{self.done}/{self.total}] {record.cell} {words(record.status)}{': ' if told else ''}{told}"
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def profiling(self, cells: int) -> None:
        """Nothing is timed any more."""
        self.profiles, self.to_profile = 0, cells
        self.console.print(f"what runs inside the calls of {units.many(cells, 'cell')}:", highlight=False)

    def profiled(self, profile: Profile) -> None:
        """One more profile."""
        self.profiles += 1
        problem = f": {profile.problem}" if profile.problem else ""
        line = f"[{self.profiles}/{self.to_profile}] {profile.cell} profiled{problem}"
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    @property
    def share(self) -> float:
        """The share of the run that is done, from 0 to 1: half of it are visits, half records."""
        of_records = self.done / max(1, self.total)
        of_visits = min(1.0, self.visits / max(1, self.total * self.each))
        return (of_records + max(of_records, of_visits)) / 2

    def left_s(self) -> float:
        """Seconds left: the estimate at first, then more and more the pace so far."""
        spent, share = time.monotonic() - self.began, self.share
        by_pace = spent / share * (1 - share) if share else self.estimate_s
        return share * by_pace + (1 - share) * max(0.0, self.estimate_s - spent)

    def _draw(self, cell: Cell) -> None:
        line = Text.assemble(f"{self.done}/{self.total}  ", f"{units.wall(self.left_s())} left  ")
        for status, count in self.counts.items():
            line.append(f"{count} {words(status)}  ", STATUS_STYLES.get(status, "bold red"))
        line.append(self.turn)
        if self.live:
            bar = ProgressBar(1.0, self.share, width=40)
            self.live.update(Group(bar, line, Text(str(cell), "cyan")), refresh=True)
