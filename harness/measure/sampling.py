"""Warm-up and sampling of one prepared call: which calls are timed, what is read beside them, and when there are enough.

A block is one call, or several in a row, between two readings of the clock; it gives one sample. A group is several blocks
between two readings of the witness. Between two readings of the clock there is nothing but `launch` and `wait`, and no `wait`
where a call is done when `launch` returns. A latency series waits for each of its calls: if several were launched before one
wait, an asynchronous framework would overlap them. That is throughput, which is a series of its own.
"""

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np

from harness.axes import Cache, Direction
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
from harness.spec import Cell
from harness.stats import median_interval

# Whatever is done between two groups pushes the call's data out of the caches. The first call afterwards took 16 to 29 %
# longer; short calls were still 0.2 to 0.7 % slower after 3 ms of calls, and 0.1 % slower after 12 ms. So each group begins
# with blocks of _COOLED_NS in all that do not count, and those that count last _GROUP_NS in all. The whole effect is about 0.1
# ms: a group of blocks that take _COOLED_BELOW_NS or more begins with none.
_COOLED_NS, _GROUP_NS, _COOLED_BELOW_NS = 12_000_000, 48_000_000, 100_000_000
_LEAST_GROUP = 4  # at least so many blocks of a group count, however long they are
# Where more than the share _CROWDED of the blocks is contended, a long group would hardly ever be free of contention. There a
# group of blocks shorter than _CROWDED_BELOW_NS has five: one that does not count, and four that do.
_CROWDED, _CROWDED_BELOW_NS, _CROWDED_GROUP = 0.1, 3_000_000, 5
_SHORTEST_GPU_NS = 1_000  # no call of a GPU is shorter
_CONTENDED_BLOCKS = 0.2  # the row is flagged where a larger share of its blocks is contended
_RECOMPILED = 10  # a block in which something was compiled, and that took so many medians, flags the row
_PROGRESS_EVERY_NS = 1_000_000_000
_DEVICE_SAMPLES, _DEVICE_S = 30, 1.0  # caps of the device series: what a device's clock says hardly varies
_DEVICE_WALL_S, _DEVICE_UNREAD = 10.0, 3  # more caps: wall time, since a profiler is slow, and blocks that could not be read

Observe = Callable[[Progress], None]


@dataclass(frozen=True)
class Tools:
    """What sampling needs beside the call. Tests replace each of these."""

    budget: Budget
    clock: clocks.Clock
    clock_cost_ns: float
    ledger: Ledger
    observe: Observe
    yardstick: Callable[[], int] | None = None  # times a fixed piece of work, in ns
    guard: Guard | None = None  # sets samples aside while the GPU is throttled; None on a CPU


class Block(NamedTuple):
    """One sample: the wall time of a block, and what was read beside it. NaN: not measured."""

    ns: int
    delay_ns: float = math.nan  # how long this process's threads were runnable and had no core
    others_ns: float = math.nan  # how long other processes ran
    yardstick_ns: float = math.nan  # what the yardstick took the last time before the block
    compiled: bool = False  # whether the framework compiled something meanwhile


@dataclass
class Totals:
    """Sums over all groups in ns: wall time, CPU time of this process, and time that the hypervisor took from all CPUs.

    Each is a field of `record.Samples` under the same name.
    """

    wall_ns: int = 0
    cpu_ns: int = 0
    steal_ns: int | None = None


def in_a_row(
    launch: Callable[[], Any], wait: Callable[[Any], object], clock: clocks.Clock, calls: range, blocks: int
) -> list[int]:
    """The wall times in ns of so many blocks, each of as many calls as `calls` has members. Every call is waited for.

    The result of a call is let go before the next one is launched: if it were held, the next call would have to write to a
    second buffer, which it does not in a plain loop. Between two blocks the clock is read and nothing else is done, since
    whatever else the interpreter does pushes some of the calls' data out of the caches. So a call that needs no waiting is not
    waited for: even a call of `id` would make it 0.1 to 0.8 us longer.
    """
    times: list[int] = []
    keep = times.append
    # Four loops: an inner loop around a single call would cost time of its own, and so would asking here whether to wait.
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
    """How many blocks a group has: `lead`, then `step` and `step` again until it has lasted `least_ns` or has `most` blocks."""

    lead: int  # blocks at the beginning, which do not count
    step: int  # blocks that follow without a look at the clock between them
    least_ns: float
    most: int


def queued(launch: Callable[[], Any], wait: Callable[[Any], object], clock: clocks.Clock, calls: range) -> int:
    """The wall time in ns of as many calls as `calls` has members: all are launched, then the last one is waited for."""
    handle = None
    begun = clock()
    for _ in calls:
        handle = launch()
    wait(handle)
    return clock() - begun


def _nothing(handle: Any = None) -> None:
    """A call that does nothing."""


class Sampler:
    """Warms one prepared cell up and takes its series of samples. Flags that it finds are appended to `flags`."""

    def __init__(self, tools: Tools, cell: Cell, prepared: Prepared, flags: list[Flag], first: First) -> None:
        self.budget, self.clock, self.ledger, self.observe = tools.budget, tools.clock, tools.ledger, tools.observe
        self.cell, self.prepared, self.flags, self.guard, self.first = cell, prepared, flags, tools.guard, first
        self.on_cpu, self.cores = cell.device.kind == "cpu", len(os.sched_getaffinity(0))
        self.iterations = 1  # calls in a block of the latency series
        self.queue = 1  # calls in a block of the throughput series
        self.stride = 1  # one of so many blocks counts, where all of them would be more than the budget's samples
        self.block_ns = 0.0  # how long a block takes, by the last one of the warm-up
        self.cold = _eviction(cell, prepared)
        # A block on a CPU gets as many calls as it needs to last this long.
        self.shortest_ns = max(self.budget.block_s * 1e9, clocks.READS_PER_BLOCK * tools.clock_cost_ns)
        self.yardstick = PacedYardstick(tools.yardstick if self.on_cpu else None, tools.clock)
        # Where something must be made ready before each block, a block is a group of its own: what is done then must not be
        # between two readings of the witness, which would take it for a part of the block.
        self.alone = self.cold is not None or cell.direction is Direction.TRAIN

    def call(self) -> None:
        """Make one call that is not timed, wait for it, and let its result go."""
        handle = self.prepared.launch()
        self.prepared.wait(handle)
        self.first.made += 1

    def look(self) -> int:
        """Make one call that is not timed, and compare its result with the first call's; how long all of this took, in ns.

        Raises WrongResultError where the two differ.
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
        """Do what must come before a block and must not be timed: bring the filter back, overwrite the caches."""
        if self.cell.direction is Direction.TRAIN:
            self.prepared.reset()
            if not self.on_cpu:  # a GPU has only queued it
                self.prepared.wait(None)
        if self.cold:
            self.cold()
            # The interpreter's own code was overwritten, too. The question is how the call does with cold caches, not how
            # reading the clock does: so the loop runs once around a call that does nothing.
            wait = ALREADY_DONE if self.prepared.wait is ALREADY_DONE else _nothing
            in_a_row(_nothing, wait, self.clock, range(1), 1)

    def blocks(self, count: int = 1) -> list[int]:
        """The wall times in ns of so many blocks of `iterations` calls, one block right after the other.

        The loop runs on the stack that the prepared call asks for: a call may take longer the more frames are above it, and the
        functions that lead here are no part of it.
        """
        calls = range(self.iterations)
        return self.prepared.on_own_stack(in_a_row, self.prepared.launch, self.prepared.wait, self.clock, calls, count)

    def warm_up(self) -> int:
        """Run blocks until they are steady and long enough; the time it took, in ns.

        One call's result is compared with the first one's when the share `first.place` of the warm-up is over. That is done
        here and not between samples, since fetching a result changes the caches and the heap that the next calls find.
        """
        budget, begun = self.budget, self.clock()
        least_ns = (budget.warmup_cpu_s if self.on_cpu else budget.warmup_gpu_s) * 1e9
        calls, before = 0, math.nan  # NaN agrees with nothing: two blocks of the final size must agree
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
                if not looked:  # the last block alone was longer than the rest of the warm-up
                    self.look()
                    self.call()
                self._space(block)
                return spent
            before = math.nan if grown else block

    def _space(self, block: int) -> None:
        """Let every `stride`-th block count, so that the largest number of samples is spread over the least time."""
        # Where the warm-up ended at its cap it may just have enlarged the block, so that the last one was shorter than the
        # next.
        self.block_ns = max(block, self.shortest_ns if self.on_cpu else _SHORTEST_GPU_NS)
        if not self.alone:
            self.stride = max(1, math.ceil(self.budget.min_time_s * 1e9 / self.budget.max_samples / self.block_ns))

    def _rhythm(self, crowded: bool, reading_ns: float) -> Rhythm:
        """The numbers of blocks of a group; `reading_ns` is how long it must last to be worth reading the witness around it."""
        block_ns, stride = self.block_ns, self.stride
        if self.alone or block_ns >= (_CROWDED_BELOW_NS if crowded else _COOLED_BELOW_NS):
            return Rhythm(0, stride, reading_ns, 1 if self.alone else CHECK_EVERY * stride)
        if crowded:
            warms = stride == 1  # otherwise the blocks that do not count anyway fill the caches
            return Rhythm(int(warms), stride, max(reading_ns, warms * _CROWDED_GROUP * block_ns), CHECK_EVERY * stride)
        counted = stride * max(min(math.ceil(_GROUP_NS / (block_ns * stride)), self.budget.max_samples), _LEAST_GROUP)
        return Rhythm(math.ceil(_COOLED_NS / block_ns), counted, 0, counted)

    def _grow(self, block: int) -> bool:
        """Take more calls into a block that is too short; only latency on a CPU with hot caches has several calls a block."""
        if self.cold or not self.on_cpu or block >= self.shortest_ns:
            return False
        self.iterations = max(self.iterations + 1, math.ceil(self.iterations * self.shortest_ns / max(block, 1)))
        return True

    # Latency ------------------------------------------------------------------------------------------------------------

    def latency(self, looking: Witness) -> tuple[Series, Totals]:
        """The latency series, and the sums over it: blocks are added until the stopping rule is content.

        Blocks in which this process waited for others do not count for the rule, so that others are taken in their place.
        """
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
        """The blocks that `draw` gives until the rule is content. On a GPU they come in batches, which may be set aside."""
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
                self.call()  # the GPU has rested, so that its next call would be slow
            pending = []
        return kept

    def _group(self, looking: Witness, totals: Totals, crowded: bool) -> list[Block]:
        """The blocks of one group that count. Reading the witness around each block would cost too much.

        The run delay and the others' time of the whole group, blocks that do not count included, are divided among its blocks
        by their length.
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
        # Time that others ran on cores which this process did not want took nothing from it. So at most that time counts which
        # this process left unused on its own cores.
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
            self.call()  # waiting for the observer has cooled the caches

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
        """The throughput series: blocks of calls that are queued and waited for together, as long as the budget says."""
        calls, enough_ns = 1, self.budget.throughput_block_s * 1e9

        def block() -> int:
            self.make_ready()
            self.first.made += calls
            return self.prepared.on_own_stack(queued, self.prepared.launch, self.prepared.wait, self.clock, range(calls))

        # The shorter of two blocks decides, so that one hiccup does not pass for a long call.
        while (found := min(block(), block())) < enough_ns / 2:
            calls = max(calls + 1, math.ceil(calls * enough_ns / max(found, 1)))
        self.queue = calls
        rule = Stopping(self.budget, calls)
        blocks = self._kept(rule, lambda: [Block(block())])
        return Series(SeriesKind.THROUGHPUT, calls, tuple(block.ns for block in blocks), (), (), rule.why)

    def device(self) -> Series | None:
        """The device series: blocks of as many calls as `throughput` queued, timed by the device's own clock; None without one.

        A block that could not be read is passed over. Reading may take far longer than the calls themselves, since a profiler
        writes a trace for each block: so its wall time has a cap.
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
        # The clock is asked for its name after the blocks: only then is it known whether the host queued the calls in time.
        method = self.prepared.device_clock
        return Series(SeriesKind.DEVICE, calls, tuple(blocks), (), (), rule.why or "max_time", method=method)


def _eviction(cell: Cell, prepared: Prepared) -> Callable[[], None] | None:
    if cell.cache is not Cache.COLD:
        return None
    if cell.device.kind == "cpu":
        return Eviction()
    assert prepared.evict is not None  # the engine refuses the cell otherwise
    return GpuEviction(prepared.evict)


def _measured(values: tuple[float, ...]) -> tuple[int, ...]:
    """The values in whole nanoseconds; empty where one of them was not measured."""
    return () if any(map(math.isnan, values)) else tuple(map(round, values))
