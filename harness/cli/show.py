"""`convbench show`: the summary of a run, what a setting is worth in it, and other tables of it."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.explained import print_explained
from harness.cli.kernels import print_kernels
from harness.cli.options import UNFINISHED, Out, TableFormat, folder_of, say_how_far, say_which, stderr, stdout
from harness.cli.tuned import print_tuned
from harness.errors import SelectionError

if TYPE_CHECKING:
    import pandas as pd

    from harness.review.reading import Reading

WIDE_FROM = 130  # columns: with fewer the ids of cells would be folded to a few letters a line
BY = (
    "What a setting is worth, instead: time of each cell over that of its partner, which differs in this axis alone: layout, "
    "precision, mode, threads, direction, workload, backend, device, cache, autotune, switch, operands, bias, epilogue or api."
)
BASE = (
    "The value that --by holds against. By default eager, fp32, NCHW, fprop, hot, cpu, the fewest threads, default; of "
    "workloads and backends, and where no cell has that value, the one with most figures."
)

app = typer.Typer()


@app.command(epilog="Example: convbench show latest --by mode, or convbench show latest --by backend --base torch")
def show(
    run: Annotated[str, typer.Argument(help="An id, a path, latest, latest~1 or tag:WORD.")] = "latest",
    out: Out = Path("results"),
    format: Annotated[
        TableFormat, typer.Option(help="table for people; md, csv and json carry every column.")
    ] = TableFormat.TABLE,
    sort: Annotated[str | None, typer.Option(help="A column of the summary, or of what --by shows, to sort by.")] = None,
    keyword: Annotated[str | None, typer.Option("-k", help="Only cells whose id fits pytest's -k expression.")] = None,
    by: Annotated[str | None, typer.Option(help=BY)] = None,
    base: Annotated[str | None, typer.Option(help=BASE)] = None,
    side_by_side: Annotated[bool, typer.Option("--side-by-side", help="A column per backend, as at the end of a run.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Of a run that is being measured each turn and trial as it comes, then its table.")
    ] = False,
    spent: Annotated[bool, typer.Option("--spent", help="Where the time of the run went, instead.")] = False,
    tuned: Annotated[bool, typer.Option("--tuned", help="The best settings that convbench tune found, instead.")] = False,
    kernels: Annotated[
        bool, typer.Option("--kernels", help="What ran inside the calls of the cells that were profiled, instead.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="What computes in those calls, and why they take so long, instead.")
    ] = False,
    networks: Annotated[
        bool, typer.Option("--networks", help="The time of all convolutions of each network, layer times count, instead.")
    ] = False,
) -> None:
    """Print the summary of a run, or what a setting is worth in it. Exit code 5 if the run has not ended."""
    from harness.cli import tables
    from harness.review.reading import Reading

    instead = {
        "--spent": spent, "--networks": networks, "--tuned": tuned, "--kernels": kernels, "--side-by-side": side_by_side,
        "--follow": follow, "--explain": explain,
    }  # fmt: skip
    asked = [name for name, wanted in instead.items() if wanted]
    _refuse_together(asked, by or base, sort, keyword, format)
    if base is not None and by is None:
        raise SelectionError("--base: found without --by; allowed: with the axis that it is a value of, as in --by mode")
    if follow:
        from harness.cli.follow import follow as following

        following(folder_of(out, run), out)
        return
    kept = _chosen(keyword)
    reading = Reading(folder_of(out, run))
    for line in tables.machines(reading.run.machines, "times of one say nothing of another"):
        stderr().print(line, markup=False, soft_wrap=True)
    unfinished = say_how_far(reading, out, on_stdout=format is TableFormat.TABLE)
    if by:
        _print_along(reading, _along(reading, by, base), by, _sorted_by(sort), kept, format)
    elif not asked and reading.records.empty and len(reading.profiles):  # a run of profiles alone
        _print_instead("--kernels", reading, kept, format)
    elif asked and not side_by_side:
        _print_instead(asked[0], reading, kept, format)
    else:
        _print_summary(reading, _sorted_by(sort)(_of(reading.ranking, kept)), side_by_side, format, kept is not None)
    if unfinished:
        raise typer.Exit(UNFINISHED)


CHOOSING = ("--side-by-side", "--kernels", "--explain")  # what -k may stand beside
AS_DATA = ("--tuned", "--networks", "--kernels", "--explain")  # what has other formats than a table


def _refuse_together(asked: list[str], by: str | None, sort: str | None, keyword: str | None, format: TableFormat) -> None:
    """Raises SelectionError where one of these options, which show something else, stands beside another such option."""
    for option in asked:
        fits = (sort is None or option == "--side-by-side") and (keyword is None or option in CHOOSING)
        fits &= format is TableFormat.TABLE or option in AS_DATA
        if by or not fits or len(asked) > 1:
            raise SelectionError(f"{option}: found beside another option for what is shown; allowed: alone")


def _print_instead(asked: str, reading: "Reading", kept: Callable[[str], bool] | None, format: TableFormat) -> None:
    """Print what was asked for instead of the summary. Raises SelectionError where the run has none of it."""
    from harness.cli import tables

    match asked:
        case "--spent":
            say_which(reading.run)
            stdout().print(tables.spent_table(reading.spent))
        case "--networks":
            if reading.networks.empty:
                where = "network = ... in [[workload]] or [[workloads_from]]"
                raise SelectionError(f"--networks: no workload of this run names a network ({where})")
            _print_networks(reading, format)
        case "--tuned":
            if not reading.run.tuned:
                raise SelectionError(f"--tuned: run {reading.run.id} is no tuning: convbench tune makes one")
            if format is TableFormat.TABLE:
                say_which(reading.run)
            print_tuned(reading, format)
        case "--kernels":
            print_kernels(reading, lambda frame: _of(frame, kept), format, named=True)
        case "--explain":
            print_explained(reading, lambda frame: _of(frame, kept), format)


def _chosen(keyword: str | None) -> Callable[[str], bool] | None:
    """Whether the id of a cell fits a -k expression; None: any does. Raises SelectionError."""
    from harness.ask import expression

    try:
        return None if keyword is None else expression.keyword(keyword)
    except ValueError as error:
        raise SelectionError(f"-k: {error}") from None


def _of(frame: "pd.DataFrame", kept: Callable[[str], bool] | None) -> "pd.DataFrame":
    """The rows of a frame whose cells are asked for. Raises SelectionError where none is."""
    if kept is None:
        return frame
    found = frame[frame["cell"].map(kept).astype(bool)]
    if found.empty and len(frame):
        raise SelectionError(f"-k: fits none of {len(frame)} cells, such as {frame['cell'].iloc[0]}")
    return found


def _sorted_by(column: str | None) -> "Callable[[pd.DataFrame], pd.DataFrame]":
    """What sorts a frame by that column; None: leaves it as it is. It raises SelectionError where a frame lacks it."""

    def ordered(frame: "pd.DataFrame") -> "pd.DataFrame":
        if column is None:
            return frame
        if column not in frame:
            raise SelectionError(f"--sort: found {column!r}; allowed: {', '.join(frame.columns)}")
        return frame.sort_values(column, kind="stable")

    return ordered


def _along(reading: "Reading", axis: str, base: str | None) -> "pd.DataFrame":
    """The frame along an axis. Raises SelectionError for another axis, or a base that no cell has."""
    from harness.analysis.along import AXES
    from harness.ask.wording import not_one_of

    if axis not in AXES:
        raise SelectionError(f"--by: {not_one_of(axis, AXES)}")
    try:
        return reading.along(axis, base)
    except ValueError as error:
        raise SelectionError(f"--base: {error}") from None


def _print_along(
    reading: "Reading", compared: "pd.DataFrame", axis: str, ordered: "Callable[[pd.DataFrame], pd.DataFrame]",
    kept: Callable[[str], bool] | None, format: TableFormat,
) -> None:  # fmt: skip
    """Print what a setting is worth; as data with sentences on standard error."""
    from harness.cli import along
    from harness.store import exchange

    shown, base = ordered(_of(compared, kept)), compared.attrs["base"]
    told = along.lines(shown, axis, base)
    if format is not TableFormat.TABLE:
        sys.stdout.write(exchange.render(shown, format.value))
    else:
        say_which(reading.run)
    if format is TableFormat.TABLE and len(shown):
        stdout().print(along.title(shown, axis, base), markup=False, soft_wrap=True)
        stdout().print(along.table(shown, axis))
    for line in told:
        (stdout() if format is TableFormat.TABLE else stderr()).print(line, markup=False, soft_wrap=True)


def _print_networks(reading: "Reading", format: TableFormat) -> None:
    from harness.analysis.networks import by_pass
    from harness.cli import tables
    from harness.store import exchange

    found = reading.networks
    if format is not TableFormat.TABLE:
        sys.stdout.write(exchange.render(found, format.value))
        return
    say_which(reading.run)
    stdout().print(tables.networks(by_pass(found)))
    told = "each trial added up by itself; an interval takes two trials"
    if reading.pruned:
        told = "the medians added up, without an interval, which takes the samples of the run"
    elif found["sum_low_ns"].notna().any():
        told = "each trial added up by itself; the interval is a 95 % one over trials, within this run"
    stdout().print(told, markup=False, soft_wrap=True)


def _print_summary(
    reading: "Reading", summary: "pd.DataFrame", side_by_side: bool, format: TableFormat, chosen: bool
) -> None:  # fmt: skip
    """Print the summary; of cells that were chosen also which call was timed, where it is not the one that users make."""
    from harness.cli import tables
    from harness.store import exchange

    if format is TableFormat.TABLE:
        say_which(reading.run)
        console = stdout()
        wide = console.width >= WIDE_FROM
        console.print(tables.closing(summary) if side_by_side else tables.cells_table(summary, wide, reading.ranking))
        calls = tables.calls(summary) if chosen else ()
        key = [*tables.key(summary, visited=reading.run.visited), *tables.shapes(summary)]
        under = key if side_by_side else tables.tuning(summary)
        for line in [*under, *calls]:
            stdout().print(line, markup=False, soft_wrap=True)
    else:
        sys.stdout.write(exchange.render(summary, format.value))
