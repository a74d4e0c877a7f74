"""The progress of a run in a terminal.

It is drawn only when told to, between blocks, while the worker waits: there is no refresh thread. Without a terminal it is one
plain line per cell.
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
from harness.axes import Device
from harness.cli.tables import STATUS_STYLES, words
from harness.doctor import Finding, unseen_gpu
from harness.execution.execute import Watcher
from harness.plan import Plan, Step
from harness.record import Environment, Progress, Record, Status
from harness.spec import Cell


class Screen(Watcher):
    """Draws a run on standard error. `findings` are what is wrong with the machine; None: not to be spoken of."""

    def __init__(self, console: Console, findings: Sequence[Finding] | None = None) -> None:
        self.console = console
        self.findings = None if findings is None else list(findings)
        self.counts: Counter[Status] = Counter()
        self.total, self.done, self.began, self.estimate_s = 0, 0, time.monotonic(), 0.0
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
        self.total, self.estimate_s, self.began = len(plan), seconds, time.monotonic()
        cells, trials = len(plan.cells), len({step.trial for step in plan.steps})
        many = f"{cells} cells x {trials} trials" if trials > 1 else f"{cells} cells"
        self.console.print(f"{plan.suite}: {many}, about {units.wall(seconds)}", highlight=False)
        if self.console.is_terminal:
            self.live = Live(console=self.console, auto_refresh=False, transient=True)
            self.live.start()

    def environment(self, environment: Environment) -> None:
        """Name the versions once."""
        versions = ", ".join(f"{name} {version}" for name, version in environment.packages.items())
        text = f"  {environment.backend}: {versions}, Python {environment.python.split()[-1]}"
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def progress(self, step: Step, progress: Progress) -> None:
        """The cell being measured."""
        if self.live:
            self._draw(step.cell, progress)

    def recorded(self, record: Record) -> None:
        """One more."""
        if not record.repeated_for:  # else the cell has been counted
            self.done += 1
            self.counts[record.status] += 1
        if self.live:
            self._draw(record.cell, None)
        else:
            told = record.reason or ", ".join(record.flags)
            again = f" once more for {', '.join(record.repeated_for)}" if record.repeated_for else ""
            line = f"[{self.done}/{self.total}] {record.cell}{again} {words(record.status)}{': ' if told else ''}{told}"
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def left_s(self) -> float:
        """Seconds left: the estimate at first, then more and more the pace so far."""
        spent, share = time.monotonic() - self.began, self.done / max(1, self.total)
        by_pace = spent / share * (1 - share) if share else self.estimate_s
        return share * by_pace + (1 - share) * max(0.0, self.estimate_s - spent)

    def _draw(self, cell: Cell, progress: Progress | None) -> None:
        line = Text.assemble(f"{self.done}/{self.total}  ", f"{units.wall(self.left_s())} left  ")
        for status, count in self.counts.items():
            line.append(f"{count} {words(status)}  ", STATUS_STYLES.get(status, "bold red"))
        doing = Text(str(cell), "cyan")
        if progress:
            told = units.timed(progress.median_ns, progress.low_ns, progress.high_ns)
            doing.append(f"  {progress.samples} samples, {told}", "default")
        if self.live:
            self.live.update(Group(ProgressBar(self.total, self.done, width=40), line, doing), refresh=True)
