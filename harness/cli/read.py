"""What is there, and what came of it: `list`, `compare`, `report` and `doctor`; `show` has a room of its own."""

import sys
import textwrap
import warnings
from datetime import UTC
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from harness.cli.options import (
    BLOCKED,
    INTERNAL,
    SLOWER,
    UNFINISHED,
    Out,
    Reports,
    folder_of,
    known_suites,
    load,
    print_plan,
    say_how_far,
    stderr,
    stdout,
)
from harness.errors import SelectionError

if TYPE_CHECKING:
    from harness.isolate.wire import Hello

PUBLISHED = "published:"  # before the name of a hardware, in the place of a run

app = typer.Typer()


class What(StrEnum):
    """What `list` lists."""

    SUITES = "suites"
    WORKLOADS = "workloads"
    BACKENDS = "backends"
    DEVICES = "devices"
    CELLS = "cells"
    RUNS = "runs"


class DoctorFormat(StrEnum):
    """How `doctor` prints."""

    TABLE = "table"
    MD = "md"
    JSON = "json"


class CompareFormat(StrEnum):
    """How `compare` prints."""

    TABLE = "table"
    MD = "md"
    CSV = "csv"
    JSON = "json"
    JUNIT = "junit"


@app.command("list", epilog="Example: convbench list cells first")
def list_(
    what: Annotated[What, typer.Argument(help="What to list.")],
    suite: Annotated[str | None, typer.Argument(help="The suite, for workloads and cells.")] = None,
    out: Out = Path("results"),
) -> None:
    """List suites, the workloads or cells of one, the backends and devices of this machine, or the runs of a store."""
    from harness.ask import suite as suites
    from harness.cli.tables import listing
    from harness.execution import execute

    match what:
        case What.RUNS:
            _print_runs(out)
        case What.SUITES:
            named = [(name, load(str(path)).description) for name, path in sorted(suites.available().items())]
            stdout().print(listing(("suite", "what it is for"), named))
        case What.WORKLOADS:
            one = load(suite or _missing_suite(what))
            workloads = [(work.name, str(work.spec), str(work.count)) for work in one.workloads]
            stdout().print(listing(("workload", "shape", "layers"), workloads))
        case What.CELLS:
            from harness.ask.selection import Selection

            print_plan(*execute.prepare(load(suite or _missing_suite(what)), Selection(), 0, ceilings=False, listing=True))
        case What.BACKENDS:
            stdout().print(listing(("backend", "versions", "devices"), _backends()))
        case What.DEVICES:
            stdout().print(listing(("device", "backend", "hardware"), _devices()))


def _answers() -> "dict[str, Hello | str]":
    """What each registered backend says of its versions and devices, or why it says nothing."""
    from harness.backends import registry
    from harness.execution import discovery
    from harness.isolate.wire import Adapter

    told = discovery.adapters(registry.names())
    answers = discovery.probe([name for name, adapter in told.items() if isinstance(adapter, Adapter) and adapter.installed])
    silent = {
        name: adapter if isinstance(adapter, str) else f"not installed: {adapter.remedy}" for name, adapter in told.items()
    }
    return silent | answers


def _backends() -> list[tuple[str, str, str]]:
    """Each backend with its versions and the devices that it sees."""
    lines = []
    for name, answer in _answers().items():
        if isinstance(answer, str):
            lines.append((name, answer, ""))
        else:
            versions = ", ".join(f"{package} {version}" for package, version in answer.environment.packages.items())
            lines.append((name, versions, ", ".join(map(str, answer.devices))))
    return sorted(lines)


def _devices() -> list[tuple[str, str, str]]:
    """Each device with the backend that sees it, and what it is."""
    lines = []
    for name, answer in _answers().items():
        if isinstance(answer, str):
            lines.append((name, answer, ""))
        else:
            here = answer.environment
            lines += [(str(device), name, here.gpu if device.kind == "gpu" else here.cpu) for device in answer.devices]
    return sorted(lines)


@app.command(epilog="Example: convbench compare latest~1 latest, or convbench compare latest published:V100")
def compare(
    base: Annotated[str, typer.Argument(help="The run to compare with: an id, a path, latest, latest~1 or tag:WORD.")],
    new: Annotated[
        str, typer.Argument(help="The run to be judged; or published:NAME, what others published for a hardware, or for all.")
    ],
    out: Out = Path("results"),
    format: Annotated[
        CompareFormat, typer.Option(help="table for people; md, csv and json carry every column; junit is for CI.")
    ] = CompareFormat.TABLE,
) -> None:
    """Compare two runs cell by cell. Exit code 4 if any cell is slower, 5 if a run has not ended, else 0."""
    if base.startswith(PUBLISHED) or new.startswith(PUBLISHED):
        _compare_published(*((new, base) if base.startswith(PUBLISHED) else (base, new)), out, format)
        return
    from harness.cli import tables
    from harness.outcome import Outcome
    from harness.review import comparing
    from harness.review.reading import Reading
    from harness.store import exchange

    readings = [Reading(folder_of(out, run)) for run in (base, new)]
    before, after = readings
    compared = comparing.between(before, after, before.records, after.records)
    if compared.attrs["machines"]:
        stderr().print(tables.machines_differ(compared.attrs["machines"]), markup=False, soft_wrap=True)
    aloud = format is CompareFormat.TABLE
    unfinished = [say_how_far(each, out, aloud, f"{side}: ") for side, each in zip(("base", "new"), readings, strict=True)]
    if format is CompareFormat.TABLE:
        stdout().print(tables.comparison(compared))
        stdout().print(tables.TIMES, markup=False, soft_wrap=True)
    elif format is CompareFormat.JUNIT:
        sys.stdout.write(comparing.junit_of(compared))
    else:
        sys.stdout.write(exchange.render(compared, format.value))
    messages = stderr()
    messages.print(tables.verdicts(compared), markup=False)
    noise = compared.attrs["noise"]
    messages.print(f"A/A noise of run {noise}" if noise else tables.NO_NOISE, markup=False, soft_wrap=True)
    if (compared["verdict"] == Outcome.SLOWER).any():
        raise typer.Exit(SLOWER)
    if any(unfinished):
        raise typer.Exit(UNFINISHED)


@app.command(epilog="Example: convbench report latest --open")
def report(
    run: Annotated[str, typer.Argument(help="An id, a path, latest, latest~1 or tag:WORD.")] = "latest",
    out: Out = Path("results"),
    reports: Reports = Path("reports"),
    baseline: Annotated[str | None, typer.Option(help="The run to hold it against, named the same way.")] = None,
    open_: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
) -> None:
    """Build the HTML report of a run from what is stored, and the index of all runs. Exit code 5 if the run has not ended."""
    from harness.review import pages
    from harness.review.reading import Reading

    reading = Reading(folder_of(out, run))
    unfinished = say_how_far(reading, out, on_stdout=False)
    made = pages.publish(reading, reports, None if baseline is None else Reading(folder_of(out, baseline)))
    typer.echo(made.path)
    for part in made.broken:
        typer.echo(f"convbench: the report lacks a part: {part}", err=True)
    if open_:
        typer.launch(made.path.resolve().as_uri())
    if made.broken:
        raise typer.Exit(INTERNAL)
    if unfinished:
        raise typer.Exit(UNFINISHED)


@app.command(epilog="Example: convbench doctor --format md")
def doctor(
    out: Out = Path("results"),
    format: Annotated[DoctorFormat, typer.Option(help="table for people; md, json for scripts.")] = DoctorFormat.TABLE,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with code 5 if anything is blocking.")] = False,
) -> None:
    """Say what makes this machine a bad place to measure: what was found, why it matters, and the remedy."""
    from harness import doctor

    findings = doctor.examine(out)
    if format is DoctorFormat.TABLE:
        from harness.cli import tables

        stdout().print(tables.findings(findings))
    else:
        import dataclasses

        import pandas as pd

        from harness.store import exchange

        sys.stdout.write(exchange.render(pd.DataFrame([dataclasses.asdict(finding) for finding in findings]), format.value))
    if strict and any(finding.severity is doctor.Severity.BLOCKING for finding in findings):
        raise typer.Exit(BLOCKED)


def _missing_suite(what: What) -> NoReturn:
    raise SelectionError(f"list {what}: name a suite: {known_suites()}")


def _compare_published(run: str, published: str, out: Path, format: CompareFormat) -> None:
    """Print a run beside what is published."""
    from harness.cli import tables
    from harness.review import comparing
    from harness.review.reading import Reading
    from harness.store import exchange

    if run.startswith(PUBLISHED):
        raise SelectionError(f"compare: found {run} and {published}; allowed: a run beside one of them")
    if format is CompareFormat.JUNIT:
        raise SelectionError("--format: found junit beside published:, which has no verdict; allowed: table, md, csv, json")
    beside = comparing.beside_published(Reading(folder_of(out, run)), published.removeprefix(PUBLISHED))
    if format is not CompareFormat.TABLE:
        sys.stdout.write(exchange.render(beside, format.value))
    elif len(beside):
        stdout().print(tables.beside(beside))
    for line in tables.beside_lines(beside):
        stderr().print(line, markup=False, soft_wrap=True)


RUN_HEADINGS = ("run", "suite", "tags", "started (UTC)", "ok", "failed", "not run", "wall time", "state")
WIDEST = 1000  # columns, in which a table is measured as if nothing bounded it


def _print_runs(out: Path) -> None:
    """Print the runs of a store, a line each, or a paragraph where a line would be folded; an id is never folded."""
    from harness.cli.tables import listing

    runs, console = _runs(out), stdout()
    table = listing(list(runs[0]) if runs else RUN_HEADINGS, [list(run.values()) for run in runs])
    if console.measure(table, options=console.options.update(width=WIDEST)).maximum <= console.width:
        console.print(table)
        return
    for run in runs:
        (_, id), *rest = run.items()
        console.print(id, soft_wrap=True)
        told = "; ".join(f"{name} {text}" for name, text in rest if text)
        for line in textwrap.wrap(told, console.width, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False):
            console.print(line, soft_wrap=True)


def _runs(out: Path) -> list[dict[str, str]]:
    """The runs of a store as texts by RUN_HEADINGS, and machines where there are several. Damaged ones are named on stderr."""
    from harness import units
    from harness.review.reading import overview

    with warnings.catch_warnings(record=True) as left_out:
        warnings.simplefilter("always")
        listed = overview(out)
    for message in dict.fromkeys(str(warning.message) for warning in left_out):
        typer.echo(f"convbench: {message}", err=True)
    several = len({machine for one in listed for machine in one.run.machines}) > 1
    rows = []
    for one in listed:
        began = f"{one.run.started_at.astimezone(UTC):%Y-%m-%d %H:%M}"
        counts = str(one.ok), str(one.failed), str(one.not_run)
        texts = one.run.id, one.run.suite, ", ".join(one.run.tags), began, *counts, units.wall(one.run.wall_s), one.state
        row = dict(zip(RUN_HEADINGS, texts, strict=True))
        if several:
            row["machine"] = "; ".join(f"{words} ({machine})" for machine, words in one.run.machines.items())
        rows.append(row)
    return rows
