"""`convbench profile`: what runs inside the calls of cells, without timing them again; and commands for tools that see more."""

import gzip
import shlex
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import run_options as option
from harness.cli.options import FAILED_CELLS, Out, TableFormat, load, must_be_file, stderr
from harness.cli.run import command, interruptible, waiting
from harness.cli.run_options import RunOptions
from harness.errors import SelectionError

if TYPE_CHECKING:
    from harness.execution.afterwards import Profiled

app = typer.Typer()


class Tool(StrEnum):
    """A profiler that another command starts; convbench prints that command and never runs it."""

    NSYS = "nsys"
    NCU = "ncu"
    PERF = "perf"


# What perf counts where the processor lets it: most virtual machines have none of these.
COUNTERS = (
    "cycles", "instructions", "LLC-load-misses", "fp_arith_inst_retired.scalar_single",
    "fp_arith_inst_retired.128b_packed_single", "fp_arith_inst_retired.256b_packed_single",
    "fp_arith_inst_retired.512b_packed_single", "exe.amx_busy",
)  # fmt: skip
TOOLS: dict[Tool, tuple[str, ...]] = {
    Tool.NSYS: ("nsys", "profile", "--trace=cuda,nvtx,cudnn", "--output=convbench"),
    Tool.NCU: ("ncu", "--set", "full", "--target-processes", "all", "--export", "convbench"),
    Tool.PERF: ("perf", "stat", "-e", ",".join(COUNTERS), "--"),
}


@app.command(epilog="Example: convbench profile first -k 'example and wgrad'")
def profile(
    suite: Annotated[str, typer.Argument(help="A name from suites/, or a path.")],
    out: Out = Path("results"),
    backend: option.Backend = None,
    device: option.Device = None,
    direction: option.Direction = None,
    axis: option.Axes = None,
    keyword: option.Keyword = None,
    set_: option.Changes = None,
    threads: option.Threads = None,
    timeout: option.Timeout = None,
    wait: Annotated[str, typer.Option(help="How long another run on this host is waited for: 90s, 30m, 2h.")] = "0",
    machine: option.Machine = None,
    python: option.Python = None,
    trace: Annotated[
        Path | None, typer.Option(help="Write a Chrome trace of three calls of the one cell that is left, for Perfetto.")
    ] = None,
    print_command: Annotated[
        Tool | None, typer.Option("--print-command", help="Only print a command for another profiler, and check nothing.")
    ] = None,
) -> None:
    """Say what runs inside the calls of convolutions and where their time goes; nothing is timed.

    The profiles join the latest run of the suite that timed these cells here; without one they stand in a run of their own.
    """
    options = RunOptions(
        suites=(suite,), out=out, reports=Path("reports"), report=False, tags=(), backend=backend, device=device,
        direction=direction, axes=axis or (), keyword=keyword, changes=set_ or (), quick=False, trials=None, seed=0,
        threads=threads, timeout=timeout, dry_run=False, aa=False, resume=None, wait=wait, ceilings=False, machine=machine,
        pythons=python or (),
    )  # fmt: skip
    must_be_file("--trace", trace)
    if print_command:
        typer.echo(shlex.join([*TOOLS[print_command], *_run(options)]))
        told = "not run, and not checked: the tool's own help says what it counts; all of a run is in it, not the calls alone"
        stderr().print(told, soft_wrap=True)
        return
    with interruptible():
        profiled = _profiled(options)
    fine = _printed(profiled)
    if trace:
        _copy_trace(profiled, trace)
    if not fine:
        raise typer.Exit(FAILED_CELLS)


def _run(options: RunOptions) -> Sequence[str]:
    """The command that times what was asked for once."""
    single = {
        "--backend": options.backend, "--device": options.device, "--direction": options.direction, "-k": options.keyword,
        "--threads": options.threads,
    }  # fmt: skip
    narrowed = [word for name, value in single.items() if value is not None for word in (name, str(value))]
    several = {"-a": options.axes, "--set": options.changes, "--python": options.pythons}
    narrowed += [word for name, values in several.items() for value in values for word in (name, value)]
    return ["convbench", "run", *options.suites, *narrowed, "--quick", "--no-ceilings", "--no-report"]


def _profiled(options: RunOptions) -> "Profiled":
    """Profile what was asked for, drawn on standard error."""
    from harness.cli.progress import Screen
    from harness.execution import afterwards, execute, host

    suite, selection, limit_s = load(options.suites[0]), options.selection(), options.wait_s
    execute.check(suite, selection, ceilings=False, machine=options.machine)
    with host.alone(limit_s, waiting) as lock, Screen(stderr()) as watcher:
        return afterwards.profile(
            suite, selection, out=options.out, watcher=watcher, command=command(), machine=options.machine, lock=lock
        )  # fmt: skip


def _printed(profiled: "Profiled") -> bool:
    """Print what ran, and where it is kept; whether every cell could be profiled."""
    from harness.cli.kernels import print_kernels
    from harness.review.reading import Reading

    reading = Reading(profiled.folder)
    frame = reading.profiles[reading.profiles["cell"].isin(profiled.cells)]
    print_kernels(reading, lambda profiles: profiles[profiles["cell"].isin(profiled.cells)], TableFormat.TABLE)
    stderr().print(f"results: {profiled.folder}", soft_wrap=True)
    return len(frame) == len(profiled.cells) and not frame["problem"].astype(bool).any()


def _copy_trace(profiled: "Profiled", to: Path) -> None:
    """Write the trace of the only cell; as text, unless the name ends in .gz. Raises SelectionError for several, or none."""
    from harness import drafts
    from harness.review.reading import Reading

    if len(profiled.cells) != 1:
        raise SelectionError(f"--trace: found {len(profiled.cells)} cells; allowed: one, by -k; all are in {profiled.folder}")
    profiles = Reading(profiled.folder).profiles
    (row,) = profiles[profiles["cell"] == profiled.cells[0]].to_dict("records")
    if not row["trace"]:
        raise SelectionError(f"--trace: there is none of {row['cell']}: {row['problem'] or 'it could not be written'}")
    content = (profiled.folder / row["trace"]).read_bytes()
    to.parent.mkdir(parents=True, exist_ok=True)
    with drafts.delivering(to) as file:
        file.write(content if to.suffix == ".gz" else gzip.decompress(content))
    typer.echo(to)
