"""What came back: Record and its parts, Environment and Run.

Facts only: `analysis` derives means, rates and ratios on reading, so that a repaired formula repairs the history too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from harness.flags import Flag
from harness.spec import Cell

# Raised by one whenever the way a number is made changes so that old and new figures must not be compared.
METHOD_VERSION = 12
# The first versions that time the yardstick as it is timed now (by older ones it is another series), and that make visits. The
# one before those is what a long stay (SeriesKind.STAY) samples like: only its figures can be carried over to later versions.
YARDSTICK_SINCE, VISITS_SINCE = 7, 12

# The method version of a run that another program measured, by rules of its own: such figures are there to be read beside ours.
OTHERS_METHOD = 0

# The tag of a run that measures every cell twice, as torch and as torch@aa: what differs between equals is the machine's noise.
AA = "aa"

# The tag of a run that counts as a night: what is run by hand in between is no evidence of its own.
NIGHTLY = "nightly"

# A block is contended where its threads stood runnable but not running for more than a share of its wall time, while threads
# of other processes ran for more than it: frameworks wait for themselves. That of a visit: docs/method.md says why.
CONTENDED_SHARE, CONTENDED_VISIT = 0.01, 0.2


class Status(StrEnum):
    """Whether a cell ran and was right. Every status but OK comes with a reason."""

    OK = "ok"
    UNSUPPORTED = "unsupported"
    INCORRECT = "incorrect"
    OOM = "oom"
    TIMEOUT = "timeout"
    CRASHED = "crashed"
    ERROR = "error"
    SKIPPED = "skipped"
    NOT_RUN = "not_run"

    @property
    def failed(self) -> bool:
        """Whether it ran, or tried to, and came to nothing; what was not run, is unsupported or was skipped did not fail."""
        return self not in (Status.OK, Status.UNSUPPORTED, Status.SKIPPED, Status.NOT_RUN)


@dataclass(frozen=True)
class Stretch:
    """Where a visit stands: the next `blocks` samples of a series are its.

    `process` is the number of the worker process in the run, `turn` that of the turn: both are counted through the whole run.
    `place` is the place of the visit in its turn, from 0.
    """

    process: int
    turn: int
    place: int
    blocks: int


class SeriesKind(StrEnum):
    """What a block is: calls waited for one by one, calls queued and waited for together, or time on the device's clock."""

    LATENCY = "latency"
    THROUGHPUT = "throughput"
    DEVICE = "device"
    STAY = "stay"  # calls waited for one by one in one stretch, before the visits: no figure of the run is made of them


@dataclass(frozen=True)
class Series:
    """The samples of one kind. A sample is a block of `iterations` calls; tuples are in the order of measuring.

    `run_delay_ns` is the time the process's threads stood runnable but not running, `others_ns` the time that threads of
    other processes ran, at most what this process left of its own cores; per block, shared out by wall time where a group of
    short blocks was read together; empty where the kernel does not tell. `yardstick_ns` is the time of a fixed piece of work,
    the last one before each block; empty where none was timed. `method` says what clock a device series was read from.
    `visits` say which visit each block is of, in the order of the blocks; empty: all of them are of one, as in older runs.
    """

    kind: SeriesKind
    iterations: int
    block_ns: tuple[int, ...]
    run_delay_ns: tuple[int, ...]
    others_ns: tuple[int, ...]
    stopped_by: str
    yardstick_ns: tuple[int, ...] = ()
    method: str = ""
    visits: tuple[Stretch, ...] = ()


def contended(block_ns: Any, run_delay_ns: Any, others_ns: Any, share: Any) -> Any:
    """Whether a block was disturbed: numbers give a bool, arrays an array of them; NaN stands for not measured.

    `share` is CONTENDED_VISIT for a block of a visit, else CONTENDED_SHARE. Without either of the times nothing can be said.
    """
    limit = share * block_ns
    return (run_delay_ns > limit) & (others_ns > limit)


@dataclass(frozen=True)
class Samples:
    """What the clock said. `cpu_ns` and `wall_ns` cover the sampling as a whole; `steal_ns` the host's share of it.

    None: not measured; another program tells no `warmup_ns`, and there is no `first_call_ns` where programs were found.
    """

    series: tuple[Series, ...]
    first_call_ns: int | None
    warmup_ns: int | None
    wall_ns: int
    cpu_ns: int
    steal_ns: int | None

    @property
    def iterations(self) -> int | None:
        """Calls in a block of the first series; None: there is no series."""
        return self.series[0].iterations if self.series else None

    @property
    def stopped_by(self) -> str:
        """Why the first series ended."""
        return self.series[0].stopped_by if self.series else ""

    @property
    def device_method(self) -> str:
        """What clock the first series of the device was read from; empty: there is none."""
        return next((series.method for series in self.series if series.kind is SeriesKind.DEVICE), "")


@dataclass(frozen=True)
class Visit:
    """One visit to a prepared cell: the samples of a stretch of time, made by one process without anything in between.

    `order` is that of the step. Of `process`, `turn` and `place` see `Stretch`. A visit with a `reason` is void: it has no
    samples. `wall_ns`, `cpu_ns` and `steal_ns` are as in `Samples`, `spent_ns` is as in `Record`.
    """

    order: int
    process: int
    turn: int
    place: int
    series: tuple[Series, ...]
    wall_ns: int
    cpu_ns: int
    steal_ns: int | None
    reason: str = ""
    spent_ns: dict[str, int] | None = None


def joined(samples: Samples, visits: Sequence[Visit]) -> Samples:
    """The samples of a record with all that its visits hold, in the order in which they were made, and its long stay."""
    series: dict[tuple[SeriesKind, int], Series] = {}  # another process may take another number of calls into a block
    for visit in visits:
        for part in visit.series:
            where, key = Stretch(visit.process, visit.turn, visit.place, len(part.block_ns)), (part.kind, part.iterations)
            series[key] = _longer(series[key], part, where) if key in series else replace(part, visits=(where,))
    steals = [visit.steal_ns for visit in visits if visit.steal_ns is not None]
    every = [*series.values(), *(beside for beside in samples.series if beside.kind is SeriesKind.STAY)]
    return replace(
        samples, series=tuple(sorted(every, key=lambda each: list(SeriesKind).index(each.kind))),
        wall_ns=sum(visit.wall_ns for visit in visits), cpu_ns=sum(visit.cpu_ns for visit in visits),
        steal_ns=sum(steals) if steals else None,
    )  # fmt: skip


def summed(*spent_ns: Mapping[str, int] | None) -> dict[str, int]:
    """Where the time of several parts went together, by name."""
    names = dict.fromkeys(name for part in spent_ns for name in part or {})
    return {name: sum((part or {}).get(name, 0) for part in spent_ns) for name in names}


def _longer(known: Series, part: Series, where: Stretch) -> Series:
    """A series with the blocks of one more visit. What was not measured in each of its visits is measured in none of them."""

    def both(name: str) -> tuple[int, ...]:
        before, after = getattr(known, name), getattr(part, name)
        return (*before, *after) if before and after else ()

    return replace(
        known, block_ns=(*known.block_ns, *part.block_ns), visits=(*known.visits, where), run_delay_ns=both("run_delay_ns"),
        others_ns=both("others_ns"), yardstick_ns=both("yardstick_ns"),
    )  # fmt: skip


@dataclass(frozen=True)
class Memory:
    """Bytes before and at the peak of one call, and how they were read. None: not measured, the method says why."""

    host_base_bytes: int | None
    host_peak_bytes: int | None
    device_base_bytes: int | None
    device_peak_bytes: int | None
    method: str


@dataclass(frozen=True)
class Power:
    """Energy of `calls` back-to-back calls that took `window_ns`, read from a counter; never an estimate.

    None: not measured, and `source` says why. The clock, the temperature and the throttle reasons (NVML's names) are those
    of the GPU right after the window.
    """

    energy_j: float | None
    window_ns: int | None
    calls: int | None
    source: str
    clock_mhz: int | None = None
    temperature_c: int | None = None
    throttle_reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Check:
    """Whether the result was right. `max_rel_err` is the largest error over the tolerance's own scale (see measure.oracle).

    `compared_calls` are the numbers of the later calls whose results were held against the first one's, `results_vary` the
    largest difference to it on the same scale; None: none was.
    """

    ok: bool
    method: str
    max_rel_err: float
    tolerance: float
    results_vary: float | None = None
    compared_calls: tuple[int, ...] = ()


@dataclass(frozen=True)
class Record:
    """One cell in one trial. What a step that did not happen would have filled is None."""

    run_id: str
    trial: int
    order: int
    cell: Cell
    status: Status
    started_at: datetime
    reason: str = ""
    flags: tuple[Flag, ...] = ()
    op: str = ""
    op_reason: str = ""
    settings: dict[str, str] | None = None
    flop_framework: float | None = None
    threads_used: int | None = None
    check: Check | None = None
    samples: Samples | None = None
    memory: Memory | None = None
    power: Power | None = None
    environment_id: str = ""
    spent_ns: dict[str, int] | None = None  # wall time of each step of the engine, by name
    repeated_for: tuple[Flag, ...] = ()  # for which an earlier record of the same cell and trial was set aside for this one


@dataclass(frozen=True)
class Progress:
    """How far a run is, after a turn: `turn` of the `turns` of a window, one of the `windows` of a trial, each from 1 on."""

    trial: int
    window: int
    windows: int
    turn: int
    turns: int


@dataclass(frozen=True)
class Environment:
    """The machine, the interpreter and the versions that a worker measured with. `id` is a hash of all the rest.

    `machine_id` is a hash of what stays when software is upgraded: CPU model, cores, memory class, GPUs, system; `machine`, the
    name that the machine was given, is part of it. `cpu_quota` is the CPUs' worth of time that the control group allows; None:
    no limit seen. `nodes` has the CPUs of each memory node, by number. `unseen` says what of others' work was not seen, and
    why; empty: nothing, or not asked. `board` is the GPU that was measured on, as NVML and the framework tell; empty: none.
    """

    id: str
    machine_id: str
    backend: str
    host: str
    os: str
    cpu: str
    cores: int
    affinity: tuple[int, ...]
    memory_bytes: int
    gpu: str
    driver: str
    python: str
    packages: dict[str, str]
    environ: dict[str, str]
    cpu_quota: float | None = None
    machine: str = ""
    nodes: dict[str, str] = field(default_factory=dict)
    unseen: str = ""
    board: dict[str, str] = field(default_factory=dict)

    @property
    def hardware(self) -> str:
        """The machine in a few words: its name if it has one, CPU, cores, and the GPU where there is one."""
        words = ", ".join(filter(None, (self.cpu, f"{self.cores} cores", self.gpu)))
        return f"{self.machine}: {words}" if self.machine else words


@dataclass(frozen=True)
class Run:
    """One run of one suite. `finished_at` is None while it runs, or when it was cut off.

    `took_s` is how long it was measured, by a clock that nobody sets; None: an older run, which only has its dates.
    `placed_at` is where it stands among the runs of its store, where its own date would put it before one that was there
    already: the clock was set back. None: where its date puts it. `planned_on` is the machine as the parent found it before the
    first cell, without a framework, so also where no worker came up. None: an older run, or another program's. `most_trials` is
    how many trials it may have had, where it was looked at after each; 0: it was not. `standard` is the label of the twin that
    each cell was visited beside, which nights are held against; empty: there was none. `tuned` is as in `plan.Plan`.
    """

    id: str
    suite: str
    suite_sha256: str
    description: str
    commit: str
    harness_version: str
    method_version: int
    seed: int
    command: str
    started_at: datetime
    finished_at: datetime | None = None
    tags: tuple[str, ...] = ()
    environments: tuple[Environment, ...] = ()
    took_s: float | None = None
    placed_at: datetime | None = None
    planned_on: Environment | None = None
    most_trials: int = 0
    standard: str = ""
    tuned: dict[str, str] = field(default_factory=dict)

    @property
    def place(self) -> tuple[datetime, str]:
        """What the runs of a store are ordered by, oldest first."""
        return self.placed_at or self.started_at, self.id

    @property
    def machines(self) -> dict[str, str]:
        """The machines that it was measured on, or was to be: by `machine_id`, each in words."""
        told = self.environments or ((self.planned_on,) if self.planned_on else ())
        return {each.machine_id: each.hardware for each in told}

    @property
    def visited(self) -> bool:
        """Whether its trials were cut into visits."""
        return self.method_version >= VISITS_SINCE

    @property
    def ended(self) -> bool:
        """Whether it was measured to its end. Before that nothing of it is decided: what is missing might change it."""
        return self.finished_at is not None

    @property
    def ours(self) -> bool:
        """Whether convbench measured it; a run that another program measured bars every verdict beside ours."""
        return self.method_version != OTHERS_METHOD

    @property
    def wall_s(self) -> float | None:
        """How long it took, in seconds; None while it runs, when it was cut off, or where its dates contradict each other."""
        if self.finished_at is None or self.took_s is not None:
            return self.took_s if self.finished_at else None
        by_dates_s = (self.finished_at - self.started_at).total_seconds()
        return by_dates_s if by_dates_s >= 0 else None


@dataclass(frozen=True)
class Acknowledgement:
    """What a person says of a case that the gate holds: known, and from this run on the new level.

    `case` is the id of a cell, or EVERY_CASE: the machine itself has changed. `machine_id` None stands for every machine,
    `from_run` is the id of the first run of the new baseline, the start of one, or any text that sorts like one.
    """

    case: str
    machine_id: str | None
    from_run: str
    reason: str
    by: str
    at: datetime

    def first(self, ids: Sequence[str]) -> int:
        """The place of the first night of the new baseline among the ids of runs, oldest first; their number: none is.

        An id that is not among them stands between those that it sorts between.
        """
        named = (place for place, id in enumerate(ids) if self.from_run and id.startswith(self.from_run))
        later = (place for place, id in enumerate(ids) if id >= self.from_run)
        return next(named, next(later, len(ids)))


EVERY_CASE = "*"
