"""The command line: arguments in, calls to the other faces, text out. The only room that prints or exits.

Nothing heavy is imported before a command needs it: `convbench --help` must stay quick.
"""

import os
import shlex
import sys
import warnings
from collections.abc import Sequence
from datetime import UTC
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.errors import SelectionError, UserError

if TYPE_CHECKING:
    from rich.console import Console

    from harness.doctor import Finding
    from harness.record import Run

FAILED_CELLS, BLOCKED, SLOWER, USAGE, INTERRUPTED = 5, 5, 4, 2, 130
PUBLISHED = "published:"  # before the name of a hardware, in the place of a run

app = typer.Typer(
    help="How fast a convolution really is, forward and backward, in TensorFlow, PyTorch and JAX, on CPU and GPU.",
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
)  # fmt: skip


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


class ShowFormat(StrEnum):
    """How `show` prints."""

    TABLE = "table"
    MD = "md"
    CSV = "csv"
    JSON = "json"


class CompareFormat(StrEnum):
    """How `compare` prints."""

    TABLE = "table"
    MD = "md"
    CSV = "csv"
    JSON = "json"
    JUNIT = "junit"


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


Out = Annotated[Path, typer.Option("--out", help="The store of runs.")]
Reports = Annotated[Path, typer.Option("--reports", help="Where reports are written.")]


@app.command(epilog="Example: convbench run first --backend torch,jax --direction wgrad --quick")
def run(
    suite: Annotated[list[str] | None, typer.Argument(help="Names from suites/, or paths.")] = None,
    out: Out = Path("results"),
    reports: Reports = Path("reports"),
    report: Annotated[bool, typer.Option(help="Write the HTML report at the end.")] = True,
    tag: Annotated[list[str] | None, typer.Option(help="A word stored with the run; may be repeated.")] = None,
    backend: Annotated[str | None, typer.Option(help="Backends to measure: torch,jax.")] = None,
    device: Annotated[str | None, typer.Option(help="Devices to measure on: cpu,gpu:0.")] = None,
    direction: Annotated[str | None, typer.Option(help="Directions: fprop, dgrad, wgrad, bprop, train.")] = None,
    axis: Annotated[list[str] | None, typer.Option("-a", "--axis", help="Narrow any axis: mode=eager,compiled.")] = None,
    keyword: Annotated[str | None, typer.Option("-k", help="Only cells whose id fits pytest's -k expression.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Scale every convolution: n=1, spatial=28x28; said in the row.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One trial: intervals then hold within one process only.")] = False,
    trials: Annotated[int | None, typer.Option(help="Trials, each in fresh processes.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the order and of the operands.")] = 0,
    threads: Annotated[int | None, typer.Option(help="Threads of every cell; 0 is all cores.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds that one cell may take in one trial.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the cells and the estimate, measure nothing.")] = False,
    aa: Annotated[bool, typer.Option("--aa", help="Every cell twice: what this machine's noise makes of equals.")] = False,
    resume: Annotated[str | None, typer.Option(help="Go on with a run that was cut off.")] = None,
    ceilings: Annotated[
        bool, typer.Option(help="Measure beside it what the machine can do at best: suites/ceilings.toml.")
    ] = True,
) -> None:
    """Measure suites, keep the results, and write a report for each."""
    from harness import doctor, execute
    from harness.ask.selection import Selection, parse_set

    if resume:
        narrowing = (backend, device, direction, axis, keyword, set_, trials, threads, timeout, quick)
        others = (suite, tag, seed, dry_run, aa, *narrowing)
        if any(value for value in others) or not ceilings:
            raise SelectionError("--resume goes on with a run as it was planned: only --out and --reports may stand beside it")
        folder = _folder(out, resume)
        _watched(lambda watcher: execute.resume(folder, watcher), doctor.urgent(out))
        if _finish(folder, reports, report):
            raise typer.Exit(FAILED_CELLS)
        return
    if not suite:
        raise SelectionError(f"name a suite: {_known_suites()}")
    loaded = [_load(name) for name in suite]
    selection = Selection(
        axes=_axes(axis, {"backend": backend, "device": device, "direction": direction}), keyword=keyword, threads=threads,
        set=dict(map(parse_set, set_ or ())),
        budget=_given(trials=1 if quick and trials is None else trials, timeout_s=timeout),
    )  # fmt: skip
    if dry_run:
        for one in loaded:
            _print_plan(*execute.prepare(one, selection, seed, aa=aa, ceilings=ceilings))
        return
    command, failed = shlex.join(["convbench", *sys.argv[1:]]), False
    findings: Sequence[Finding] | None = doctor.urgent(out, threads=threads)
    for one in loaded:
        measured = _watched(lambda watcher, one=one: execute.execute(
            one, selection, out=out, tags=tag or (), seed=seed, watcher=watcher, command=command, aa=aa, ceilings=ceilings,
        ), findings)  # fmt: skip
        findings = None  # said once is enough
        failed |= _finish(out / "runs" / measured.id, reports, report)
    if failed:
        raise typer.Exit(FAILED_CELLS)


@app.command("list", epilog="Example: convbench list cells first")
def list_(
    what: Annotated[What, typer.Argument(help="What to list.")],
    suite: Annotated[str | None, typer.Argument(help="The suite, for workloads and cells.")] = None,
    out: Out = Path("results"),
) -> None:
    """List suites, the workloads or cells of one, the backends and devices of this machine, or the runs of a store."""
    from harness import discovery, execute
    from harness.ask import suite as suites
    from harness.backends import registry
    from harness.isolate.wire import Hello
    from harness.screen import listing

    match what:
        case What.RUNS:
            _out().print(listing(("run", "suite", "tags", "started (UTC)", "ok", "failed", "wall time"), _runs(out)))
        case What.SUITES:
            rows = [(name, _load(str(path)).description) for name, path in sorted(suites.available().items())]
            _out().print(listing(("suite", "what it is for"), rows))
        case What.WORKLOADS:
            one = _load(suite or _missing_suite(what))
            rows = [(work.name, str(work.spec), str(work.count)) for work in one.workloads]
            _out().print(listing(("workload", "shape", "layers"), rows))
        case What.CELLS:
            from harness.ask.selection import Selection

            _print_plan(*execute.prepare(_load(suite or _missing_suite(what)), Selection(), 0, ceilings=False))
        case What.BACKENDS | What.DEVICES:
            present = [name for name in registry.names() if registry.installed(name)]
            answers = discovery.probe(present)
            rows = []
            for name in registry.names():
                answer = answers.get(name, f"not installed: pip install 'convbench[{name}]'")
                if not isinstance(answer, Hello):
                    rows.append((name, answer, ""))
                elif what is What.BACKENDS:
                    versions = ", ".join(f"{package} {version}" for package, version in answer.environment.packages.items())
                    rows.append((name, versions, ", ".join(map(str, answer.devices))))
                else:
                    rows += [(str(device), name, answer.environment.gpu if device.kind == "gpu" else answer.environment.cpu)
                             for device in answer.devices]  # fmt: skip
            headings = ("backend", "versions", "devices") if what is What.BACKENDS else ("device", "backend", "hardware")
            _out().print(listing(headings, sorted(rows)))


@app.command(epilog="Example: convbench show latest --by backend")
def show(
    run: Annotated[str, typer.Argument(help="An id, a path, latest, latest~1 or tag:WORD.")] = "latest",
    out: Out = Path("results"),
    format: Annotated[
        ShowFormat, typer.Option(help="table for people; md, csv and json carry every column.")
    ] = ShowFormat.TABLE,
    sort: Annotated[str | None, typer.Option(help="A column of the summary to sort by.")] = None,
    by: Annotated[str | None, typer.Option(help="backend: a column per backend, as at the end of a run.")] = None,
    spent: Annotated[bool, typer.Option("--spent", help="Where the time of the run went, instead.")] = False,
    networks: Annotated[
        bool, typer.Option("--networks", help="The time of all convolutions of each network, layer times count, instead.")
    ] = False,
) -> None:
    """Print the summary of a run."""
    from harness import review, screen
    from harness.store import exchange

    for option, asked in (("--spent", spent), ("--networks", networks)):
        if asked and (sort or by or format is not ShowFormat.TABLE or (spent and networks)):
            raise SelectionError(f"{option}: found beside --sort, --by, --format or another table; allowed: alone")
    if by and format is not ShowFormat.TABLE:
        raise SelectionError(f"--by: found beside --format {format}; allowed: the table")
    if spent:
        _out().print(screen.spent_table(review.spent(_folder(out, run))))
        return
    if networks:
        rolled = review.networks(_folder(out, run))
        if rolled.empty:
            raise SelectionError("--networks: no workload of this run was taken from a table of shapes")
        _out().print(screen.networks(rolled))
        return
    summary, _ = review.figures(_folder(out, run))
    if sort:
        if sort not in summary:
            raise SelectionError(f"--sort: found {sort!r}; allowed: {', '.join(summary.columns)}")
        summary = summary.sort_values(sort, kind="stable")
    if by not in (None, "backend"):
        raise SelectionError(f"--by: found {by!r}; allowed: backend")
    if format is ShowFormat.TABLE:
        _out().print(screen.closing(summary) if by else screen.cells_table(summary))
    else:
        sys.stdout.write(exchange.render(summary, format.value))


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
    """Compare two runs cell by cell. Exit code 4 if any cell is slower, 0 if none, or if one side is published."""
    if base.startswith(PUBLISHED) or new.startswith(PUBLISHED):
        _compare_published(*((new, base) if base.startswith(PUBLISHED) else (base, new)), out, format)
        return
    from harness import review, screen
    from harness.analysis.compare import Verdict
    from harness.store import exchange

    compared = review.compare(*(review.load(_folder(out, run)) for run in (base, new)))
    if format is CompareFormat.TABLE:
        _out().print(screen.comparison(compared))
    elif format is CompareFormat.JUNIT:
        sys.stdout.write(review.junit_of(compared))
    else:
        sys.stdout.write(exchange.render(compared, format.value))
    messages = _err()
    messages.print(screen.verdicts(compared), markup=False)
    noise = compared.attrs["noise"]
    messages.print(f"A/A noise of run {noise}" if noise else screen.NO_NOISE, markup=False, soft_wrap=True)
    if (compared["verdict"] == Verdict.SLOWER).any():
        raise typer.Exit(SLOWER)


@app.command(epilog="Example: convbench export latest --format parquet --to first.parquet")
def export(
    runs: Annotated[list[str], typer.Argument(help="Ids, paths, latest, latest~1 or tag:WORD.")],
    to: Annotated[Path, typer.Option(help="The file to write.")],
    out: Out = Path("results"),
    format: Annotated[
        ExportFormat | None, typer.Option(help="csv, json or parquet; by default what the name of --to says.")
    ] = None,
    what: Annotated[
        Frame, typer.Option(help="summary: a row per cell; records: per trial and cell; samples: per block.")
    ] = Frame.SUMMARY,
) -> None:
    """Write runs to a file that other programs read."""
    import pandas as pd

    from harness import review
    from harness.store import exchange

    ending = to.suffix.lstrip(".")
    if format is None and ending not in list(ExportFormat):
        raise SelectionError(f"--to: found {to}; allowed: a name that ends in .csv, .json or .parquet, or --format")
    reader = {
        Frame.SUMMARY: lambda folder: review.figures(folder)[0],
        Frame.RECORDS: review.load,
        Frame.SAMPLES: review.samples,
    }
    frames = [reader[what](_folder(out, run)) for run in runs]
    exchange.export(pd.concat(frames, ignore_index=True), (format or ExportFormat(ending)).value, to)
    typer.echo(to)


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


@app.command(epilog="Example: convbench report latest --open")
def report(
    run: Annotated[str, typer.Argument(help="An id, a path, latest, latest~1 or tag:WORD.")] = "latest",
    out: Out = Path("results"),
    reports: Reports = Path("reports"),
    open_: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
) -> None:
    """Build the HTML report of a run from what is stored."""
    from harness import review

    path = review.write_page(_folder(out, run), reports)
    typer.echo(path)
    if open_:
        typer.launch(path.resolve().as_uri())


@app.command(epilog="Example: convbench doctor --format md")
def doctor(
    out: Out = Path("results"),
    format: Annotated[DoctorFormat, typer.Option(help="table for people; md, json for scripts.")] = DoctorFormat.TABLE,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with code 5 if anything is blocking.")] = False,
) -> None:
    """Say what makes this machine a bad place to measure: what was found, why it matters, and the remedy."""
    from harness import doctor

    found = doctor.examine(out)
    if format is DoctorFormat.TABLE:
        from harness import screen

        _out().print(screen.findings(found))
    else:
        import dataclasses

        import pandas as pd

        from harness.store import exchange

        sys.stdout.write(exchange.render(pd.DataFrame([dataclasses.asdict(finding) for finding in found]), format.value))
    if strict and any(finding.severity is doctor.Severity.BLOCKING for finding in found):
        raise typer.Exit(BLOCKED)


# Helpers ------------------------------------------------------------------------------------------------------------------


def _axes(options: list[str] | None, named: dict[str, str | None]) -> dict[str, tuple[str, ...]]:
    """What -a and the options of single axes ask for. Raises SelectionError where an axis is named twice."""
    from harness.ask.selection import parse_axis

    texts = [*(options or ()), *(f"{axis}={values}" for axis, values in named.items() if values is not None)]
    chosen: dict[str, tuple[str, ...]] = {}
    for axis, values in map(parse_axis, texts):
        if axis in chosen:
            raise SelectionError(f"-a: axis {axis!r} is named twice; write {axis}=value,value")
        chosen[axis] = values
    return chosen


def _given(**budget: float | None) -> dict[str, int | float]:
    return {name: value for name, value in budget.items() if value is not None}


def _load(name: str) -> Any:
    from harness.ask import suite as suites

    return suites.load(name)


def _known_suites() -> str:
    from harness.ask import suite as suites

    return ", ".join(sorted(suites.available()))


def _missing_suite(what: What) -> str:
    raise SelectionError(f"list {what}: name a suite: {_known_suites()}")


def _folder(out: Path, run: str) -> Path:
    from harness.store import table

    return table.find(out, run)


def _compare_published(run: str, published: str, out: Path, format: CompareFormat) -> None:
    """Print a run beside what is published."""
    from harness import review, screen
    from harness.store import exchange

    if run.startswith(PUBLISHED):
        raise SelectionError(f"compare: found {run} and {published}; allowed: a run beside one of them")
    if format is CompareFormat.JUNIT:
        raise SelectionError("--format: found junit beside published:, which has no verdict; allowed: table, md, csv, json")
    found = review.beside_published(_folder(out, run), published.removeprefix(PUBLISHED))
    if format is not CompareFormat.TABLE:
        sys.stdout.write(exchange.render(found, format.value))
    elif len(found):
        _out().print(screen.beside(found))
    for line in screen.beside_lines(found):
        _err().print(line, markup=False, soft_wrap=True)


def _import_published(file: Path, out: Path, name: str | None) -> None:
    from harness import screen
    from harness.store import published

    done = published.import_table(file, out, name)
    for line in screen.imported(done):
        typer.echo(line, err=True)
    typer.echo(done.path)


def _out() -> "Console":
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=200)


def _err() -> "Console":
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def _print_plan(plan: Any, seconds: float) -> None:
    from harness import units

    for cell in plan.cells:
        typer.echo(cell)
    trials = len({step.trial for step in plan.steps})
    typer.echo(f"{plan.suite}: {len(plan.cells)} cells x {trials} trials, about {units.wall(seconds)}", err=True)


def _runs(out: Path) -> list[tuple[str, ...]]:
    """The runs of a store as rows of text. A damaged run is named on standard error."""
    from harness import review, units

    with warnings.catch_warnings(record=True) as left_out:
        warnings.simplefilter("always")
        found = review.overview(out)
    for message in dict.fromkeys(str(warning.message) for warning in left_out):
        typer.echo(f"convbench: {message}", err=True)
    return [
        (run.id, run.suite, ", ".join(run.tags), f"{run.started_at.astimezone(UTC):%Y-%m-%d %H:%M}", str(ok), str(failed),
         units.wall(run.wall_s))
        for run, ok, failed in found
    ]  # fmt: skip


def _watched(measure: Any, findings: "Sequence[Finding] | None") -> "Run":
    from harness.screen import Screen

    try:
        with Screen(_err(), findings) as watcher:
            return measure(watcher)
    except KeyboardInterrupt:
        typer.echo("convbench: interrupted; what was measured is kept: convbench run --resume latest goes on with it", err=True)
        raise typer.Exit(INTERRUPTED) from None


def _finish(folder: Path, reports: Path, report: bool) -> bool:
    """Print how a run ended, its id last; whether it failed: a cell did, or nothing at all was measured."""
    from harness import review, screen, units
    from harness.analysis import roofline
    from harness.record import AA, Status
    from harness.store import journal

    run = journal.read_run(folder)
    summary, _ = review.figures(folder)
    console, messages = _out(), _err()
    console.print(screen.closing(summary))
    console.print(screen.KEY)
    for line in screen.ceilings(roofline.ceilings(summary)):
        console.print(line, markup=False)
    for line in screen.failures(summary):
        console.print(line, markup=False)
    if AA in run.tags and (found := review.aa_noise(folder.parent.parent, run)):
        if found[1].machine:
            console.print(screen.aa_table(found[1]))
        for line in screen.aa_lines(found[1]):
            console.print(line, markup=False, soft_wrap=True)
    messages.print(f"wall time {units.wall(run.wall_s)}, of it {screen.where_time_went(review.spent(folder))}", soft_wrap=True)
    measured = bool((roofline.asked_for(summary)["status"] == str(Status.OK)).any())
    if not measured:
        messages.print("nothing was measured, for the reasons above", markup=False)
    messages.print(f"results: {folder}", markup=False, soft_wrap=True)
    if report:
        messages.print(f"report:  {review.write_page(folder, reports)}", markup=False, soft_wrap=True)
    typer.echo(run.id)
    return not measured or any(Status(status).failed for status in summary["status"])


def main() -> None:
    """The entry point: what a user got wrong is one line on standard error and exit code 2."""
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # Arrow's own keeps some 40 MB that it no longer needs
    try:
        app()
    except UserError as error:
        typer.echo(f"convbench: {error}", err=True)
        sys.exit(USAGE)
    except OSError as error:  # a folder that cannot be written, a full disk
        typer.echo(f"convbench: {error}", err=True)
        sys.exit(USAGE)


if __name__ == "__main__":
    main()
