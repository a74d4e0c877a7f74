"""The options that `run` and `nightly` share, and what is asked for by them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from harness.cli.options import TableFormat, folder_of, seconds, share
from harness.errors import SelectionError

if TYPE_CHECKING:
    from harness.ask.selection import Selection

Report = Annotated[bool, typer.Option("--report/--no-report", help="Write the HTML report at the end.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="A word stored with the run; may be repeated.")]
Backend = Annotated[str | None, typer.Option("--backend", help="Backends to measure: torch,jax.")]
Device = Annotated[str | None, typer.Option("--device", help="Devices to measure on: cpu,gpu:0.")]
Direction = Annotated[str | None, typer.Option("--direction", help="Directions: fprop, dgrad, wgrad, bprop, train.")]
Axes = Annotated[list[str] | None, typer.Option("-a", "--axis", help="Narrow any axis: mode=eager,compiled.")]
Keyword = Annotated[str | None, typer.Option("-k", help="Only cells whose id fits pytest's -k expression.")]
Changes = Annotated[
    list[str] | None, typer.Option("--set", help="Scale every convolution: n=1, spatial=28x28; said in the row.")
]
Quick = Annotated[bool, typer.Option("--quick", help="One trial: intervals then hold within one process only.")]
Trials = Annotated[int | None, typer.Option("--trials", help="Trials, each in fresh processes.")]
Until = Annotated[str | None, typer.Option("--until", help="Trials until every comparison is decided or known to this: 3%.")]
Time = Annotated[str | None, typer.Option("--time", help="Trials of what is not decided yet, for so long: 90s, 10m, 2h.")]
Convs = Annotated[
    list[str] | None,
    typer.Option("--conv", help="A convolution without a file, as in 'n32 c64 k64 56x56 f3x3 p1'; may be repeated."),
]
Seed = Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="Seed of the order and of the operands.")]
Threads = Annotated[int | None, typer.Option("--threads", help="Threads of every cell; 0 is all cores.")]
Timeout = Annotated[float | None, typer.Option("--timeout", help="Seconds that one cell may take in one trial.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="List the cells and the estimate, measure nothing.")]
AA = Annotated[bool, typer.Option("--aa", help="Every cell twice: what this machine's noise makes of equals.")]
Resume = Annotated[str | None, typer.Option("--resume", help="Go on with a run that was cut off.")]
Ceilings = Annotated[
    bool,
    typer.Option("--ceilings/--no-ceilings", help="Measure beside it what the machine can do at best: suites/ceilings.toml."),
]
Machine = Annotated[
    str | None,
    typer.Option("--machine", help="A name for this machine, to tell it from its equals; by default CONVBENCH_MACHINE's."),
]
Python = Annotated[
    list[str] | None,
    typer.Option("--python", help="A backend's own interpreter: NAME=PATH, or NAME@LABEL=PATH beside this one's; repeatable."),
]
Profile = Annotated[
    str | None,
    typer.Option(
        "--profile", metavar="[=TEXT]",
        help="After the last trial, say what runs inside the calls of every convolution, or of those that fit as in -k.",
    ),
]  # fmt: skip


class BareProfile(TyperCommand):
    """A command whose option --profile may stand without a value, which is an empty one then."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As of any command."""
        return super().parse_args(ctx, ["--profile=" if word == "--profile" else word for word in args])


@dataclass(frozen=True)
class RunOptions:
    """What was asked for, as it was typed. `axes` and `changes` are the texts of -a and --set, `wait` that of --wait.

    `profile` is an expression of -k for what is profiled after the last trial; empty: every convolution, None: none. With
    `profiles` a night profiles what is due.
    """

    suites: Sequence[str]
    out: Path
    reports: Path
    report: bool
    tags: Sequence[str]
    backend: str | None
    device: str | None
    direction: str | None
    axes: Sequence[str]
    keyword: str | None
    changes: Sequence[str]
    quick: bool
    trials: int | None
    seed: int
    threads: int | None
    timeout: float | None
    dry_run: bool
    aa: bool
    resume: str | None
    wait: str
    ceilings: bool
    machine: str | None
    until: str | None = None
    time: str | None = None
    pythons: Sequence[str] = ()
    convs: Sequence[str] = ()
    profile: str | None = None
    profiles: bool = False
    format: TableFormat = TableFormat.TABLE

    @property
    def wait_s(self) -> float:
        """How many seconds the machine is waited for. Raises SelectionError."""
        return seconds("--wait", self.wait)

    def aim(self) -> dict[str, float | None]:
        """What --until and --time say of the budget. Raises SelectionError."""
        return {
            "until": None if self.until is None else share("--until", self.until),
            "time_s": None if self.time is None else seconds("--time", self.time),
        }

    def to_measure_more(self, run: str) -> Path:
        """The folder of the run to measure further. Raises SelectionError where another option would change its plan."""
        if not (self.until or self.time):
            raise SelectionError("--more needs --time or --until: how long, or until how well the comparisons are known")
        self._refuse_changes("--more measures a run further as it was planned: only --time, --until")
        return folder_of(self.out, run)

    def to_resume(self, run: str) -> Path:
        """The folder of the run to resume. Raises SelectionError where another option would change its plan."""
        if self.until or self.time:
            raise SelectionError("--resume goes on with a run as it was planned; --more measures one that has ended further")
        self._refuse_changes("--resume goes on with a run as it was planned: only")
        return folder_of(self.out, run)

    def _refuse_changes(self, told: str) -> None:
        """Raises SelectionError, which begins so, for an option that would change a plan that is there."""
        changing = (
            self.suites, self.tags, self.seed, self.dry_run, self.aa, self.backend, self.device, self.direction, self.axes,
            self.keyword, self.changes, self.quick, self.trials, self.threads, self.timeout, self.machine, not self.ceilings,
            self.pythons, self.convs, self.profile is not None,
        )  # fmt: skip
        if any(changing):
            raise SelectionError(f"{told} --out, --reports, --report and --wait may stand beside it")

    def selection(self) -> "Selection":
        """What they leave of a suite. Raises SelectionError."""
        from harness.ask import interpreters
        from harness.ask.selection import Selection, parse_set

        self._check_threads()
        trials = 1 if self.quick and self.trials is None else self.trials
        budget = {"trials": trials, "timeout_s": self.timeout, **self.aim()}
        return Selection(
            axes=self._chosen_axes(), keyword=self.keyword, threads=self.threads, set=dict(map(parse_set, self.changes)),
            budget={name: value for name, value in budget.items() if value is not None},
            interpreters=interpreters.parse(self.pythons),
        )  # fmt: skip

    def _check_threads(self) -> None:
        """Raises SelectionError for more threads than this process may use cores: no cell could be measured so."""
        cores = len(os.sched_getaffinity(0))
        if self.threads is not None and self.threads > cores:
            allowed = f"0 (every core) to {cores}, the cores this process may use"
            raise SelectionError(f"--threads: found {self.threads}; allowed: {allowed}")

    def _chosen_axes(self) -> dict[str, tuple[str, ...]]:
        """What -a and the options of single axes ask for. Raises SelectionError where an axis is named twice."""
        from harness.ask.selection import parse_axis

        single = {"backend": self.backend, "device": self.device, "direction": self.direction}
        texts = [*self.axes, *(f"{axis}={values}" for axis, values in single.items() if values is not None)]
        chosen: dict[str, tuple[str, ...]] = {}
        for axis, values in map(parse_axis, texts):
            if axis in chosen:
                raise SelectionError(f"-a: axis {axis!r} is named twice; write {axis}=value,value")
            chosen[axis] = values
        return chosen

    def check_tags(self) -> None:
        """Raises SelectionError for a tag that could not be shown or asked for again as `tag:WORD`."""
        for tag in self.tags:
            if not tag.strip() or not tag.isprintable():
                raise SelectionError(f"--tag: found {tag!r}; allowed: a word of characters that can be printed")
