"""`convbench tune`: the best setting of each workload and direction, by a race that drops what is surely slower."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import run_options as option
from harness.cli.options import FAILED_CELLS, Out, Reports, TableFormat, load, print_plan
from harness.cli.run import interruptible, measured
from harness.cli.run_options import RunOptions
from harness.errors import SelectionError

if TYPE_CHECKING:
    from harness.ask.suite import Suite

TUNE = "tune"  # the tag of such a run

app = typer.Typer()


@app.command(epilog="Example: convbench tune resnet50 --over layout,mode --backend torch --time 10m")
def tune(
    suite: Annotated[str, typer.Argument(help="A name from suites/, or a path.")],
    over: Annotated[
        list[str] | None,
        typer.Option("--over", help="Axes: layout, mode, threads, precision=fp32,bf16; by default layout,mode."),
    ] = None,
    format: Annotated[
        TableFormat, typer.Option(help="table for people; md, csv and json carry every column.")
    ] = TableFormat.TABLE,
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
    trials: Annotated[int | None, typer.Option("--trials", help="Trials at the most, each in fresh processes.")] = None,
    until: option.Until = None,
    time: option.Time = None,
    seed: option.Seed = 0,
    threads: option.Threads = None,
    timeout: option.Timeout = None,
    dry_run: option.DryRun = False,
    wait: Annotated[str, typer.Option(help="How long another run on this host is waited for: 90s, 30m, 2h.")] = "0",
    ceilings: option.Ceilings = True,
    machine: option.Machine = None,
    python: option.Python = None,
) -> None:
    """Find the fastest setting of each workload and direction, for each backend, and what it gains over the default.

    A setting that is surely slower is measured no further; the default setting stays, so that the gain is known. It is a run
    like any other: show, report and run --more take it.
    """
    from harness.execution import execute

    options = RunOptions(
        suites=(suite,), out=out, reports=reports, report=report, tags=(TUNE, *(tag or ())), backend=backend, device=device,
        direction=direction, axes=axis or (), keyword=keyword, changes=set_ or (), quick=quick, trials=trials, seed=seed,
        threads=threads, timeout=timeout, dry_run=dry_run, aa=False, resume=None, wait=wait, ceilings=ceilings,
        machine=machine, until=until, time=time, format=format, pythons=python or (),
    )  # fmt: skip
    options.check_tags()
    limit_s = options.wait_s
    from harness.ask.selection import Selection

    chosen, nothing = _tuned(load(suite), over or [], options), Selection()
    if dry_run:
        print_plan(*execute.prepare(chosen, nothing, seed, ceilings=ceilings))
        return
    execute.check(chosen, nothing, ceilings=ceilings, machine=machine)
    with interruptible():
        failed = measured([chosen], nothing, limit_s, options)
    if failed:
        raise typer.Exit(FAILED_CELLS)


def _tuned(suite: "Suite", over: list[str], options: RunOptions) -> "Suite":
    """What the options leave of the suite, with the settings that compete. Raises SelectionError."""
    from harness.ask import tuning
    from harness.ask.selection import narrow
    from harness.execution import discovery

    axes = tuning.parse(over or [",".join(tuning.DEFAULT)])
    if "threads" in axes and options.threads is not None:
        raise SelectionError("--threads: found beside --over threads; write --over threads=1,2")
    selection = options.selection()
    narrowed = narrow(suite, selection)
    discovery.refuse_interpreters(narrowed, selection.interpreters)
    modes = discovery.modes(discovery.concerned(narrowed), narrowed.interpreters) if "mode" in axes else {}
    trials = 1 if options.quick and options.trials is None else options.trials
    return tuning.budget(tuning.tuned(narrowed, axes, modes, len(os.sched_getaffinity(0))), trials)
