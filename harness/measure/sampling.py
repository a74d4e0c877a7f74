"""Warm-up and sampling of one prepared call: blocks, what is read beside them, and when it is enough.

Between two clock reads stand launch and, unless the call is done when it returns, wait; nothing else. A latency series waits
for each of its calls: launching several before one wait would let an asynchronous framework overlap them, which is throughput,
a series of its own.
"""

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np

from harness.backends.base import ALREADY_DONE, Prepared
from harness.measure import clock as clocks
from harness.measure import witness
from harness.measure.caches import Eviction, GpuEviction
from harness.measure.later import First
from harness.measure.ledger import Ledger
from harness.measure.stopping import CHECK_EVERY, Stopping
from harness.measure.throttling import Guard
from harness.measure.witness import Witness
from harness.measure.yardstick import PacedYardstick
from harness.plan import Budget
from harness.record import Flag, Progress, Series, SeriesKind, contended
from harness.spec import Cache, Cell, Direction
from harness.stats import median_interval

# Whatever is done between two groups of calls takes their caches: the first call after it was 16 to 29 % longer; of short calls
# 0.2 to 0.7 % is left after 3 ms and 0.1 % after 12. It is 0.1 ms in all, so that from 100 ms on it is left in.
_COOLED_NS, _GROUP_NS, _COOLED_BELOW_NS = 12_000_000, 48_000_000, 100_000_000
_LEAST_GROUP = 4  # at least so many calls of a group count, however long they are
# Beside others groups are short, or all of them would be contended: one call that does not count, four that do.
_CROWDED, _CROWDED_BELOW_NS, _CROWDED_GROUP = 0.1, 3_000_000, 5
_SHORTEST_GPU_NS = 1_000  # no call of a GPU is shorter
_CONTENDED_BLOCKS = 0.2  # over this share of contended blocks the row is flagged
_RECOMPILED = 10  # times the median
_PROGRESS_EVERY_NS = 1_000_000_000
_DEVICE_SAMPLES, _DEVICE_S = 30, 1.0  # what a device's clock says hardly varies
_DEVICE_WALL_S, _DEVICE_UNREAD = 10.0, 3  # and a profiler is slow to ask

Observe = Callable[[Progress], None]


@dataclass(frozen=True)
class Tools:
    """What sampling works with beside the call: all that a test replaces."""

    budget: Budget
    clock: clocks.Clock
    clock_cost_ns: float
    ledger: Ledger
    observe: Observe
    yardstick: Callable[[], int] | None = None  # times a fixed piece of work, in ns
    guard: Guard | None = None  # of the GPU's clock


class Block(NamedTuple):
    """Wall time of a block, run delay, others' time and the yardstick before it, in ns; NaN for not measured."""

    ns: int
    delay_ns: float = math.nan
    others_ns: float = math.nan
    yardstick_ns: float = math.nan
    compiled: bool = False  # whether something was compiled meanwhile


@dataclass
class Totals:
    """Wall and CPU time of the timed calls, and what the hypervisor took meanwhile, in ns."""

    wall_ns: int = 0
    cpu_ns: int = 0
    steal_ns: int | None = None


def in_a_row(
    launch: Callable[[], Any], wait: Callable[[Any], object], clock: clocks.Clock, calls: range, blocks: int
) -> list[int]:
    """Wall times of so many blocks of calls, each waited for and its result let go, in ns.

    A result still held when the next call is launched makes that one write to a second buffer, which a plain loop does not.
    Between two blocks nothing is done but to read the clock: whatever else the interpreter does takes some of what the calls
    have in the caches. So a call that needs no waiting has none: even of `id` it would be 0.1 to 0.8 us longer.
    """
    times: list[int] = []
    keep = times.append
    # A loop of its own for each, since an inner one has a beginning and an end.
    if wait is ALREADY_DONE:
        if len(calls) == 1:
            for _ in repeat(None, blocks):
                begun = clock()
                launch()
                keep(clock() - begun)
            return times
        for _ in repeat(None, blocks):
            begun = clock()
            for _ in calls:
                launch()
            keep(clock() - begun)
        return times
    if len(calls) == 1:
        for _ in repeat(None, blocks):
            begun = clock()
            wait(launch())
            keep(clock() - begun)
        return times
    for _ in repeat(None, blocks):
        begun = clock()
        for _ in calls:
            wait(launch())
        keep(clock() - begun)
    return times


class Rhythm(NamedTuple):
    """Of a group of blocks: so many that do not count, then so many at a time until it has lasted so long, at most so many."""

    lead: int
    step: int
    least_ns: float
    most: int


def queued(launch: Callable[[], Any], wait: Callable[[Any], object], clock: clocks.Clock, calls: range) -> int:
    """Wall time of as many calls, launched one after another and waited for together, in ns."""
    handle = None
    begun = clock()
    for _ in calls:
        handle = launch()
    wait(handle)
    return clock() - begun


def _nothing(handle: Any = None) -> None:
    """A call that does nothing."""


class Sampler:
    """Warm-up and sampling of one prepared cell; raises flags into `flags`."""

    def __init__(self, tools: Tools, cell: Cell, prepared: Prepared, flags: list[Flag], first: First) -> None:
        self.budget, self.clock, self.ledger, self.observe = tools.budget, tools.clock, tools.ledger, tools.observe
        self.cell, self.prepared, self.flags, self.guard, self.first = cell, prepared, flags, tools.guard, first
        self.on_cpu, self.cores = cell.device.kind == "cpu", len(os.sched_getaffinity(0))
        self.iterations = self.queue = 1  # calls in a block: waited for one by one, and queued
        self.stride = 1  # of so many short blocks one counts
        self.block_ns = 0.0  # how long a block is, by the last of the warm-up
        self.cold = _eviction(cell, prepared)
        self.shortest_ns = max(self.budget.block_s * 1e9, clocks.READS_PER_BLOCK * tools.clock_cost_ns)  # of blocks on a CPU
        self.yardstick = PacedYardstick(tools.yardstick if self.on_cpu else None, tools.clock)
        # What comes before a block must not be read as waiting or work of the block: then each is a group of its own.
        self.alone = self.cold is not None or cell.direction is Direction.TRAIN

    def call(self) -> None:
        """One call and its wait, the result let go."""
        handle = self.prepared.launch()
        self.prepared.wait(handle)
        self.first.made += 1

    def look(self) -> int:
        """One more call that is not timed, its result held against the first one's; how long all of it took, in ns.

        Raises WrongResultError.
        """
        begun = self.clock()
        with self.ledger.spending("check"):
            self.make_ready()
            handle = self.prepared.launch()
            self.prepared.wait(handle)
            self.first.made += 1
            self.first.compare_last(self.prepared, handle)
        return self.clock() - begun

    def make_ready(self) -> None:
        """What must come before a block and must not be timed."""
        if self.cell.direction is Direction.TRAIN:
            self.prepared.reset()
            if not self.on_cpu:  # it was only queued
                self.prepared.wait(None)
        if self.cold:
            self.cold()
            # The eviction took the interpreter's own code too; the clock's path is not what is asked about.
            wait = ALREADY_DONE if self.prepared.wait is ALREADY_DONE else _nothing
            in_a_row(_nothing, wait, self.clock, range(1), 1)

    def blocks(self, count: int = 1) -> list[int]:
        """Wall times of so many blocks of `iterations` calls in a row, in ns.

        The loop is the first frame of the stack that it runs on: the functions that lead here are no part of the call.
        """
        calls = range(self.iterations)
        return self.prepared.on_own_stack(in_a_row, self.prepared.launch, self.prepared.wait, self.clock, calls, count)

    def warm_up(self) -> int:
        """Run blocks until they are steady and of the right size; the time it took, in ns.

        Before the block in which the warm-up's share of `first.place` is over, a call is looked at. It is here and not among
        the samples, where fetching a result would take caches and heap from the next ones.
        """
        budget, begun = self.budget, self.clock()
        least_ns = (budget.warmup_cpu_s if self.on_cpu else budget.warmup_gpu_s) * 1e9
        calls, before = 0, math.nan  # agrees with nothing: two blocks of the final size must
        place, block, spent, looked = self.first.place, 0, 0, False
        while True:
            if not looked and calls >= int(place * budget.warmup_calls) and spent + block >= place * least_ns:
                begun, looked = begun + self.look(), True
            self.make_ready()
            (block,) = self.blocks()
            self.yardstick.call_ns = block / self.iterations
            calls += self.iterations
            self.first.made += self.iterations
            spent = self.clock() - begun
            grown = self._grow(block)
            steady = abs(block - before) <= budget.warmup_agreement * before
            late = spent >= budget.warmup_max_s * 1e9
            if calls >= budget.warmup_calls and (late or (not grown and steady and spent >= least_ns)):
                if not steady:
                    self.flags.append(Flag.UNSTEADY_WARMUP)
                if not looked:  # the last block was longer than those before it
                    self.look()
                    self.call()
                self._space(block)
                return spent
            before = math.nan if grown else block

    def _space(self, block: int) -> None:
        """Spread the most samples that there may be over the least time, instead of taking them all in its first instant."""
        # A warm-up that ended at its cap may have enlarged the block after this one; and groups are sized by it.
        self.block_ns = max(block, self.shortest_ns if self.on_cpu else _SHORTEST_GPU_NS)
        if not self.alone:
            self.stride = max(1, math.ceil(self.budget.min_time_s * 1e9 / self.budget.max_samples / self.block_ns))

    def _rhythm(self, crowded: bool, reading_ns: float) -> Rhythm:
        """How a group goes on a quiet machine and in a crowd, where `reading_ns` is what makes up for reading the witness."""
        block_ns, stride = self.block_ns, self.stride
        if self.alone or block_ns >= (_CROWDED_BELOW_NS if crowded else _COOLED_BELOW_NS):
            return Rhythm(0, stride, reading_ns, 1 if self.alone else CHECK_EVERY * stride)
        if crowded:
            warms = stride == 1  # otherwise the blocks that are passed over do
            return Rhythm(int(warms), stride, max(reading_ns, warms * _CROWDED_GROUP * block_ns), CHECK_EVERY * stride)
        counted = stride * max(min(math.ceil(_GROUP_NS / (block_ns * stride)), self.budget.max_samples), _LEAST_GROUP)
        return Rhythm(math.ceil(_COOLED_NS / block_ns), counted, 0, counted)

    def _grow(self, block: int) -> bool:
        """Enlarge the block where it is shorter than it should be; only hot CPU latency takes several calls a block."""
        if self.cold or not self.on_cpu or block >= self.shortest_ns:
            return False
        self.iterations = max(self.iterations + 1, math.ceil(self.iterations * self.shortest_ns / max(block, 1)))
        return True

    # Latency ------------------------------------------------------------------------------------------------------------

    def latency(self, looking: Witness) -> tuple[Series, Totals]:
        """Blocks until the stopping rule is content; those in which the process waited for others are replaced."""
        rule, totals, told = Stopping(self.budget, self.iterations), Totals(), self.clock()
        steal = witness.steal_ns()

        def draw() -> list[Block]:
            nonlocal told
            if self.clock() - told >= _PROGRESS_EVERY_NS:
                with self.ledger.spending("wire"):
                    self._tell(rule)
                told = self.clock()
            if looking.stale:
                with self.ledger.spending("witness"):
                    looking.refresh()
            return self._group(looking, totals, rule.contended_share > _CROWDED)

        with self.ledger.spending("witness"):
            looking.refresh()
        blocks = self._kept(rule, draw)
        steal_after = witness.steal_ns()
        totals.steal_ns = steal_after - steal if steal is not None and steal_after is not None else None
        self._flag(rule, blocks)
        times, delays, others, yardsticks, _ = zip(*blocks, strict=True)
        beside = map(_measured, (delays, others, yardsticks))
        run_delay_ns, others_ns, yardstick_ns = beside
        return Series(SeriesKind.LATENCY, self.iterations, times, run_delay_ns, others_ns, rule.why, yardstick_ns), totals

    def _kept(self, rule: Stopping, draw: Callable[[], list[Block]]) -> list[Block]:
        """Blocks until the rule is content. On a GPU they come in batches, which are set aside while it is throttled."""
        kept: list[Block] = []
        pending: list[Block] = []
        if self.guard:
            self.guard.look()
        while not rule.done():
            pending += draw()
            if self.guard and len(pending) < CHECK_EVERY:
                continue
            if self.guard is None or self.guard.keeps(sum(block.ns for block in pending)):
                for block in pending:
                    rule.add(block.ns, contended=bool(contended(*block[:3])))
                kept += pending
            else:
                self.call()  # the GPU has rested
            pending = []
        return kept

    def _group(self, looking: Witness, totals: Totals, crowded: bool) -> list[Block]:
        """Blocks between two readings of the witness, which is too dear to be read around each short one.

        Waiting and others' time over the whole of it, the blocks that do not count included, are shared out by time.
        """
        if self.yardstick.due:
            with self.ledger.spending("yardstick"):
                self.yardstick.take(looking, self.call)
        self.make_ready()
        compilations = self.prepared.compilations()
        with self.ledger.spending("witness"):
            delay, others = looking.read()
        cpu_before = time.process_time_ns()
        lead, step, least_ns, most = self._rhythm(crowded, looking.group_ns)
        begun = self.clock()
        self.blocks(lead)
        times = self.blocks(step)
        while (wall := self.clock() - begun) < least_ns and len(times) < most:
            times += self.blocks(step)
        cpu = time.process_time_ns() - cpu_before
        with self.ledger.spending("witness"):
            delay_after, others_after = looking.read()
        self.first.made += (lead + len(times)) * self.iterations
        group, compiled = times[self.stride - 1 :: self.stride], self.prepared.compilations() != compilations
        totals.wall_ns += wall
        totals.cpu_ns += cpu
        # What others ran elsewhere took nothing from this process: they had at most what it left of its own cores.
        others_ns = min(others_after - others, max(0, self.cores * wall - cpu))
        parts = [block / wall if wall else 0.0 for block in group]
        return [
            Block(block, (delay_after - delay) * part, others_ns * part, self.yardstick.last_ns, compiled)
            for block, part in zip(group, parts, strict=True)
        ]

    def _tell(self, rule: Stopping) -> None:
        if rule.clean:
            bounds = median_interval(rule.clean) or (math.nan, math.nan)
            scale = self.iterations
            self.observe(Progress(len(rule.clean), float(np.median(rule.clean)) / scale, bounds[0] / scale, bounds[1] / scale))
            self.call()  # the wait for the observer cooled the caches

    def _flag(self, rule: Stopping, blocks: list[Block]) -> None:
        if not rule.converged:
            self.flags.append(Flag.NOT_CONVERGED)
        enough = min(self.budget.min_samples, self.budget.slow_min_samples)
        if len(blocks) - len(rule.clean) > _CONTENDED_BLOCKS * len(blocks) or len(rule.clean) < enough <= len(blocks):
            self.flags.append(Flag.CONTENDED)
        suspects = [block.ns for block in blocks if block.compiled]
        if suspects and max(suspects) > _RECOMPILED * float(np.median([block.ns for block in blocks])):
            self.flags.append(Flag.RECOMPILED)

    # Throughput and the device's clock, on GPUs -------------------------------------------------------------------------

    def throughput(self) -> Series:
        """Blocks of calls that are queued and waited for together, each as long as the budget says."""
        calls, enough_ns = 1, self.budget.throughput_block_s * 1e9

        def block() -> int:
            self.make_ready()
            self.first.made += calls
            return self.prepared.on_own_stack(queued, self.prepared.launch, self.prepared.wait, self.clock, range(calls))

        # Two blocks of a size: a single hiccup must not pass for a long call.
        while (found := min(block(), block())) < enough_ns / 2:
            calls = max(calls + 1, math.ceil(calls * enough_ns / max(found, 1)))
        self.queue = calls
        rule = Stopping(self.budget, calls)
        blocks = self._kept(rule, lambda: [Block(block())])
        return Series(SeriesKind.THROUGHPUT, calls, tuple(block.ns for block in blocks), (), (), rule.why)

    def device(self) -> Series | None:
        """Blocks of as many calls as `throughput` queued, on the device's own clock; None where the framework offers none.

        A block that could not be read is passed over. Asking may take far longer than the calls, a trace each: it has a cap.
        """
        calls = self.queue
        if not self.prepared.device_clock:
            return None
        budget = replace(self.budget, min_samples=10, min_time_s=0.0, max_samples=_DEVICE_SAMPLES, max_time_s=_DEVICE_S)
        rule, blocks = Stopping(budget, calls), []
        begun, unread = self.clock(), 0
        while not rule.done() and unread < _DEVICE_UNREAD and self.clock() - begun < _DEVICE_WALL_S * 1e9:
            found = self.prepared.device_time(calls)
            self.first.made += calls
            if found is None:
                unread += 1
                continue
            blocks.append(round(found))
            rule.add(blocks[-1])
        if not blocks:
            return None
        # Its name is asked for afterwards: whether the host could queue in time shows only then.
        method = self.prepared.device_clock
        return Series(SeriesKind.DEVICE, calls, tuple(blocks), (), (), rule.why or "max_time", method=method)


def _eviction(cell: Cell, prepared: Prepared) -> Callable[[], None] | None:
    if cell.cache is not Cache.COLD:
        return None
    if cell.device.kind == "cpu":
        return Eviction()
    assert prepared.evict is not None  # the engine has asked
    return GpuEviction(prepared.evict)


def _measured(values: tuple[float, ...]) -> tuple[int, ...]:
    """Whole nanoseconds; empty where nothing was measured."""
    return () if any(map(math.isnan, values)) else tuple(map(round, values))
