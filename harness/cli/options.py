"""What several commands share: options, exit codes, and the two consoles. Nothing heavy is imported before it is needed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

INTERNAL, FAILED_CELLS, BLOCKED, SLOWER, USAGE, INTERRUPTED = 1, 5, 5, 4, 2, 130

Out = Annotated[Path, typer.Option("--out", help="The store of runs.")]
Reports = Annotated[Path, typer.Option("--reports", help="Where reports are written.")]


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


def stdout() -> "Console":
    """Standard output: wide where nobody looks, so that no line is folded."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=200)


def stderr() -> "Console":
    """Standard error, for messages."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def print_plan(plan: Any, seconds: float) -> None:
    """The cells on standard output, how many and how long on standard error."""
    from harness import units

    for cell in plan.cells:
        typer.echo(cell)
    trials = len({step.trial for step in plan.steps})
    typer.echo(f"{plan.suite}: {len(plan.cells)} cells x {trials} trials, about {units.wall(seconds)}", err=True)
