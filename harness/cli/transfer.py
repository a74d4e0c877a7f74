"""What goes out of the store and what comes into it: `export` and `import`."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import STDOUT, Out, folder_of
from harness.errors import SelectionError, UserError

if TYPE_CHECKING:
    import pandas as pd

    from harness.review.reading import Reading

app = typer.Typer()


class ExportFormat(StrEnum):
    """What `export` writes."""

    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


class Frame(StrEnum):
    """Which frame `export` writes."""

    SUMMARY = "summary"
    RECORDS = "records"
    SAMPLES = "samples"
    KERNELS = "kernels"
    PROFILES = "profiles"


@app.command(epilog="Example: convbench export latest --format parquet --to first.parquet")
def export(
    runs: Annotated[list[str], typer.Argument(help="Ids, paths, latest, latest~1 or tag:WORD.")],
    to: Annotated[Path, typer.Option(help="The file to write; - is standard output.")],
    out: Out = Path("results"),
    format: Annotated[
        ExportFormat | None, typer.Option(help="csv, json or parquet; by default what the name of --to says.")
    ] = None,
    what: Annotated[
        Frame,
        typer.Option(
            help="summary: a row per cell; records: per trial; samples: per block; kernels, profiles: what ran inside."
        ),
    ] = Frame.SUMMARY,
) -> None:
    """Write runs to a file that other programs read."""
    import pandas as pd

    from harness.review.reading import Reading
    from harness.store import exchange

    ending = to.suffix.lstrip(".")
    if format is None and ending not in list(ExportFormat):
        raise SelectionError(f"--to: found {to}; allowed: a name that ends in .csv, .json or .parquet, or --format")
    frames = [_frame(Reading(folder_of(out, run)), what) for run in runs]
    frame, chosen = pd.concat(frames, ignore_index=True), format or ExportFormat(ending)
    if str(to) == STDOUT:
        _print(frame, chosen)
        return
    exchange.export(frame, chosen.value, to)
    typer.echo(to)


def _print(frame: "pd.DataFrame", format: ExportFormat) -> None:
    """The frame on standard output. Raises SelectionError where that is a terminal and what is asked for is no text."""
    from harness.store import exchange

    if format is not ExportFormat.PARQUET:
        typer.echo(exchange.render(frame, format.value), nl=False)
    elif sys.stdout.isatty():
        raise SelectionError("--to: found - for parquet, and standard output is a terminal; allowed: a file or a pipe")
    else:
        typer.echo(exchange.content(frame, format.value), nl=False)


def _frame(reading: "Reading", what: Frame) -> "pd.DataFrame":
    if what is Frame.SUMMARY:
        return reading.ranking
    found: pd.DataFrame = getattr(reading, what.value)
    return found


@app.command("import", epilog="Example: convbench import out.json")
def import_(
    file: Annotated[Path, typer.Argument(help="What pytest-benchmark wrote of our cells (.json); published timings (.csv).")],
    out: Out = Path("results"),
    name: Annotated[str | None, typer.Option(help="What a .csv is called in the store; by default as the file is.")] = None,
) -> None:
    """Bring what was measured elsewhere into the store; it stands beside our runs, and no verdict is based on it."""
    match file.suffix.lower():
        case ".csv":
            _import_published(file, out, name)
        case ".json":
            from harness.store import pytest_json

            for run in pytest_json.bring_in(file, out):
                typer.echo(run.id)
        case other:
            raise UserError(f"{file}: found the ending {other!r}; allowed: .json, .csv")


def _import_published(file: Path, out: Path, name: str | None) -> None:
    from harness.cli import tables
    from harness.store import published

    done = published.import_table(file, out, name)
    for line in tables.imported(done):
        typer.echo(line, err=True)
    typer.echo(done.path)
