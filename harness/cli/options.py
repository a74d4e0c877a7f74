"""What several commands share: options, exit codes, and the two consoles. Nothing heavy is imported before it is needed."""

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.errors import SelectionError

if TYPE_CHECKING:
    from harness.ask.suite import Suite
    from harness.cli.console import Console
    from harness.plan import Plan
    from harness.record import Run
    from harness.review.reading import Reading

STDOUT = "-"  # as tools call it
INTERNAL, FAILED_CELLS, BLOCKED, UNFINISHED, SLOWER, USAGE, INTERRUPTED = 1, 5, 5, 5, 4, 2, 130

NARROW = 80  # columns: what a terminal has where nobody made it wider

Out = Annotated[Path, typer.Option("--out", help="The store of runs.")]
Reports = Annotated[Path, typer.Option("--reports", help="Where reports are written.")]


class TableFormat(StrEnum):
    """How a frame is printed."""

    TABLE = "table"
    MD = "md"
    CSV = "csv"
    JSON = "json"


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(option: str, text: str) -> float:
    """`90s`, `30m`, `2h` or `90d` as seconds; a number alone is seconds. Raises SelectionError."""
    told = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    if not told:
        raise SelectionError(f"{option}: found {text!r}; allowed: a number with s, m, h or d, such as 30m")
    return float(told[1]) * _UNITS[told[2] or "s"]


def must_be_file(option: str, path: Path | None) -> None:
    """Raises SelectionError for `-`, which tools call standard output: what else is printed goes there."""
    if str(path) == STDOUT:
        raise SelectionError(f"{option}: found {STDOUT}; allowed: a file, since other lines go to standard output")


def share(option: str, text: str) -> float:
    """`3%` as 0.03. Raises SelectionError."""
    told = re.fullmatch(r"(\d{1,3}(?:\.\d+)?) ?%", text.strip())
    if not told or not 0 < float(told[1]) <= 100:
        raise SelectionError(f"{option}: found {text!r}; allowed: a percentage up to 100%, such as 3%")
    return float(told[1]) / 100


def load(name: str) -> "Suite":
    """The suite of that name or path. Raises SuiteError."""
    from harness.ask import suite as suites

    return suites.load(name)


def of_lines(lines: Sequence[str]) -> "Suite":
    """The suite of convolutions that stand on one line each. Raises SelectionError."""
    from harness.ask import suite as suites

    return suites.of_lines(lines)


def known_suites() -> str:
    """The names of all suites, for a message."""
    from harness.ask import suite as suites

    return ", ".join(sorted(suites.available()))


def folder_of(out: Path, run: str) -> Path:
    """The folder of a run of the store. Raises RunNotFoundError."""
    from harness.store import table

    return table.find(out, run)


def say_how_far(reading: "Reading", out: Path, on_stdout: bool = True, side: str = "") -> bool:
    """Whether a run has not ended; says so, how to resume it, and what of it is not kept.

    `side` stands before each line, where several runs are told of.
    """
    console = stdout() if on_stdout else stderr()
    if reading.remark:
        console.print(f"{side}{reading.folder.name}: {reading.remark}", markup=False, soft_wrap=True)
    if (extent := reading.extent) is None:
        return False
    elsewhere = "" if out == Path("results") else str(out)
    console.print(f"{side}{extent.sentence(elsewhere)}", markup=False, soft_wrap=True)
    return True


def say_which(run: "Run") -> None:
    """Say on standard output which run is shown: its id, when it began, on which machine, and with which versions."""
    import textwrap
    from datetime import UTC

    first = [next(iter(each.packages.items())) for each in run.environments if each.packages]
    versions = ", ".join(sorted({f"{name} {version}" for name, version in first}))
    began, console = f"{run.started_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC", stdout()
    told = "; ".join(filter(None, (run.id, began, *run.machines.values(), versions)))
    width = min(console.width, NARROW)
    for line in textwrap.wrap(told, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False):
        console.print(line, markup=False, soft_wrap=True)


def stdout() -> "Console":
    """Standard output, for tables."""
    from harness.cli import console

    return console.stdout()


def stderr() -> "Console":
    """Standard error, for messages."""
    from harness.cli import console

    return console.Console(stderr=True)


def print_plan(plan: "Plan", seconds: float) -> None:
    """The cells on standard output, how many and how long on standard error."""
    for cell in plan.cells:
        typer.echo(cell)
    for line in (size(plan, seconds), *lacking(missing(plan))):
        typer.echo(line, err=True)


def size(plan: "Plan", seconds: float) -> str:
    """How many cells a plan has, which of them can be measured, and how long that takes, in a line."""
    from harness import units
    from harness.ask import planning

    every, here = (len({step.cell for step in steps}) for steps in (plan.steps, plan.measurable))
    absent = missing(plan)
    trials = len({step.trial for step in plan.steps})
    many = f"{f'{here} of ' if absent else ''}{units.many(every, 'cell')}"
    many += f" x {trials} trials" if trials > 1 else ""
    since = f", since {planning.not_installed(absent)}:" if absent else ","
    return f"{plan.suite}: {many}{since} about {units.wall(seconds)}{both_ways(plan)}"


def missing(plan: "Plan") -> dict[str, str]:
    """Which backends of a plan's cells are not installed, each with the command that installs it."""
    there = {cell.backend for cell in plan.cells}
    return {name: remedy for name, remedy in plan.absent.items() if name in there}


def lacking(absent: Mapping[str, str]) -> list[str]:
    """A line for each backend that is not installed, with the command that installs it."""
    from harness.ask import planning

    return [f"  {name}: not installed: {absent[name]}" for name in planning.named(absent)]


def both_ways(plan: "Plan") -> str:
    """What of its time a plan takes to measure by an earlier method as well; empty where it does not."""
    from harness import units

    return f", {units.wall(plan.stays_s)} of it to measure each cell as earlier nights did, too" if plan.stays_s else ""
