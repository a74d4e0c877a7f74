"""`convbench run`: measure suites, keep the results, write the reports."""

import contextlib
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import run_options as option
from harness.cli.options import (
    FAILED_CELLS,
    INTERRUPTED,
    Out,
    Reports,
    TableFormat,
    known_suites,
    load,
    of_lines,
    print_plan,
    say_how_far,
    stderr,
    stdout,
)
from harness.cli.run_options import RunOptions
from harness.cli.tuned import print_tuned
from harness.errors import SelectionError
from harness.plain import plain

if TYPE_CHECKING:
    from harness.ask.selection import Selection
    from harness.ask.suite import Suite
    from harness.doctor import Finding
    from harness.execution.host import Lock
    from harness.execution.watcher import Watcher
    from harness.record import Run
    from harness.review.reading import Reading

app = typer.Typer()


@app.command(
    cls=option.BareProfile, epilog="Example: convbench run first --backend torch,jax --direction wgrad --quick"
)  # fmt: skip
def run(
    suite: Annotated[list[str] | None, typer.Argument(help="Names from suites/, or paths.")] = None,
    out: Out = Path("results"),
    reports: Reports = Path("reports"),
    report: option.Report = True,
    tag: option.Tags = None,
    backend: option.Backend = None,
    device: option.Device = None,
    direction: option.Direction = None,
    axis: option.Axes = None,
    keyword: option.Keyword = None,
    set_: option.Changes = None,
    quick: option.Quick = False,
    trials: option.Trials = None,
    until: option.Until = None,
    time: option.Time = None,
    seed: option.Seed = 0,
    threads: option.Threads = None,
    timeout: option.Timeout = None,
    dry_run: option.DryRun = False,
    aa: option.AA = False,
    resume: option.Resume = None,
    more: Annotated[
        str | None, typer.Option("--more", help="Measure further what a run has not decided, with --time or --until.")
    ] = None,
    wait: Annotated[str, typer.Option(help="How long another run on this host is waited for: 90s, 30m, 2h.")] = "0",
    ceilings: option.Ceilings = True,
    machine: option.Machine = None,
    python: option.Python = None,
    conv: option.Convs = None,
    profile: option.Profile = None,
) -> None:
    """Measure suites, keep the results, and write a report for each."""
    options = RunOptions(
        suites=suite or (), out=out, reports=reports, report=report, tags=tag or (), backend=backend, device=device,
        direction=direction, axes=axis or (), keyword=keyword, changes=set_ or (), quick=quick, trials=trials, seed=seed,
        threads=threads, timeout=timeout, dry_run=dry_run, aa=aa, resume=resume, wait=wait, ceilings=ceilings, machine=machine,
        until=until, time=time, pythons=python or (), convs=conv or (), profile=profile,
    )  # fmt: skip
    limit_s = options.wait_s
    if resume and more:
        raise SelectionError("--resume and --more: name one run for one of them")
    if resume or more:
        folder = options.to_resume(resume) if resume else options.to_measure_more(more or "")
        with interruptible():
            failed = _resumed(folder, limit_s, options)
    else:
        failed = _asked(options, limit_s)
    if failed:
        raise typer.Exit(FAILED_CELLS)


def _resumed(folder: Path, limit_s: float, options: RunOptions) -> bool:
    """Resume a run, or measure it further where the options say how far, and report it; whether it failed."""
    from harness import doctor
    from harness.execution import execute, host

    with host.alone(limit_s, waiting) as lock:

        def goes_on(watcher: "Watcher") -> "Run":
            aim = options.aim()
            if any(aim.values()):
                return execute.more(folder, watcher, until=aim["until"], time_s=aim["time_s"], lock=lock)
            return execute.resume(folder, watcher, lock=lock)

        watched(goes_on, doctor.urgent(options.out))
        return _finish(folder, options)


def _asked(options: RunOptions, limit_s: float) -> bool:
    """Measure the suites, or list their cells; whether any failed."""
    from harness.execution import execute, profiles

    if not options.suites and not options.convs:
        raise SelectionError(f"name a suite: {known_suites()}")
    options.check_tags()
    if options.profile is not None:
        profiles.fitting(options.profile)
    suites, selection = [load(name) for name in options.suites], options.selection()
    if options.convs:
        suites.append(of_lines(options.convs))
    if options.dry_run:
        for suite in suites:
            planned = execute.prepare(
                suite, selection, options.seed, aa=options.aa, ceilings=options.ceilings, profile=options.profile
            )  # fmt: skip
            print_plan(*planned)
        return False
    for suite in suites:  # before the host's lock is asked for, so that a mistake is told at once
        execute.check(suite, selection, aa=options.aa, ceilings=options.ceilings, machine=options.machine)
    with interruptible():
        return measured(suites, selection, limit_s, options)


def measured(suites: "Sequence[Suite]", selection: "Selection", limit_s: float, options: RunOptions) -> bool:
    """Measure each suite and report it, all under one hold of the host's lock; whether any failed."""
    from harness import doctor
    from harness.execution import host

    failed = False
    with host.alone(limit_s, waiting) as lock:
        findings: Sequence[Finding] | None = doctor.urgent(options.out, threads=options.threads)
        for suite in suites:
            measure = partial(_measure, suite, selection, options, lock)
            run = watched(measure, findings)
            findings = None  # said once is enough
            failed |= _finish(options.out / "runs" / run.id, options)
    return failed


def _measure(suite: "Suite", selection: "Selection", options: RunOptions, lock: "Lock", watcher: "Watcher") -> "Run":
    from harness.execution import execute

    return execute.execute(
        suite, selection, out=options.out, tags=options.tags, seed=options.seed, watcher=watcher, command=command(),
        aa=options.aa, ceilings=options.ceilings, machine=options.machine, lock=lock, profile=options.profile,
    )  # fmt: skip


def waiting(why: str) -> None:
    """Say on standard error what is waited for."""
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
    """The command as it was typed, for run.json, without the paths of interpreters; what no text can hold is replaced."""
    words, typed = [], sys.argv[1:]
    for before, word in zip(["", *typed], typed, strict=False):
        if before == "--python" or word.startswith("--python="):
            option, equals, rest = word.partition("=") if before != "--python" else ("", "", word)
            word = f"{option}{equals}{rest.partition('=')[0]}=PATH"
        words.append(word)
    return plain(shlex.join(["convbench", *words]))


def watched(measure: "Callable[[Watcher], Run]", findings: "Sequence[Finding] | None") -> "Run":
    """What `measure` returns, drawn on standard error. `findings` are what is wrong with the machine; None: said before."""
    from harness.cli.progress import Screen

    with Screen(stderr(), findings) as watcher:
        return measure(watcher)


def _finish(folder: Path, options: RunOptions) -> bool:
    """Print how a run ended, its id last; whether it failed: a cell did, or nothing at all was measured."""
    from harness.analysis import roofline
    from harness.record import Status
    from harness.review import pages
    from harness.review.reading import Reading

    reading = Reading(folder)
    run, summary, messages = reading.run, reading.ranking, stderr()
    tabular = options.format is TableFormat.TABLE
    unfinished = say_how_far(reading, folder.parent.parent, on_stdout=tabular)
    print_end(reading, options.format)
    measured = bool((roofline.asked_for(summary)["status"] == str(Status.OK)).any())
    if not measured:
        messages.print("nothing was measured, for the reasons above", markup=False)
    messages.print(f"results: {folder}", markup=False, soft_wrap=True)
    if options.profile is not None:
        messages.print(f"what ran inside the calls: convbench show {run.id} --kernels", soft_wrap=True)
    made = pages.publish(reading, options.reports) if options.report else None
    if made:
        messages.print(f"report:  {made.path}", markup=False, soft_wrap=True)
        for part in made.broken:
            messages.print(f"the report lacks a part: {part}", markup=False, soft_wrap=True)
    typer.echo(run.id, err=not tabular)
    return (
        unfinished or not measured or bool(made and made.broken) or any(Status(status).failed for status in summary["status"])
    )


def print_end(reading: "Reading", format: TableFormat = TableFormat.TABLE) -> None:
    """Print the table of a run's end, that of a tuning in any format, and on standard error where its time went."""
    from harness import units
    from harness.cli import tables

    if reading.run.tuned:
        print_tuned(reading, format)
    else:
        _print_results(reading)
    told = f"wall time {units.wall(reading.run.wall_s)}, of it {tables.where_time_went(reading.spent)}"
    stderr().print(told, soft_wrap=True)


def _print_results(reading: "Reading") -> None:
    """Print the times of a run, what failed and why, and what its equals differ by."""
    from harness.cli import tables
    from harness.record import AA

    run, summary, console = reading.run, reading.ranking, stdout()
    console.print(tables.closing(summary))
    for line in tables.key(summary, visited=run.visited):
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
