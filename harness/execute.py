"""Suite -> sealed run: plan it, measure it on this host, keep every record as it comes. What a run means is `review`'s."""

import contextlib
import importlib.metadata
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

from harness.analysis.trials import trials
from harness.ask import axes, planning
from harness.ask import suite as suites
from harness.ask.selection import Selection, narrow
from harness.ask.suite import Suite
from harness.ask.wording import hint, show
from harness.discovery import concerned, discover
from harness.errors import BusyError, MachineError, SelectionError, UserError
from harness.isolate import launcher
from harness.measure import environment
from harness.record import AA, METHOD_VERSION, Environment, Flag, Progress, Record, Run, Status
from harness.spec import Budget, ConvSpec, Device, Plan, Step
from harness.store import frames, journal, table

PLAN = journal.PLAN
CEILINGS = "ceilings"  # the suite that joins every run; one of this name in the working directory's suites/ comes first
LOGS = "logs"
LOCK = "convbench.lock"  # in the folder for temporary files: one for all users of the host


class Watcher:
    """Told of a run as it goes on. This one says nothing; the command line's draws."""

    def planned(self, plan: Plan, seconds: float) -> None:
        """The plan, and the estimate of how long it takes."""

    def progress(self, step: Step, progress: Progress) -> None:
        """How far the step being measured is; its worker waits for this to return."""

    def recorded(self, record: Record) -> None:
        """One more record, already kept."""

    def environment(self, environment: Environment) -> None:
        """A worker of a new environment is ready."""

    def discovered(self, devices: Mapping[str, Sequence[Device]]) -> None:
        """The devices that each backend of the run sees, before it is planned."""


def run(
    suite: str | Path, *, out: str | Path = "results", tags: Iterable[str] = (), seed: int = 0, aa: bool = False,
    ceilings: bool = True, machine: str | None = None,
    **overrides: Any,
) -> Run:  # fmt: skip
    """Measure a suite and return the sealed Run; its rows are `harness.load(out)`'s.

    With `aa` every cell is measured twice, the second time by `<backend>@aa`, and the run is tagged so: `harness.compare`
    takes the noise of the machine from it.

    `overrides` are axes (`backend=["torch"]`, `direction="wgrad"`), `keyword` (pytest's -k over cell ids), `threads`,
    `set` (`{"n": 1}`: keys replaced in every convolution), and fields of the budget (`trials=1`). `ceilings` says whether
    what the machine can do at best is measured beside. `machine` is a name for this one, by default that of the environment
    variable CONVBENCH_MACHINE, if any: it becomes part of what tells machines apart.
    Raises UserError, SuiteError above all, before anything is measured.
    """
    chosen = select(overrides)
    return execute(suites.load(suite), chosen, out=out, tags=tags, seed=seed, aa=aa, ceilings=ceilings, machine=machine)


def select(overrides: Mapping[str, Any]) -> Selection:
    """Overrides by name, sorted into axes, keyword, threads and budget; None stands for not given."""
    given = {name: value for name, value in overrides.items() if value is not None}
    keyword, threads, changes = given.pop("keyword", None), given.pop("threads", None), given.pop("set", {})
    chosen = {name: given.pop(name) for name in list(given) if name in (*axes.NAMES, "workload")}
    known = [*axes.NAMES, "workload", "keyword", "set", *(field.name for field in fields(Budget))]
    for name in given:
        if name not in known:
            near = hint(name, known)
            raise SelectionError(f"run: unknown argument {show(name)}{near}{'' if near else ';'} allowed: {', '.join(known)}")
    texts = {name: [values] if isinstance(values, str) else [str(value) for value in values] for name, values in chosen.items()}
    scaled = {key: str(value) for key, value in changes.items()}
    return Selection(axes=texts, keyword=keyword, threads=threads, budget=given, set=scaled)


def prepare(
    suite: Suite, selection: Selection, seed: int, *, aa: bool = False, ceilings: bool = True, watcher: Watcher | None = None
) -> tuple[Plan, float]:
    """The plan on this machine and the estimate of its seconds. Raises UserError for what cannot be asked for.

    The selection concerns the suite alone: ceilings join for whatever cells it leaves. A suite without a convolution has
    nothing to be held against them, and is not joined; nor is an A/A run, which asks for noise alone.
    """
    narrowed = narrow(suite, selection)
    joined = ceilings and not aa and any(isinstance(workload.spec, ConvSpec) for workload in narrowed.workloads)
    beside = suites.load(CEILINGS) if joined else None
    planning.refuse_too_many(narrowed, {})  # before anything is looked for
    devices = discover(concerned(narrowed))
    if watcher:
        watcher.discovered(devices)
    plan = planning.plan(narrowed, devices, seed, beside, AA if aa else "")
    return plan, planning.estimate(plan, len(os.sched_getaffinity(0)))


def execute(
    suite: Suite, selection: Selection, *, out: str | Path = "results", tags: Iterable[str] = (), seed: int = 0,
    watcher: Watcher | None = None, command: str = "", aa: bool = False, ceilings: bool = True, refusal: str = "",
    machine: str | None = None,
) -> Run:  # fmt: skip
    """`run`, for those who have the suite in hand and want to watch.

    With a `refusal` nothing is measured: every cell gets a row with status not_run that gives it as its reason.
    """
    here = environment.describe("", (), environment.machine_name(machine))
    with contextlib.nullcontext() if refusal else _alone():
        watcher = watcher or Watcher()
        plan, seconds = prepare(suite, selection, seed, aa=aa, ceilings=ceilings, watcher=watcher)
        started = datetime.now(UTC)
        run = Run(
            id=f"{started:%Y%m%dT%H%M%S}-{suite.name}-{secrets.token_hex(2)}", suite=suite.name, suite_sha256=suite.sha256,
            description=suite.description, commit=_commit(suite.path.parent), harness_version=version(),
            method_version=METHOD_VERSION, seed=seed, command=command, started_at=started,
            tags=tuple(dict.fromkeys([*tags, AA] if aa else tags)), planned_on=here,
        )  # fmt: skip
        run = table.placed(out, run)
        folder = journal.create(out, run)
        journal.write_plan(folder, plan)
        return _measure(folder, run, plan, seconds, watcher, refusal)


def resume(folder: Path, watcher: Watcher | None = None) -> Run:
    """Go on with a run that was cut off: what it has is kept, what is missing is measured."""
    with _alone():
        run = journal.read_run(folder)
        try:
            plan = journal.read_plan(folder)
        except (OSError, ValueError) as error:
            raise UserError(f"{folder / PLAN}: cannot be gone on with: {error}") from None
        if run.method_version != METHOD_VERSION:
            told = f"measured by method version {run.method_version}, and this is {METHOD_VERSION}"
            raise UserError(f"{folder}: cannot be gone on with: {told}; run the suite anew")
        _stay(folder, run)
        records, _ = journal.read(folder)
        done = {record.order for record in records if record.status is not Status.NOT_RUN}
        if len(done) == len(plan):
            raise UserError(f"{folder} is complete: nothing is left to measure")
        if run.took_s is None:  # it was killed: what its records say of their time is what is known
            run = replace(run, took_s=sum(sum((record.spent_ns or {}).values()) for record in records) / 1e9)
        left = replace(plan, steps=tuple(step for step in plan.steps if step.order not in done))
        return _measure(folder, run, left, planning.estimate(left, len(os.sched_getaffinity(0))), watcher or Watcher())


def _stay(folder: Path, run: Run) -> None:
    """Raises MachineError where a run was begun on another machine: its figures would be those of two."""
    begun = run.planned_on
    if begun is None:  # by a version that did not note it
        return
    here = environment.describe("", (), environment.machine_name() or begun.machine)
    if here.machine_id != begun.machine_id:
        told = f"begun on {begun.hardware} ({begun.machine_id}), and this is {here.hardware} ({here.machine_id})"
        raise MachineError(f"{folder}: cannot be gone on with: {told}; run the suite anew")


def _measure(folder: Path, run: Run, plan: Plan, seconds: float, watcher: Watcher, refusal: str = "") -> Run:
    """Measure, journal and seal. An interruption leaves rows that say so, and a run that can be resumed."""
    began_s = time.monotonic()
    watcher.planned(plan, seconds)
    name = run.planned_on.machine if run.planned_on else ""
    executor = launcher.Launcher(run.id, folder / LOGS, watcher.progress, doubts=doubts, machine=name)
    missing = {step.order: step for step in plan.steps}
    interrupted: BaseException | None = None
    with journal.Journal(folder) as book:
        try:
            for answer in () if refusal else executor.execute(plan):
                book.append(answer)
                if isinstance(answer, Record):
                    missing.pop(answer.order, None)  # a cell that is measured once more has been there
                    watcher.recorded(answer)
                else:
                    watcher.environment(answer)
        except BaseException as error:  # Ctrl-C above all: what was measured must be sealed whatever ended it
            interrupted = error
        for step in missing.values():
            book.append(executor.row(step, Status.NOT_RUN, refusal or "the run ended before this cell"))
    ended = refusal or not missing
    took_s = (run.took_s or 0.0) + time.monotonic() - began_s
    environments = tuple(journal.read(folder)[1])
    finished = replace(run, finished_at=datetime.now(UTC) if ended else None, environments=environments, took_s=took_s)
    journal.finish(folder, finished)
    table.seal(folder)
    if interrupted is not None:
        raise interrupted
    return finished


def doubts(record: Record) -> tuple[Flag, ...]:
    """The flags that bar a verdict on an ok record, its samples' among them; none where measuring again would not help.

    Too few samples, or an interval that is too wide at a cap, say that the budget is too small: it would be spent once more.
    """
    if record.status is not Status.OK:
        return ()
    of_samples = trials(frames.samples_frame([record])).values()
    raised = {*record.flags, *chain.from_iterable(trial.flags for trial in of_samples)}
    barring = tuple(flag for flag in Flag if flag in raised and flag.bars_verdict)
    return barring if set(barring) - {Flag.FEW_SAMPLES, Flag.NOT_CONVERGED} else ()


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Hold the host's lock: two runs at once would measure each other. Raises BusyError where another holds it."""
    from filelock import FileLock, Timeout

    path = Path(tempfile.gettempdir()) / LOCK
    lock = FileLock(path, mode=0o666)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BusyError(f"another run is measuring on this host (it holds {path}); wait for it to end") from None
    try:
        yield
    finally:
        lock.release()


def measuring() -> bool:
    """Whether a run holds the host's lock right now."""
    try:
        with _alone():
            return False
    except BusyError:
        return True


def _commit(folder: Path) -> str:
    """The commit of the checkout that the suite stands in, `-dirty` where it was changed; empty outside of one."""
    if shutil.which("git") is None:
        return ""
    ask = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    answer = subprocess.run(ask, capture_output=True, text=True, check=False)
    return answer.stdout.strip() if answer.returncode == 0 else ""


def version() -> str:
    """The version of the installed package."""
    return importlib.metadata.version("convbench")
