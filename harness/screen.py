"""What a person sees in a terminal: progress while a run goes on, the closing table, lists.

Progress is drawn only when told to, between blocks, while the worker waits: there is no refresh thread. Without a
terminal it is one plain line per cell.
"""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from harness import units
from harness.execute import Watcher
from harness.record import Environment, Flag, Progress, Record, Status
from harness.spec import Cell, Direction, Plan, Step

_STYLES = {Status.OK: "green", Status.UNSUPPORTED: "dim", Status.SKIPPED: "dim"}


class Screen(Watcher):
    """Draws a run on standard error."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.counts: Counter[Status] = Counter()
        self.total, self.done, self.began, self.estimate_s = 0, 0, time.monotonic(), 0.0
        self.live: Live | None = None

    def __enter__(self) -> "Screen":
        """Ready to draw."""
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the terminal as it was."""
        if self.live:
            self.live.update(Text(""), refresh=True)
            self.live.stop()

    def planned(self, plan: Plan, seconds: float) -> None:
        """Say what is coming, and start."""
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
        self.counts[record.status] += 1
        self.done += 1
        if self.live:
            self._draw(record.cell, None)
        else:
            told = record.reason or ", ".join(record.flags)
            self.console.print(f"[{self.done}/{self.total}] {record.cell} {record.status}{': ' if told else ''}{told}",
                               highlight=False, markup=False, soft_wrap=True)  # fmt: skip

    def left_s(self) -> float:
        """Seconds left: the estimate at first, then more and more the pace so far."""
        spent, share = time.monotonic() - self.began, self.done / max(1, self.total)
        by_pace = spent / share * (1 - share) if share else self.estimate_s
        return share * by_pace + (1 - share) * max(0.0, self.estimate_s - spent)

    def _draw(self, cell: Cell, progress: Progress | None) -> None:
        line = Text.assemble(f"{self.done}/{self.total}  ", f"{units.wall(self.left_s())} left  ")
        for status, count in self.counts.items():
            line.append(f"{count} {status}  ", _STYLES.get(status, "bold red"))
        doing = Text(str(cell), "cyan")
        if progress:
            interval = units.interval(progress.median_ns, progress.low_ns, progress.high_ns)
            doing.append(f"  {progress.samples} samples, {units.duration(progress.median_ns)} {interval}", "default")
        if self.live:
            self.live.update(Group(ProgressBar(self.total, self.done, width=40), line, doing), refresh=True)


# Tables -------------------------------------------------------------------------------------------------------------------


KEY = "● lowest time   ○ not to be told from it   * under a flag that bars a verdict: see convbench show"


def asked_for(summary: pd.DataFrame) -> pd.DataFrame:
    """The rows that a run is about: its convolutions; all of them where there is none, as in a run of ceilings alone."""
    convolutions = summary[summary["direction"] != str(Direction.NONE)]
    return summary if convolutions.empty else convolutions


def closing(summary: pd.DataFrame) -> Table:
    """One line per workload and direction, a column per backend and mode: median and interval, marked as KEY says.

    What joined the run as a ceiling is left out; `ceilings` tells what came of it.
    """
    summary = asked_for(summary)
    varying = [axis for axis in ("device", "precision", "layout", "cache", "threads") if summary[axis].nunique() > 1]
    single_mode = summary["mode"].nunique() <= 1
    columns = {(row.backend, row.mode): row.backend if single_mode else f"{row.backend}\n{row.mode}"
               for row in summary.sort_values(["backend", "mode"]).itertuples()}  # fmt: skip
    table = Table(show_edge=False, pad_edge=False)
    for name in ("workload", "direction", *varying):
        table.add_column(name)
    for title in columns.values():
        table.add_column(title, justify="right")
    keys = ["workload", "direction", "optimizer", *varying]
    for key, group in summary.groupby(keys, sort=False):
        by_column = {(row.backend, row.mode): row for row in group.itertuples()}
        direction = f"{key[1]} {key[2]}".strip()
        table.add_row(str(key[0]), direction, *(str(part) for part in key[3:]),
                      *(_figure(by_column.get(column)) for column in columns))  # fmt: skip
    return table


def ceilings(best: pd.DataFrame) -> list[str]:
    """One line per device, precision and number of threads for the frame of `analysis.roofline.ceilings`."""
    lines = []
    for row in best.itertuples():
        threads = f", {row.threads} {'thread' if row.threads == 1 else 'threads'}" if row.threads else ""
        copies = pd.isna(row.flop_per_s)
        what = f"copy on {row.device}" if copies else f"matrix product on {row.device}, {row.precision}"
        lines.append(f"best {what}{threads}: {_rate(row)} ({row.workload} by {row.backend} {row.mode})")
    return lines


def _rate(row: Any) -> str:
    """The rate of the arithmetic, or that of the memory where there is none."""
    return units.byte_rate(row.bytes_per_s) if pd.isna(row.flop_per_s) else units.flop_rate(row.flop_per_s)


def _figure(row: object) -> Text:
    """A cell of the closing table."""
    if row is None:
        return Text("")
    status = Status(row.status)  # type: ignore[attr-defined]
    if status is not Status.OK:
        return Text(status.value, _STYLES.get(status, "bold red"))
    best, tie = getattr(row, "best", False), getattr(row, "tie", False)
    mark = "● " if best else "○ " if tie else ""
    interval = units.interval(row.median_ns, row.ci_low_ns, row.ci_high_ns)  # type: ignore[attr-defined]
    barred = any(Flag(flag).bars_verdict for flag in row.flags.split(",") if flag)  # type: ignore[attr-defined]
    flagged = "*" if barred else ""
    text = f"{mark}{units.duration(row.median_ns)} {interval}{flagged}"  # type: ignore[attr-defined]
    return Text(text, "bold green" if best else "")


def failures(summary: pd.DataFrame) -> list[str]:
    """One line per status, backend and reason of what is not ok, with how many cells it concerns."""
    bad = summary[summary["status"] != str(Status.OK)]
    groups = bad.groupby(["status", "backend", "reason"], sort=False)["cell"]
    return [f"{status}: {backend}, {len(cells)} {'cell' if len(cells) == 1 else 'cells'}: {reason}"
            for (status, backend, reason), cells in groups]  # fmt: skip


def cells_table(summary: pd.DataFrame) -> Table:
    """Every cell on a line of its own, with its main figures."""
    table = Table(show_edge=False, pad_edge=False)
    for title in ("cell", "status"):
        table.add_column(title, overflow="fold")
    for title in ("median", "interval", "rate", "of ceiling", "vs best", "cores"):
        table.add_column(title, justify="right")
    table.add_column("flags", overflow="fold")
    for row in summary.itertuples():
        status = Status(row.status)
        told = row.flags.replace(",", ", ") or row.reason
        cores = units.MISSING if pd.isna(row.effective_cores) else f"{row.effective_cores:.2f}"
        table.add_row(
            row.cell, Text(row.status, _STYLES.get(status, "bold red")), units.duration(row.median_ns),
            units.interval(row.median_ns, row.ci_low_ns, row.ci_high_ns), _rate(row), units.percent(row.ceiling_share),
            units.ratio(row.vs_best), cores, Text(told),
        )  # fmt: skip
    return table


def listing(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A plain table of text."""
    table = Table(show_edge=False, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(Text(text) for text in row))
    return table
