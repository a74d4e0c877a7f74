"""What several commands share: options, exit codes, and the two consoles. Nothing heavy is imported before it is needed."""

import inspect
import re
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from harness.errors import SelectionError

if TYPE_CHECKING:
    from harness.cli.console import Console
    from harness.review.reading import Reading

INTERNAL, FAILED_CELLS, BLOCKED, UNFINISHED, SLOWER, USAGE, INTERRUPTED = 1, 5, 5, 5, 4, 2, 130

C = TypeVar("C", bound=Callable[..., None])

Out = Annotated[Path, typer.Option("--out", help="The store of runs.")]
Reports = Annotated[Path, typer.Option("--reports", help="Where reports are written.")]


class TableFormat(StrEnum):
    """How a frame is printed."""

    TABLE = "table"
    MD = "md"
    CSV = "csv"
    JSON = "json"


def taking(other: Callable[..., None]) -> Callable[[C], C]:
    """Gives a command the parameters of another beside its own; those come to it as keywords, under their names."""

    def add(command: C) -> C:
        own = [each for each in inspect.signature(command).parameters.values() if each.kind is not each.VAR_KEYWORD]
        names = {each.name for each in own}
        more = [each for each in inspect.signature(other).parameters.values() if each.name not in names]
        command.__signature__ = inspect.Signature([*own, *more])  # type: ignore[attr-defined]
        command.__annotations__ = {each.name: each.annotation for each in (*own, *more)}
        return command

    return add


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(option: str, text: str) -> float:
    """`90s`, `30m`, `2h` or `90d` as seconds; a number alone is seconds. Raises SelectionError."""
    told = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    if not told:
        raise SelectionError(f"{option}: found {text!r}; allowed: a number with s, m, h or d, such as 30m")
    return float(told[1]) * _UNITS[told[2] or "s"]


def load(name: str) -> Any:
    """The suite of that name or path. Raises SuiteError."""
    from harness.ask import suite as suites

    return suites.load(name)


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


def stdout() -> "Console":
    """Standard output, for tables."""
    from harness.cli import console

    return console.stdout()


def stderr() -> "Console":
    """Standard error, for messages."""
    from harness.cli import console

    return console.Console(stderr=True)


def print_plan(plan: Any, seconds: float) -> None:
    """The cells on standard output, how many and how long on standard error."""
    from harness import units

    for cell in plan.cells:
        typer.echo(cell)
    trials = len({step.trial for step in plan.steps})
    typer.echo(f"{plan.suite}: {len(plan.cells)} cells x {trials} trials, about {units.wall(seconds)}", err=True)
