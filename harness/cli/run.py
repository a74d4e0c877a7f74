"""`convbench run`: measure suites, keep the results, write the reports."""

import contextlib
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import (
    FAILED_CELLS,
    INTERRUPTED,
    Out,
    Reports,
    folder_of,
    known_suites,
    load,
    print_plan,
    say_how_far,
    seconds,
    stderr,
    stdout,
)
from harness.errors import SelectionError
from harness.plain import plain

if TYPE_CHECKING:
    from harness.ask.selection import Selection
    from harness.doctor import Finding
    from harness.record import Run

app = typer.Typer()


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
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of the order and of the operands.")] = 0,
    threads: Annotated[int | None, typer.Option(help="Threads of every cell; 0 is all cores.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds that one cell may take in one trial.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the cells and the estimate, measure nothing.")] = False,
    aa: Annotated[bool, typer.Option("--aa", help="Every cell twice: what this machine's noise makes of equals.")] = False,
    resume: Annotated[str | None, typer.Option(help="Go on with a run that was cut off.")] = None,
    wait: Annotated[str, typer.Option(help="How long another run on this host is waited for: 90s, 30m, 2h.")] = "0",
    ceilings: Annotated[
        bool, typer.Option(help="Measure beside it what the machine can do at best: suites/ceilings.toml.")
    ] = True,
    machine: Annotated[
        str | None, typer.Option(help="A name for this machine, to tell it from its equals; by default CONVBENCH_MACHINE's.")
    ] = None,
) -> None:
    """Measure suites, keep the results, and write a report for each."""
    from harness.execution import execute

    limit_s, options = seconds("--wait", wait), locals()
    if resume:
        folder = to_resume(resume, out, options)
        with interruptible():
            failed = _resumed(folder, limit_s, options)
    else:
        if not suite:
            raise SelectionError(f"name a suite: {known_suites()}")
        check_tags(tag or ())
        loaded, selection = [load(name) for name in suite], narrowing(options)
        if dry_run:
            for one in loaded:
                print_plan(*execute.prepare(one, selection, seed, aa=aa, ceilings=ceilings))
            return
        for one in loaded:  # before the host's lock is asked for, so that a mistake is told at once
            execute.check(one, selection, aa=aa, ceilings=ceilings, machine=machine)
        with interruptible():
            failed = _measured(loaded, selection, limit_s, options)
    if failed:
        raise typer.Exit(FAILED_CELLS)


def _resumed(folder: Path, limit_s: float, options: "Mapping[str, Any]") -> bool:
    """Go on with a run and report it; whether it failed."""
    from harness import doctor
    from harness.execution import execute, host

    with host.alone(limit_s, _waiting) as lock:
        watched(lambda watcher: execute.resume(folder, watcher, lock=lock), doctor.urgent(options["out"]))
        return _finish(folder, options["reports"], options["report"])


def _measured(loaded: "Sequence[Any]", selection: "Selection", limit_s: float, options: "Mapping[str, Any]") -> bool:
    """Measure each suite and report it, all under one hold of the host's lock; whether any failed."""
    from harness import doctor
    from harness.execution import execute, host

    out, failed = options["out"], False
    asked = {"out": out, "tags": options["tag"] or (), "command": command()}
    asked |= {name: options[name] for name in ("seed", "aa", "ceilings", "machine")}
    with host.alone(limit_s, _waiting) as lock:
        findings: Sequence[Finding] | None = doctor.urgent(out, threads=options["threads"])
        for one in loaded:
            run = watched(
                lambda watcher, one=one: execute.execute(one, selection, watcher=watcher, lock=lock, **asked), findings
            )
            findings = None  # said once is enough
            failed |= _finish(out / "runs" / run.id, options["reports"], options["report"])
    return failed


def _waiting(why: str) -> None:
    stderr().print(f"waiting: {why}", markup=False, soft_wrap=True)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """In this block Ctrl-C, SIGTERM and SIGHUP end the command with one line and their exit code."""
    from harness.execution import interrupts

    with interrupts.heard():
        try:
            yield
        except KeyboardInterrupt as error:
            typer.echo(f"convbench: {str(error) or 'interrupted'}", err=True)
            raise typer.Exit(INTERRUPTED) from None


def command() -> str:
    """The command as it was typed, for run.json; what no text can hold is replaced."""
    return plain(shlex.join(["convbench", *sys.argv[1:]]))


def check_tags(tags: Sequence[str]) -> None:
    """Raises SelectionError for a tag that could not be shown or asked for again as `tag:WORD`."""
    for tag in tags:
        if not tag.strip() or not tag.isprintable():
            raise SelectionError(f"--tag: found {tag!r}; allowed: a word of characters that can be printed")


def to_resume(run: str, out: Path, options: Mapping[str, Any]) -> Path:
    """The folder of the run to go on with. Raises SelectionError where options of `run` would change its plan."""
    changing = (
        "suite", "tag", "seed", "dry_run", "aa", "backend", "device", "direction", "axis", "keyword", "set_", "quick", "trials",
        "threads", "timeout", "machine",
    )  # fmt: skip
    if any(options[name] for name in changing) or not options["ceilings"]:
        raise SelectionError(
            "--resume goes on with a run as it was planned: only --out, --reports, --report and --wait may stand beside it"
        )
    return folder_of(out, run)


def narrowing(options: Mapping[str, Any]) -> "Selection":
    """What the options of `run` leave of a suite. Raises SelectionError."""
    from harness.ask.selection import Selection, parse_set

    check_threads(options["threads"])
    trials = 1 if options["quick"] and options["trials"] is None else options["trials"]
    return Selection(
        axes=_axes(options["axis"], {name: options[name] for name in ("backend", "device", "direction")}),
        keyword=options["keyword"], threads=options["threads"], set=dict(map(parse_set, options["set_"] or ())),
        budget=_given(trials=trials, timeout_s=options["timeout"]),
    )  # fmt: skip


def check_threads(threads: int | None) -> None:
    """Raises SelectionError for more threads than this process may use cores: no cell could be measured so."""
    cores = len(os.sched_getaffinity(0))
    if threads is not None and threads > cores:
        raise SelectionError(f"--threads: found {threads}; allowed: 0 (every core) to {cores}, the cores this process may use")


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


def watched(measure: Any, findings: "Sequence[Finding] | None") -> "Run":
    """What `measure` returns, drawn on standard error. `findings` are what is wrong with the machine; None: said before."""
    from harness.cli.progress import Screen

    with Screen(stderr(), findings) as watcher:
        return measure(watcher)


def _finish(folder: Path, reports: Path, report: bool) -> bool:
    """Print how a run ended, its id last; whether it failed: a cell did, or nothing at all was measured."""
    from harness import units
    from harness.analysis import roofline
    from harness.cli import tables
    from harness.record import AA, Status
    from harness.review import pages
    from harness.review.reading import Reading

    reading = Reading(folder)
    run, summary = reading.run, reading.ranking
    console, messages = stdout(), stderr()
    unfinished = say_how_far(reading, folder.parent.parent)
    console.print(tables.closing(summary))
    for line in tables.key(summary):
        console.print(line, markup=False)
    for line in tables.shapes(summary):
        console.print(line, markup=False, soft_wrap=True)
    for line in tables.ceilings(reading.ceilings):
        console.print(line, markup=False)
    for line in tables.failures(summary):
        console.print(line, markup=False)
    if AA in run.tags and reading.aa:
        if reading.aa.noise.machine:
            console.print(tables.aa_table(reading.aa.noise))
        for line in tables.aa_lines(reading.aa.noise):
            console.print(line, markup=False, soft_wrap=True)
    messages.print(f"wall time {units.wall(run.wall_s)}, of it {tables.where_time_went(reading.spent)}", soft_wrap=True)
    measured = bool((roofline.asked_for(summary)["status"] == str(Status.OK)).any())
    if not measured:
        messages.print("nothing was measured, for the reasons above", markup=False)
    messages.print(f"results: {folder}", markup=False, soft_wrap=True)
    made = pages.publish(reading, reports) if report else None
    if made:
        messages.print(f"report:  {made.path}", markup=False, soft_wrap=True)
        for part in made.broken:
            messages.print(f"the report lacks a part: {part}", markup=False, soft_wrap=True)
    typer.echo(run.id)
    return (
        unfinished or not measured or bool(made and made.broken) or any(Status(status).failed for status in summary["status"])
    )
