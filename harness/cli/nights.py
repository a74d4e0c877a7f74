"""What runs unattended, and what came of it: `nightly`, `history`, `ack` and `prune`."""

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import run_options as option
from harness.cli.options import (
    INTERNAL,
    INTERRUPTED,
    USAGE,
    Out,
    Reports,
    TableFormat,
    known_suites,
    load,
    must_be_file,
    print_plan,
    seconds,
    stderr,
    stdout,
)
from harness.cli.run import command, interruptible, watched
from harness.cli.run_options import RunOptions
from harness.errors import SelectionError, UserError
from harness.plan import STAY_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.ask.selection import Selection
    from harness.ask.suite import Suite
    from harness.execution.host import Lock
    from harness.nights.nightly import Night
    from harness.nights.notify import Notice, Webhook
    from harness.record import Run

app = typer.Typer()
OfSuite = Annotated[str | None, typer.Option("--suite", help="The suite; by default that of the newest night.")]


@app.command(epilog="Example: convbench nightly nightly --wait 1h --junit night.xml")
def nightly(
    suite: Annotated[str | None, typer.Argument(help="A name from suites/, or a path.")] = None,
    wait: Annotated[
        str, typer.Option(help="How long a busy machine, or another run on it, is waited for: 90s, 30m, 2h.")
    ] = "30m",
    junit: Annotated[Path | None, typer.Option(help="A file for the night as JUnit XML.")] = None,
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
    seed: option.Seed = 0,
    threads: option.Threads = None,
    timeout: option.Timeout = None,
    dry_run: option.DryRun = False,
    aa: option.AA = False,
    resume: option.Resume = None,
    ceilings: option.Ceilings = True,
    machine: option.Machine = None,
    python: option.Python = None,
    profiles: Annotated[
        bool,
        typer.Option(help="Profile what became slower or has other versions, and a tenth of the rest: up to 10 % more time."),
    ] = True,
) -> None:
    """Measure a suite as one night of its history, judge it, write report and index, and tell people.

    Exit code 0 quiet or improved, 3 a regression, 4 a suspicion or a machine that moved, 5 not or not wholly measured.
    """
    from harness.nights import notify

    webhook = notify.take_webhook(os.environ)  # first of all: no process that is started later has it
    options = RunOptions(
        suites=(suite,) if suite else (), out=out, reports=reports, report=report, tags=tag or (), backend=backend,
        device=device, direction=direction, axes=axis or (), keyword=keyword, changes=set_ or (), quick=quick, trials=trials,
        seed=seed, threads=threads, timeout=timeout, dry_run=dry_run, aa=aa, resume=resume, wait=wait, ceilings=ceilings,
        machine=machine, pythons=python or (), profiles=profiles,
    )  # fmt: skip
    options.check_tags()
    must_be_file("--junit", junit)
    with interruptible():
        _attended(options, junit, webhook)


def _attended(options: RunOptions, junit: Path | None, webhook: "Webhook | None") -> None:
    """The night, and whatever comes of it told to people."""
    from harness import units
    from harness.analysis import due
    from harness.execution import execute
    from harness.nights import notify

    if options.dry_run:
        one = _suite(options)
        plan, estimate_s = execute.prepare(
            one, _selection(options, one), options.seed, aa=options.aa, ceilings=options.ceilings
        )
        print_plan(plan, estimate_s)
        if options.profiles:
            stderr().print(f"and profiles of some cells, for up to {units.wall(due.SHARE * estimate_s)}", markup=False)
        return
    named = next(iter(options.suites), options.resume or "")
    try:
        night = _night(options)
    except KeyboardInterrupt as error:
        _tell(notify.failed(named, error, INTERRUPTED), webhook)
        raise
    except Exception as error:
        code = USAGE if isinstance(error, UserError | OSError) else INTERNAL
        _tell(notify.failed(named, error, code), webhook)
        raise
    said = notify.notice(night.judgement, night.digest, night.page)
    if junit:
        _attempt("JUnit XML", lambda: _write(junit, notify.junit_xml(night.judgement, night.digest)))
    typer.echo(notify.markdown(said))
    _tell(said, webhook)
    for name, path in (("results", night.folder), ("report ", night.page), ("index  ", night.index)):
        if path:
            stderr().print(f"{name}: {path}", markup=False, soft_wrap=True)
    typer.echo(said.run_id)
    for part in night.broken:
        typer.echo(f"convbench: the report lacks a part: {part}", err=True)
    if night.error:
        raise night.error
    if night.code:
        raise typer.Exit(night.code)


def _suite(options: RunOptions) -> "Suite":
    for name in options.suites:
        return load(name)
    raise SelectionError(f"nightly: name a suite: {known_suites()}")


def _selection(options: RunOptions, suite: "Suite") -> "Selection":
    """What is asked for; where nights are held against no standard and those before are by another method, long stays, too.

    Of a night that has so much time, profiles take their part.
    """
    from dataclasses import replace

    from harness.analysis import due
    from harness.measure import environment
    from harness.review import nights

    selection, more = options.selection(), dict[str, float]()
    if options.profiles and suite.budget.time_s:
        more["time_s"] = suite.budget.time_s / (1 + due.SHARE)
    here = environment.describe("", (), environment.machine_name(options.machine)).machine_id
    if not (suite.standard or suite.budget.stay_s) and nights.both_ways(options.out, suite.name, here):
        more["stay_s"] = STAY_S
    return replace(selection, budget={**more, **selection.budget}) if more else selection


def _night(options: RunOptions) -> "Night":
    """Wait, measure and judge, under the host's lock from the first cell to the page."""
    from harness.execution import host
    from harness.nights import nightly

    limit_s = options.wait_s
    begun = options.to_resume(options.resume) if options.resume else None
    with host.locked() as lock:
        measure = _resuming(begun, options, lock) if begun else _measuring(options, lock)
        run = nightly.measure(measure, host.Patience(limit_s, partial(nightly.look, lock), _waiting))
        folder = begun or options.out / "runs" / run.id
        if options.profiles:
            _profile(folder)
        return nightly.conclude(folder, options.reports, options.report)


def _profile(folder: Path) -> None:
    """Profile what is due and say what that took. What goes wrong with it is a line on standard error: the night stands."""
    from harness.execution import afterwards
    from harness.nights import nightly

    try:
        done = nightly.profile(folder, afterwards.of_run)
    except Exception as error:
        stderr().print(f"not profiled: {error}", markup=False, soft_wrap=True)
    else:
        if done and done.due:
            stderr().print(done.words, markup=False, soft_wrap=True)


def _waiting(why: str) -> None:
    stderr().print(f"waiting for a quiet machine: {why}", markup=False, soft_wrap=True)


def _resuming(folder: Path, options: RunOptions, lock: "Lock") -> "Callable[[str], Run]":
    """What resumes a night, or raises BusyError where it is told why the machine is not quiet."""
    from harness import doctor
    from harness.errors import BusyError
    from harness.execution import execute

    def measure(refusal: str) -> "Run":
        if refusal:
            raise BusyError(f"{folder.name} is not resumed: {refusal}")
        return watched(lambda watcher: execute.resume(folder, watcher, lock=lock), doctor.urgent(options.out))

    return measure


def _measuring(options: RunOptions, lock: "Lock") -> "Callable[[str], Run]":
    """What measures a night, or keeps one that was not measured where it is told why the machine is not quiet."""
    from harness import doctor
    from harness.execution import execute
    from harness.record import NIGHTLY

    suite = _suite(options)
    selection = _selection(options, suite)
    execute.check(suite, selection, aa=options.aa, ceilings=options.ceilings, machine=options.machine)
    begin = partial(
        execute.execute, suite, selection, out=options.out, tags=(NIGHTLY, *options.tags), seed=options.seed, command=command(),
        aa=options.aa, ceilings=options.ceilings, machine=options.machine,
    )  # fmt: skip

    def measure(refusal: str) -> "Run":
        if refusal:
            stderr().print(f"not measured: {refusal}", markup=False, soft_wrap=True)
            return begin(refusal=refusal)
        findings = doctor.urgent(options.out, threads=options.threads)
        return watched(lambda watcher: begin(watcher=watcher, lock=lock), findings)

    return measure


def _tell(said: "Notice", webhook: "Webhook | None") -> None:
    """By all ways that the environment names; one that fails is a line on standard error."""
    from harness.nights import notify

    _attempt("the job's summary", lambda: notify.append_job_summary(notify.markdown(said), os.environ))
    if webhook and (why := notify.post(webhook, said)):
        typer.echo(f"convbench: the webhook was not told: {why}", err=True)


def _attempt(what: str, write: "Callable[[], object]") -> None:
    try:
        write()
    except OSError as error:
        typer.echo(f"convbench: {what} was not written: {error}", err=True)


def _write(path: Path, text: str) -> None:
    from harness import drafts

    drafts.deliver(path, text)


@app.command(epilog="Example: convbench history rn50_conv1/fprop/torch")
def history(
    cell: Annotated[str, typer.Argument(help="The id of a cell, or the start of one alone.")],
    suite: OfSuite = None,
    out: Out = Path("results"),
    format: Annotated[
        TableFormat, typer.Option(help="table for people; md, csv and json carry every column.")
    ] = TableFormat.TABLE,
) -> None:
    """Print the nights of a cell: its time, where versions changed, where its level did, and what was acknowledged."""
    from harness.cli import tables
    from harness.review import nights
    from harness.store import exchange

    history_of_cell = nights.of_cell(out, cell, suite)
    for line in tables.machines(history_of_cell.attrs["machines"], "each is judged by its own nights"):
        stderr().print(line, markup=False, soft_wrap=True)
    if format is TableFormat.TABLE:
        stdout().print(f"{history_of_cell.attrs['cell']}: {history_of_cell.attrs['shape']}", markup=False, soft_wrap=True)
        stdout().print(tables.nights(history_of_cell))
    else:
        sys.stdout.write(exchange.render(history_of_cell, format.value))
    for line in history_of_cell.attrs["now"]:
        stderr().print(line, markup=False, soft_wrap=True)


@app.command(epilog='Example: convbench ack rn50_conv1/fprop/torch --reason "deterministic algorithms are on since torch 2.14"')
def ack(
    cell: Annotated[str, typer.Argument(help="The id of a cell, or the start of one alone; '*' for every cell.")],
    reason: Annotated[str, typer.Option(help="What is known of it; the report shows it.")],
    from_: Annotated[
        str | None,
        typer.Option("--from", help="The first run of the new level; by default where what is held against it began."),
    ] = None,
    by: Annotated[str | None, typer.Option(help="Who says so; by default the user's name.")] = None,
    suite: OfSuite = None,
    out: Out = Path("results"),
) -> None:
    """Acknowledge what the gate holds against a cell: from there on it has a new baseline. What is said is kept for good."""
    import getpass
    from datetime import UTC, datetime

    from harness.review import nights

    said = nights.acknowledge(
        out, cell, reason, by or getpass.getuser(), suite=suite, from_run=from_, at=datetime.now(UTC)
    )  # fmt: skip
    typer.echo(f"{said.case}: acknowledged from {said.from_run} on")


@app.command(epilog="Example: convbench prune --older-than 90d --dry-run")
def prune(
    older_than: Annotated[str, typer.Option("--older-than", help="The age from which on: 90d.")] = "90d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, remove nothing.")] = False,
    out: Out = Path("results"),
) -> None:
    """Remove the samples of old runs; records, nights and reports stay, and A/A runs and acknowledged ones keep everything."""
    from datetime import UTC, datetime, timedelta

    from harness import units
    from harness.nights import retention

    age = timedelta(seconds=seconds("--older-than", older_than))
    plan = retention.plan(out, datetime.now(UTC) - age)
    removed = []
    for old in plan.old:
        try:
            if not dry_run:
                retention.prune(old)
        except UserError as error:  # one that is damaged keeps none of the others
            typer.echo(f"convbench: {error}", err=True)
            continue
        removed.append(old)
        typer.echo(f"{old.folder.name}: {units.size(old.nbytes)} of samples")
    for reason, count in plan.kept.items():
        typer.echo(f"kept: {count} {reason}", err=True)
    done = "would be removed" if dry_run else "removed"
    typer.echo(f"{units.size(sum(old.nbytes for old in removed))} of {len(removed)} runs {done}", err=True)
    if len(removed) < len(plan.old):
        raise typer.Exit(USAGE)
