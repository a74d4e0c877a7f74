"""Suite -> sealed run: plan it, measure it on this host, keep every record as it comes. What a run means is `review`'s."""

import contextlib
import importlib.metadata
import os
import secrets
import shlex
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from harness import drafts, units
from harness.ask import axes, interpreters, planning
from harness.ask import suite as suites
from harness.ask.selection import Selection, narrow
from harness.ask.suite import Suite
from harness.ask.wording import hint, show
from harness.errors import MachineError, SelectionError, StoreError, UserError
from harness.execution import discovery, growth, host, profiles
from harness.execution.interrupts import Interrupts
from harness.execution.watcher import Watcher, tolerant
from harness.isolate import launcher
from harness.measure import environment
from harness.plan import Budget, Plan
from harness.record import AA, METHOD_VERSION, NIGHTLY, Environment, Record, Run, Status, Visit
from harness.store import journal, table

PLAN = journal.PLAN
CEILINGS = "ceilings"  # the suite that joins every run; one of this name in the working directory's suites/ comes first
LOGS = "logs"
PROGRAMS = "programs"  # what compilers keep for the trials after the first; gone when the run has ended


class Interrupted(KeyboardInterrupt):
    """A run was interrupted; what was measured is kept. Says how to resume it."""


def run(
    suite: str | Path, *, out: str | Path = "results", tags: Iterable[str] = (), seed: int = 0, aa: bool = False,
    ceilings: bool = True, machine: str | None = None, profile: bool | str = False,
    **overrides: Any,
) -> Run:  # fmt: skip
    """Measure a suite and return the sealed Run; its rows are `harness.load(out)`'s.

    With `aa` every cell is measured twice, the second time by `<backend>@aa`, and the run is tagged so: `harness.compare`
    takes the noise of the machine from it.

    `overrides` are axes (`backend=["torch"]`, `direction="wgrad"`), `keyword` (pytest's -k over cell ids), `threads`,
    `set` (`{"n": 1}`: keys replaced in every convolution), and fields of the budget (`trials=1`). `ceilings` says whether
    what the machine can do at best is measured beside. `machine` is a name for this one, by default that of the environment
    variable CONVBENCH_MACHINE, if any: it becomes part of what tells machines apart. `python` maps backends to the paths of
    Python interpreters of their own, `{"torch@old": "old/bin/python"}`.
    With `profile` every convolution is profiled after the last trial, or those whose id fits it, as an expression of -k.
    Raises UserError, SuiteError above all, before anything is measured.
    """
    loaded, chosen = suites.load(suite), select(overrides)
    check(loaded, chosen, aa=aa, ceilings=ceilings, machine=machine)
    expression = "" if profile is True else profile or None
    return execute(
        loaded, chosen, out=out, tags=tags, seed=seed, aa=aa, ceilings=ceilings, machine=machine, profile=expression
    )  # fmt: skip


def select(overrides: Mapping[str, Any]) -> Selection:
    """Overrides by name, sorted into axes, keyword, threads and budget; None stands for not given."""
    given = {name: value for name, value in overrides.items() if value is not None}
    keyword, threads, changes = given.pop("keyword", None), given.pop("threads", None), given.pop("set", {})
    pythons = interpreters.parse(f"{name}={path}" for name, path in given.pop("python", {}).items())
    chosen = {name: given.pop(name) for name in list(given) if name in (*axes.NAMES, "workload")}
    known = [*axes.NAMES, "workload", "keyword", "set", "python", *(field.name for field in fields(Budget))]
    for name in given:
        if name not in known:
            near = hint(name, known)
            raise SelectionError(f"run: unknown argument {show(name)}{near}{'' if near else ';'} allowed: {', '.join(known)}")
    texts = {name: [values] if isinstance(values, str) else [str(value) for value in values] for name, values in chosen.items()}
    scaled = {key: str(value) for key, value in changes.items()}
    return Selection(axes=texts, keyword=keyword, threads=threads, budget=given, set=scaled, interpreters=pythons)


def prepare(
    suite: Suite, selection: Selection, seed: int, *, aa: bool = False, ceilings: bool = True, watcher: Watcher | None = None,
    profile: str | None = None, listing: bool = False,
) -> tuple[Plan, float]:  # fmt: skip
    """The plan on this machine and the estimate of its seconds. Raises UserError for what cannot be asked for.

    The selection concerns the suite alone: ceilings join for whatever cells it leaves. A suite without a convolution has
    nothing to be held against them, and is not joined; nor is an A/A run, which asks for noise alone. Only for a `listing` is
    there a plan where none of its backends is installed.
    """
    narrowed, beside, backends = _asked(suite, selection, aa, ceilings)
    planning.refuse_too_many(narrowed, {})  # before anything is looked for
    pythons = discovery.interpreters(backends, narrowed.interpreters)
    devices = discovery.discover(backends, pythons)
    if watcher:
        watcher.discovered(devices)
    absent = discovery.absent(backends, devices, pythons)
    planned = planning.plan(narrowed, devices, seed, beside, AA if aa else "", absent)
    plan = replace(planned, interpreters=pythons, profile=profile)
    if not listing:
        planning.refuse_unmeasurable(plan)
    return plan, planning.estimate(plan, len(os.sched_getaffinity(0)))


def check(suite: Suite, selection: Selection, *, aa: bool = False, ceilings: bool = True, machine: str | None = None) -> None:
    """Raises UserError for what cannot be asked for, as `prepare` does, and starts no process: another run may be measuring.

    Which cells there are is known only where neither a framework nor another package's adapter has to be asked for its devices.
    """
    environment.machine_name(machine)
    narrowed, _, backends = _asked(suite, selection, aa, ceilings)
    planning.refuse_too_many(narrowed, {})
    if discovery.needs_no_process(backends, narrowed.interpreters):
        prepare(suite, selection, 0, aa=aa, ceilings=ceilings)


def _asked(suite: Suite, selection: Selection, aa: bool, ceilings: bool) -> tuple[Suite, Suite | None, tuple[str, ...]]:
    """What is left of the suite, the ceilings that join it, and the backends that are concerned."""
    narrowed = narrow(suite, selection)
    discovery.refuse_interpreters(narrowed, selection.interpreters)
    joined = ceilings and not aa and any(workload.spec.is_convolution for workload in narrowed.workloads)
    return narrowed, suites.load(CEILINGS) if joined else None, discovery.concerned(narrowed)


def execute(
    suite: Suite, selection: Selection, *, out: str | Path = "results", tags: Iterable[str] = (), seed: int = 0,
    watcher: Watcher | None = None, command: str = "", aa: bool = False, ceilings: bool = True, refusal: str = "",
    machine: str | None = None, lock: host.Lock | None = None, profile: str | None = None,
) -> Run:  # fmt: skip
    """`run`, for those who have the suite in hand and want to watch.

    `lock` is the host's where the caller holds it, for longer than this run; else it is taken here. With a `refusal` nothing is
    measured: every cell gets a row with status not_run that gives it as its reason. With `profile`, an expression of -k or an
    empty text for all, convolutions are profiled after the last trial. What was measured is kept where this raises
    Interrupted, or StoreError because the run's folder is gone or full.
    """
    if profile is not None:
        profiles.fitting(profile)  # a mistake is told before anything is measured
    here = environment.describe("", (), environment.machine_name(machine))
    watcher = tolerant(watcher)
    with contextlib.nullcontext(lock) if lock or refusal else host.alone() as held:
        plan, _ = prepare(suite, selection, seed, aa=aa, ceilings=ceilings, watcher=watcher, profile=profile)
        run = begun(suite, plan, out, here, [*tags, AA] if aa else tags, seed, command, "" if aa else suite.standard)
        if held:
            held.tell(run.id)
        folder = journal.create(out, run, plan)
        return _Measurement(folder, run, plan, watcher).run(refusal)


def begun(
    suite: Suite, plan: Plan, out: str | Path, here: Environment, tags: Iterable[str], seed: int, command: str,
    standard: str = "",
) -> Run:  # fmt: skip
    """A run of a suite that begins now on the machine `here`, with its place behind all that the store holds."""
    started = datetime.now(UTC)
    run = Run(
        id=f"{started:%Y%m%dT%H%M%S}-{suite.name}-{secrets.token_hex(2)}", suite=suite.name, suite_sha256=suite.sha256,
        description=suite.description, commit=_commit(suite.path.parent), harness_version=version(),
        method_version=METHOD_VERSION, seed=seed, command=command, started_at=started, tags=tuple(dict.fromkeys(tags)),
        planned_on=here, most_trials=plan.budget.most_trials if plan.budget.races else 0, standard=standard, tuned=plan.tuned,
    )  # fmt: skip
    return table.placed(out, run)


def resume(folder: Path, watcher: Watcher | None = None, *, lock: host.Lock | None = None) -> Run:
    """Resume a run that was cut off: what it has is kept, what is missing is measured, and it is sealed.

    So is one that lacks nothing but that. Where it cannot be resumed (its plan is gone, it was measured by another method)
    it is sealed with what it has, and UserError says why. All else as `execute` does.
    """
    with contextlib.nullcontext(lock) if lock else host.alone() as held:
        run = journal.read_run(folder)
        if held:
            held.tell(run.id)
        drafts.sweep(folder)
        if run.finished_at and not (folder / journal.JOURNAL).exists():
            return run  # trimmed to its tables: there is nothing to seal them from
        try:
            plan = journal.read_plan(folder)
        except (OSError, ValueError) as error:
            told = f"{PLAN} is damaged: {error}" if (folder / PLAN).exists() else f"it holds no {PLAN}"
            return _sealed_as_it_is(folder, run, UserError(told))
        found = journal.scan(folder)
        before = [record for record in found.records if record.status is not Status.NOT_RUN]
        if run.took_s is None and not run.finished_at:  # it was killed: what was kept says of its time is what is known
            run = replace(run, took_s=_known_s(found))
        other = _other(run)
        if other and {step.order for step in plan} - {record.order for record in before}:
            return _sealed_as_it_is(folder, run, other)
        return _Measurement(folder, run, plan, tolerant(watcher), before, found.visits).run(str(other or ""))


def more(
    folder: Path, watcher: Watcher | None = None, *, until: float | None = None, time_s: float | None = None,
    lock: host.Lock | None = None,
) -> Run:  # fmt: skip
    """Measure further what a finished run has not decided, for `time_s` seconds or `until` its comparisons are known so well.

    Raises UserError where the run has not ended, has no journal any more, or was measured by another method or elsewhere; all
    else as `execute` does.
    """
    with contextlib.nullcontext(lock) if lock else host.alone() as held:
        run = journal.read_run(folder)
        if held:
            held.tell(run.id)
        if not run.finished_at:
            raise UserError(
                f"{folder} has not ended: {shlex.join(['convbench', 'run', '--resume', str(folder)])} goes on with it"
            )
        if not (folder / journal.JOURNAL).exists():
            raise UserError(f"{folder} was trimmed to its tables: nothing can be added to it")
        if other := _other(run):
            raise type(other)(f"{folder}: cannot be measured further: {other}")
        plan = journal.read_plan(folder)
        budget = replace(plan.budget, until=until or 0.0, time_s=time_s + (run.took_s or 0.0) if time_s else 0.0)
        run = replace(run, finished_at=None, most_trials=budget.most_trials)  # so that one that is killed can be resumed
        journal.write_plan(folder, replace(plan, budget=budget))
        journal.finish(folder, run)
        found = journal.scan(folder)
        return _Measurement(folder, run, replace(plan, budget=budget), tolerant(watcher), found.records, found.visits).run("")


def _known_s(found: journal.Content) -> float:
    """The seconds that records, and visits to steps without one, say that they took."""
    there = {record.order for record in found.records if record.status is not Status.NOT_RUN}
    told = [record.spent_ns for record in found.records]
    told += [visit.spent_ns for order, visits in found.visits.items() if order not in there for visit in visits]
    profiled_ns = sum(profile.spent_ns for profile in found.profiles)
    return (sum(sum((spent or {}).values()) for spent in told) + profiled_ns) / 1e9


def _other(run: Run) -> UserError | None:
    """Why nothing may be measured here for a run: its figures would be those of two methods, or of two machines."""
    if run.method_version != METHOD_VERSION:
        return UserError(f"measured by method version {run.method_version}, and this is {METHOD_VERSION}")
    begun = run.planned_on
    if begun is None:  # by a version that did not note it
        return None
    here = environment.describe("", (), environment.machine_name() or begun.machine)
    if here.machine_id == begun.machine_id:
        return None
    told = f"begun on {begun.hardware} ({begun.machine_id}), and this is {here.hardware} ({here.machine_id})"
    return MachineError(told)


def _sealed_as_it_is(folder: Path, run: Run, why: UserError) -> Run:
    """The run, where it had ended, sealed. Raises that error where it had not: the run is sealed then with what it has."""
    with journal.Journal(folder):
        pass  # which makes it end at the end of a line
    table.seal(folder)
    if run.finished_at:
        return run
    count, anew = len(journal.read(folder)[0]), f": {run.command}" if run.command else ""
    told = f"it is sealed with the {count} records that it has; measure the rest by a run of its own{anew}"
    raise type(why)(f"{folder}: cannot be resumed: {why}; {told}")


class _Measurement:
    """A run between its first record and its seal. `before` are the records, and `visits` the visits, that it has already."""

    def __init__(
        self, folder: Path, run: Run, plan: Plan, watcher: Watcher, before: Sequence[Record] = (),
        visits: Mapping[int, Sequence[Visit]] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        self.folder, self.started, self.plan, self.watcher = folder, run, plan, watcher
        self.before, self.visits = before, visits
        self.visited = Counter({order: len(made) for order, made in visits.items()})  # by the order of the step
        name = run.planned_on.machine if run.planned_on else ""
        cache = folder / PROGRAMS
        self.executor = launcher.Launcher(run.id, folder / LOGS, watcher.progress, machine=name, cache=cache)
        done = {record.order for record in before}
        self.missing = {step.order: step for step in plan if step.order not in done}
        self.began_s: float | None = None  # none while nothing had to be measured

    def run(self, refusal: str) -> Run:
        """Measure, journal and seal. Whatever ends it early leaves rows that say so, and a run that can be resumed."""
        cause: BaseException | None = None
        with Interrupts() as interrupts, journal.Journal(self.folder) as book:
            try:
                if not refusal:
                    self._measure(book, interrupts)
                    self._profile(book, interrupts)
            except BaseException as error:  # Ctrl-C above all: what was measured must be sealed whatever ended it
                cause = error
            interrupts.shut()
            try:
                if isinstance(cause, StoreError):
                    raise cause
                finished = self._seal(book, refusal)
            except (OSError, StoreError) as error:
                raise self._kept(book, error) from error
            cause = cause or interrupts.waiting
        if isinstance(cause, KeyboardInterrupt):
            told = f"{str(cause) or 'interrupted'}; what was measured is kept"
            raise Interrupted(f"{told}: {self._resume()} resumes it") from cause
        if cause:
            raise cause
        return finished

    def _measure(self, book: journal.Journal, interrupts: Interrupts) -> None:
        """Trial after trial of the plan, and more of what is not decided yet where the budget asks for that."""
        left = replace(self.plan, steps=tuple(self.missing.values()))
        if left.steps:
            self.began_s = time.monotonic()
            self.watcher.planned(left, planning.estimate(left, len(os.sched_getaffinity(0))))
        found = self._so_far()
        while True:
            for trial in sorted({step.trial for step in self.missing.values()}):
                steps = tuple(step for step in self.missing.values() if step.trial == trial)
                budget = replace(self.plan.budget, visits=growth.visits_of_next(self.plan, found))
                self._measure_steps(replace(self.plan, steps=steps, budget=budget), book, interrupts)
                found = self._so_far()
                self.watcher.sure(found.trials, growth.sure(self.plan, found))
            more = growth.grown(self.plan, found, self._took_s or 0.0)
            if more is None:
                return
            new = more.steps[len(self.plan.steps) :]
            journal.write_plan(self.folder, more)
            self.plan, self.missing = more, {step.order: step for step in new}
            self.watcher.grown(replace(more, steps=new))

    def _measure_steps(self, plan: Plan, book: journal.Journal, interrupts: Interrupts) -> None:
        for answer in self.executor.execute(plan, self.visits):
            self.began_s = self.began_s or time.monotonic()
            with interrupts.put_off():  # a record that is kept must not be called missing
                book.append(answer)
                if isinstance(answer, Record):
                    del self.missing[answer.order]
                elif isinstance(answer, Visit):
                    self.visited[answer.order] += 1
            match answer:
                case Record():
                    self.watcher.recorded(answer)
                case Visit():
                    self.watcher.visited(answer)
                case _:
                    self.watcher.environment(answer)

    def _profile(self, book: journal.Journal, interrupts: Interrupts) -> None:
        """Look into the calls of the cells that the plan wants profiled, now that nothing is timed any more."""
        if cells := profiles.missing(self.folder, self.plan):
            self.began_s = self.began_s or time.monotonic()
            for _ in profiles.keep(book, self.folder, self.executor, self.plan, cells, interrupts, self.watcher):
                pass

    def _so_far(self) -> growth.SoFar:
        """What the journal holds of it, of whatever was measured."""
        found = journal.scan(self.folder)
        told = [record for record in found.records if record.status is not Status.NOT_RUN]
        return growth.SoFar.of(told, found.environments, self.started.suite)

    @property
    def _took_s(self) -> float | None:
        """How long it was measured in all."""
        return self.started.took_s if self.began_s is None else (self.started.took_s or 0.0) + time.monotonic() - self.began_s

    def _seal(self, book: journal.Journal, refusal: str) -> Run:
        for step in self.missing.values():
            visits = self.visited[step.order]
            when = f"after {units.many(visits, 'visit')} to" if visits else "before"
            book.append(self.executor.row(step, Status.NOT_RUN, refusal or f"the run ended {when} this cell"))
        book.sync()
        ended = (self.started.finished_at or datetime.now(UTC)) if refusal or not self.missing else None
        environments = tuple(journal.read(self.folder)[1])
        finished = replace(self.started, finished_at=ended, environments=environments, took_s=self._took_s)
        journal.finish(self.folder, finished)
        table.seal(self.folder)
        shutil.rmtree(self.folder / PROGRAMS, ignore_errors=True)
        return finished

    def _resume(self, folder: Path | None = None) -> str:
        command = "nightly" if NIGHTLY in self.started.tags else "run"
        return shlex.join(["convbench", command, "--resume", str(folder or self.folder)])

    def _kept(self, book: journal.Journal, error: Exception) -> StoreError:
        """What there is to say where the folder of the run is gone or full, once its records are as safe as they can be."""
        if (there := book.stands_at()) == self.folder.absolute():
            return StoreError(f"{error}; the records that stand in {self.folder} are kept: mend that (is there room?), then "
                              f"{self._resume()}")  # fmt: skip
        if there:
            return StoreError(f"{self.folder} was moved to {there} while the run went on: {self._resume(there)}")
        told = f"{self.folder} was removed while the run went on"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            journal.write_plan(self.folder, self.plan)
            with drafts.replacing(self.folder / journal.JOURNAL) as file:
                file.write(book.content())
            journal.finish(self.folder, self.started)
        except OSError as again:
            return StoreError(f"{told}, and cannot be written again: {again}; its records are lost")
        return StoreError(f"{told}; what was measured is written there again: {self._resume()} resumes it")


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
