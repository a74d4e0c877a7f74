"""One Cell -> one Record: check the result, warm up, size the block, sample until the rule is content, then memory.

Between two clock reads stand launch and wait and nothing else. Every block of a CPU latency series waits for each of its
calls: launching several before one wait would let an asynchronous framework overlap them, which is throughput.
"""

import gc
import math
import os
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from harness.backends.base import Backend, Operands, Prepared
from harness.measure import clock as clocks
from harness.measure import memory, oracle, witness
from harness.measure.stopping import CHECK_EVERY, Stopping
from harness.record import Check, Flag, Memory, Progress, Record, Samples, Series, SeriesKind, Status, contended
from harness.spec import Budget, Cache, Cell, Direction, Step
from harness.stats import median_interval

# A block must dwarf the clock: 10^4 readings keep their cost under a hundredth of a percent.
_CLOCK_READS_PER_BLOCK = 10_000
# Run delay is read around a group of blocks, long enough that reading takes under a tenth of the time.
_GROUP_TO_READING = 12
_REFRESH_TO_COST = 50  # looking at all threads of the machine takes at most a fiftieth of the time
_CONTENDED_BLOCKS = 0.2  # over this share of contended blocks the row is flagged
_CACHE_FALLBACK_BYTES = 32 * 2**20
_PROGRESS_EVERY_NS = 1_000_000_000
# How frameworks say that memory ran out: torch on the GPU and on the CPU, XLA, TensorFlow, the C++ library.
_STARVED = ("OutOfMemory", "out of memory", "can't allocate memory", "RESOURCE_EXHAUSTED", "OOM when", "bad_alloc")


Observe = Callable[[Progress], None]


@dataclass
class _Facts:
    """What has been found out so far; it becomes the Record, whole or as far as a failure let it get."""

    status: Status = Status.OK
    reason: str = ""
    flags: list[Flag] = field(default_factory=list)
    op: str = ""
    settings: dict[str, str] | None = None
    flop_framework: float | None = None
    check: Check | None = None
    samples: Samples | None = None
    memory: Memory | None = None
    spent_ns: dict[str, int] = field(default_factory=dict)


class Engine:
    """Measures cells with one backend in this process. The clock comes in as an argument, so that tests can script it."""

    def __init__(
        self, backend: Backend, budget: Budget, seed: int, run_id: str, environment_id: str,
        clock: clocks.Clock = clocks.system,
    ) -> None:  # fmt: skip
        self.backend, self.budget, self.seed = backend, budget, seed
        self.run_id, self.environment_id, self.clock = run_id, environment_id, clock
        self.clock_cost_ns = clocks.cost_ns(clock)

    def measure(self, step: Step, observe: Observe = lambda progress: None) -> Record:
        """The record of one step; a failure of any kind is a record too. `observe` is called between blocks."""
        started, facts = datetime.now(UTC), _Facts()
        try:
            reason = self.backend.supports(step.cell) or _unsupported(step.cell)
            if reason:
                facts.status, facts.reason = Status.UNSUPPORTED, reason
            else:
                self._fill(facts, step.cell, observe)
        except Exception as error:  # a failed cell is data, whatever the framework threw
            facts.status, facts.reason = _failure(error)
        finally:
            gc.enable()
        return Record(
            run_id=self.run_id, trial=step.trial, order=step.order, cell=step.cell, status=facts.status, reason=facts.reason,
            flags=tuple(flag for flag in Flag if flag in facts.flags), op=facts.op, settings=facts.settings,
            flop_framework=facts.flop_framework, threads_used=self.backend.threads_used(), check=facts.check,
            samples=facts.samples if facts.status is Status.OK else None, memory=facts.memory,
            environment_id=self.environment_id, started_at=started, spent_ns=facts.spent_ns,
        )  # fmt: skip

    def _fill(self, facts: _Facts, cell: Cell, observe: Observe) -> None:
        rng = np.random.default_rng([self.seed, zlib.crc32(cell.workload.encode())])
        operands = oracle.normal_operands(cell, rng)
        begun = self.clock()
        prepared = self.backend.prepare(cell, operands)
        try:
            handle = prepared.launch()
            prepared.wait(handle)
            first_call_ns = facts.spent_ns["first_call"] = self.clock() - begun
            facts.op, facts.settings = prepared.op, dict(prepared.settings)
            with self._spending(facts, "check"):
                facts.check = _checked(cell, prepared, operands, handle, rng)
            del handle
            if not facts.check.ok:
                facts.status, facts.reason = Status.INCORRECT, _wrong(facts.check)
                return
            # The witness is called before the warm-up: who else is active shows between two looks.
            with _Witness(self.clock) as looking:
                sampler = _Sampler(self, cell, prepared, facts, observe)
                with self._spending(facts, "warmup"):
                    warmup_ns = sampler.warm_up()
                with self._spending(facts, "sampling"):
                    series, totals = sampler.sample(looking)
            facts.samples = Samples((series,), first_call_ns, warmup_ns, totals.wall_ns, totals.cpu_ns, totals.steal_ns)
            with self._spending(facts, "memory"):
                facts.memory, facts.flop_framework = _beside(sampler.call, prepared)
        finally:
            prepared.close()

    @contextmanager
    def _spending(self, facts: _Facts, name: str) -> Iterator[None]:
        begun = self.clock()
        yield
        facts.spent_ns[name] = self.clock() - begun


def _beside(call: Callable[[], None], prepared: Prepared) -> tuple[Memory, float | None]:
    """Memory of one call and the framework's FLOP count; what fails here must not cost the samples that are there."""
    try:
        found = memory.measure(call, getattr(prepared, "device_memory", lambda: None)())
    except Exception as error:
        found = Memory(None, None, None, None, f"not measured ({_failure(error)[1]})")
    try:
        return found, getattr(prepared, "flops", lambda: None)()
    except Exception:  # a count of its own is an extra; its column stays empty
        return found, None


def _unsupported(cell: Cell) -> str | None:
    if cell.cache is Cache.COLD and cell.device.kind != "cpu":
        return "cold caches are measured on the CPU only"
    return None


def _failure(error: Exception) -> tuple[Status, str]:
    first_line = next(iter(str(error).strip().splitlines()), "")
    text = f"{type(error).__name__}: {first_line}"[:500]
    starved = isinstance(error, MemoryError) or any(mark in f"{type(error).__name__} {error}" for mark in _STARVED)
    return (Status.OOM if starved else Status.ERROR), text


def _checked(cell: Cell, prepared: Prepared, operands: Operands, handle: Any, rng: np.random.Generator) -> Check:
    """The first call's result on the timed operands, then the exact check with the same call on integers."""
    check = oracle.spot(cell, operands, prepared.fetch(handle), rng)
    if check.ok and oracle.asks_exact(cell):
        integers = oracle.integer_operands(cell, rng)
        prepared.load(integers)
        handle = prepared.launch()
        prepared.wait(handle)
        right, method = oracle.exact(cell, integers, prepared.fetch(handle), rng)
        if right:
            check = replace(check, method=f"{method}+spot")
        prepared.load(operands)
    return check


def _wrong(check: Check) -> str:
    return f"largest relative error {check.max_rel_err:.3g}, allowed {check.tolerance:.3g}"


def _timed(launch: Callable[[], Any], wait: Callable[[Any], object], clock: clocks.Clock, calls: range) -> int:
    """Wall time of as many calls, each waited for, in ns."""
    begun = clock()
    for _ in calls:
        handle = launch()
        wait(handle)
    return clock() - begun


def _nothing(handle: Any = None) -> None:
    """A call that does nothing."""


class _Totals(NamedTuple):
    wall_ns: int
    cpu_ns: int
    steal_ns: int | None


class _Sampler:
    """Warm-up and sampling of one prepared cell."""

    def __init__(self, engine: Engine, cell: Cell, prepared: Prepared, facts: _Facts, observe: Observe) -> None:
        self.budget, self.clock, self.cell, self.prepared = engine.budget, engine.clock, cell, prepared
        self.flags, self.observe = facts.flags, observe
        self.iterations = 1
        self.cold = Eviction() if cell.cache is Cache.COLD else None
        self.block_ns = max(self.budget.block_s * 1e9, _CLOCK_READS_PER_BLOCK * engine.clock_cost_ns)

    def call(self) -> None:
        """One call and its wait, the result let go."""
        handle = self.prepared.launch()
        self.prepared.wait(handle)

    def make_ready(self) -> None:
        """What must come before a block and must not be timed."""
        if self.cell.direction is Direction.TRAIN:
            self.prepared.reset()
        if self.cold:
            self.cold()
            # The eviction took the interpreter's own code too; the clock's path is not what is asked about.
            _timed(_nothing, _nothing, self.clock, range(1))

    def block(self) -> int:
        """Wall time of `iterations` calls, in ns."""
        return _timed(self.prepared.launch, self.prepared.wait, self.clock, range(self.iterations))

    def warm_up(self) -> int:
        """Run blocks until they are steady and of the right size; the time it took, in ns."""
        budget, begun = self.budget, self.clock()
        least_ns = (budget.warmup_cpu_s if self.cell.device.kind == "cpu" else budget.warmup_gpu_s) * 1e9
        calls, before = 0, math.nan  # agrees with nothing: two blocks of the final size must
        while True:
            self.make_ready()
            block = self.block()
            calls += self.iterations
            spent = self.clock() - begun
            grown = self._grow(block)
            steady = abs(block - before) <= budget.warmup_agreement * before
            if not grown and steady and calls >= budget.warmup_calls and spent >= least_ns:
                return spent
            if spent >= budget.warmup_max_s * 1e9 and calls >= budget.warmup_calls:
                if not steady:
                    self.flags.append(Flag.UNSTEADY_WARMUP)
                return spent
            before = math.nan if grown else block

    def _grow(self, block: int) -> bool:
        """Enlarge the block where it is shorter than it should be; only hot CPU latency takes several calls a block."""
        if self.cold or self.cell.device.kind != "cpu" or block >= self.block_ns:
            return False
        self.iterations = max(self.iterations + 1, math.ceil(self.iterations * self.block_ns / max(block, 1)))
        return True

    def sample(self, looking: "_Witness") -> tuple[Series, _Totals]:
        """Blocks until the stopping rule is content; those in which the process waited for others are replaced."""
        rule = Stopping(self.budget, self.iterations)
        blocks: list[tuple[int, float, float]] = []  # wall time, run delay and others' time, in ns; NaN for not measured
        wall = cpu = 0
        steal, told = witness.steal_ns(), self.clock()
        gc.collect()
        gc.disable()
        looking.refresh()
        # What comes before a block must not be read as waiting or work of the block: then each is a group of its own.
        alone = self.cold is not None or self.cell.direction is Direction.TRAIN
        while not rule.done():
            self.make_ready()
            delay, others = looking.read()
            cpu_before = time.process_time_ns()
            group = [self.block()]
            while not alone and sum(group) < looking.group_ns and len(group) < CHECK_EVERY:
                group.append(self.block())
            cpu += time.process_time_ns() - cpu_before
            delay_after, others_after = looking.read()
            group_wall = sum(group)
            wall += group_wall
            for block in group:
                part = block / group_wall
                found = block, (delay_after - delay) * part, (others_after - others) * part
                rule.add(block, contended=contended(*found))
                blocks.append(found)
            if looking.stale:
                looking.refresh()
            if self.clock() - told >= _PROGRESS_EVERY_NS:
                self._tell(rule)
                told = self.clock()
        gc.enable()
        steal_after = witness.steal_ns()
        stolen = steal_after - steal if steal is not None and steal_after is not None else None
        self._flag(rule, len(blocks))
        times, delays, others_times = zip(*blocks, strict=True)
        series = Series(SeriesKind.LATENCY, self.iterations, times, _measured(delays), _measured(others_times), rule.why)
        return series, _Totals(wall, cpu, stolen)

    def _tell(self, rule: Stopping) -> None:
        if rule.clean:
            bounds = median_interval(rule.clean) or (math.nan, math.nan)
            scale = self.iterations
            self.observe(Progress(len(rule.clean), float(np.median(rule.clean)) / scale, bounds[0] / scale, bounds[1] / scale))
            self.call()  # the wait for the observer cooled the caches

    def _flag(self, rule: Stopping, drawn: int) -> None:
        if not rule.converged:
            self.flags.append(Flag.NOT_CONVERGED)
        enough = min(self.budget.min_samples, self.budget.slow_min_samples)
        if drawn - len(rule.clean) > _CONTENDED_BLOCKS * drawn or len(rule.clean) < enough <= drawn:
            self.flags.append(Flag.CONTENDED)


class _Witness:
    """The run delay of this process and the time that others ran, read together; knows what reading costs."""

    def __init__(self, clock: clocks.Clock) -> None:
        self.clock = clock
        begun = clock()
        self.delay, self.others = witness.RunDelay(), witness.Others()
        self.refresh_cost_ns = clock() - begun
        self.looked = clock()
        self.read()
        self.group_ns = _GROUP_TO_READING * (clock() - self.looked)

    def __enter__(self) -> "_Witness":
        return self

    def __exit__(self, *error: object) -> None:
        self.delay.close()
        self.others.close()

    def read(self) -> tuple[float, float]:
        """(run delay, others' time) so far, in ns; NaN for not measured."""
        delay, others = self.delay.read(), self.others.read()
        return math.nan if delay is None else delay, math.nan if others is None else others

    @property
    def stale(self) -> bool:
        """Whether to look for new threads: looking costs milliseconds where there are many."""
        return self.clock() - self.looked > _REFRESH_TO_COST * self.refresh_cost_ns

    def refresh(self) -> None:
        """Look for threads that were born or woke up since."""
        begun = self.clock()
        self.delay.refresh()
        self.others.refresh(begun - self.looked)
        self.looked = self.clock()
        self.refresh_cost_ns = self.looked - begun


def _measured(values: tuple[float, ...]) -> tuple[int, ...]:
    """Whole nanoseconds; empty where nothing was measured."""
    return () if any(map(math.isnan, values)) else tuple(map(round, values))


class Eviction:
    """Streams over twice the last-level cache from every core, so that the next call finds none of its operands there."""

    def __init__(self) -> None:
        self.buffer = np.zeros(2 * _last_level_cache() // 8)
        self.cores = sorted(os.sched_getaffinity(0))

    def __call__(self) -> None:
        """Read and write every line; each core has caches of its own, so this thread goes round."""
        for core in self.cores:
            os.sched_setaffinity(0, {core})
            self.buffer += 1.0
        os.sched_setaffinity(0, self.cores)


def _last_level_cache() -> int:
    """Bytes of the largest cache that the kernel reports for this CPU."""
    sizes = [_CACHE_FALLBACK_BYTES]
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text().strip()
        scale = {"K": 2**10, "M": 2**20}.get(text[-1:], 1)
        sizes.append(int(text.rstrip("KM")) * scale)
    return max(sizes)
