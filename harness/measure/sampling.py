"""Warm-up of one prepared call, and visits to it: which calls are timed, and what is read beside them.

A block is one call, or several in a row, between two readings of the clock; it gives one sample. A visit is a stretch of
blocks, the first of which do not count; the witness is read before it and after it. Between two readings of the clock there is
nothing but `launch` and `wait`, and no `wait` where a call is done when `launch` returns. A latency series waits for each of
its calls: if several were launched before one wait, an asynchronous framework would overlap them. That is throughput, which is
a series of its own.
"""

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np

from harness.axes import Cache, Direction
from harness.backends.base import ALREADY_DONE, Prepared
from harness.flags import Flag
from harness.measure import clock as clocks
from harness.measure import witness
from harness.measure.caches import Eviction, GpuEviction
from harness.measure.later import First
from harness.measure.ledger import Ledger
from harness.measure.throttling import Guard
from harness.measure.witness import Witness
from harness.measure.yardstick import PacedYardstick
from harness.plan import Budget
from harness.record import CONTENDED_VISIT, Series, SeriesKind, contended
from harness.spec import Cell

# Whoever visits finds the caches and the cores as another process left them: the first call afterwards took 16 to 29 % longer,
# short calls were still 0.2 to 0.7 % slower after 3 ms of calls, and 0.1 % slower after 12 ms; and the threads of a framework
# that was called before spin for a while. So a visit begins with blocks of _COOLED_NS in all that do not count. The whole
# effect is about 0.1 ms: a visit to a call that takes _COOLED_BELOW_NS or more begins with none.
_COOLED_NS, _COOLED_BELOW_NS = 12_000_000, 100_000_000
_MOST_SAMPLES = 100  # of a visit; where more blocks fit in, they are spread over it evenly
_LEAST_ALONE = 3  # blocks of a visit where each is made ready for, unless fewer fill the visit
_SHORTEST_GPU_NS = 1_000  # no call of a GPU is shorter
_CONTENDED_BLOCKS = 0.2  # the row is flagged where a larger share of its blocks is contended
_STEADY_CLOCK = 0.01  # a GPU's clock is steady once two readings in a row agree within this
_THROUGHPUT_BLOCKS = 2  # of a visit
_DEVICE_CALLS = 1000  # of a reading at the most: a profiler writes some events for each, and Python reads every one
_DEVICE_WALL_S, _DEVICE_UNREAD = 10.0, 3  # a device's clock is read no more after so long, or so many readings in vain


@dataclass(frozen=True)
class Tools:
    """What sampling needs beside the call. Tests replace each of these."""

    budget: Budget
    clock: clocks.Clock
    clock_cost_ns: float
    ledger: Ledger
    yardstick: Callable[[], int] | None = None  # times a fixed piece of work, in ns
    guard: Guard | None = None  # sets samples aside while the GPU is throttled; None on a CPU


class Block(NamedTuple):
    """One sample: the wall time of a block, and what was read beside it. NaN: not measured."""

    ns: int
    delay_ns: float = math.nan  # how long this process's threads were runnable and had no core
    others_ns: float = math.nan  # how long other processes ran
    yardstick_ns: float = math.nan  # what the yardstick took the last time before the block


@dataclass
class Taken:
    """What a visit brought: its series, and sums over its latency blocks in ns, those that do not count included.

    They are wall time, CPU time of this process, and time that the hypervisor took from all CPUs. With a `reason` it is void.
    """

    series: tuple[Series, ...] = ()
    wall_ns: int = 0
    cpu_ns: int = 0
    steal_ns: int | None = None
    reason: str = ""


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
    """Warms one prepared cell up and visits it. Flags that it finds are added to `flags`."""

    def __init__(self, tools: Tools, cell: Cell, prepared: Prepared, flags: list[Flag], first: First) -> None:
        self.budget, self.clock, self.ledger = tools.budget, tools.clock, tools.ledger
        self.cell, self.prepared, self.flags, self.guard, self.first = cell, prepared, flags, tools.guard, first
        self.on_cpu, self.cores = cell.device.kind == "cpu", len(os.sched_getaffinity(0))
        self.iterations = 1  # calls in a block of the latency series
        self.queue = 0  # calls in a block of the throughput series; 0: not known yet
        self.stride = 1  # one of so many blocks counts
        self.block_ns = 0.0  # how long a block takes, by the last one of the warm-up
        self.blocks_made = self.blocks_contended = 0
        self.troubles: dict[str, str] = {}  # why series other than latency could not be taken, by name
        self._unread, self._device_ns = 0, 0
        self.cold = _eviction(cell, prepared)
        # A block on a CPU gets as many calls as it needs to last this long.
        self.shortest_ns = max(self.budget.block_s * 1e9, clocks.READS_PER_BLOCK * tools.clock_cost_ns)
        self.yardstick = PacedYardstick(tools.yardstick if self.on_cpu else None, tools.clock)
        # Where something must be made ready before each block, the witness is read around each: what is done between blocks
        # would pass for a part of them.
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
        self.first.made += count * self.iterations
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
            calls += self.iterations
            (block,) = self.blocks()
            self.yardstick.call_ns = block / self.iterations
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
                self._space(block if math.isnan(before) else min(block, before))
                return spent
            before = math.nan if grown else block

    def _space(self, block: float) -> None:
        """Let every `stride`-th block count, so that the largest number of samples is spread over the whole visit."""
        # Where the warm-up ended at its cap it may just have enlarged the block, so that the next one is longer than the last.
        self.block_ns = max(block, self.shortest_ns if self.on_cpu else _SHORTEST_GPU_NS)
        if not self.alone:
            self.stride = max(1, math.ceil(self.budget.visit_s * 1e9 / _MOST_SAMPLES / self.block_ns))

    def _grow(self, block: int) -> bool:
        """Take more calls into a block that is too short; only latency on a CPU with hot caches has several calls a block."""
        if self.cold or not self.on_cpu or block >= self.shortest_ns:
            return False
        self.iterations = max(self.iterations + 1, math.ceil(self.iterations * self.shortest_ns / max(block, 1)))
        return True

    # A visit ------------------------------------------------------------------------------------------------------------

    def visit(self, looking: Witness) -> Taken:
        """Visit the call: latency, and on a GPU with hot caches throughput and the device's clock.

        It is void where anything was compiled meanwhile, whose time would be in the samples.
        """
        compilations, taken = self.prepared.compilations(), Taken()
        if looking.stale:
            with self.ledger.spending("witness"):
                looking.refresh()
        steal = witness.steal_ns()
        with self.ledger.spending("sampling"):
            series = [self.latency(looking, taken)]
            if not self.on_cpu and self.cell.cache is Cache.HOT:
                series += self._of_the_device()
        steal_after = witness.steal_ns()
        taken.steal_ns = steal_after - steal if steal is not None and steal_after is not None else None
        if self.prepared.compilations() != compilations:
            self._flag(Flag.RECOMPILED)
            return Taken(reason="the call was compiled again during the visit")
        taken.series = tuple(series)
        return taken

    def latency(self, looking: Witness, taken: Taken) -> Series:
        """The latency series of a visit. On a GPU it is taken anew as long as the guard sets it aside."""
        if self.yardstick.due:
            with self.ledger.spending("yardstick"):
                self.yardstick.take(looking, self.call)
        while True:
            self._settle()
            if self.guard:
                self.guard.look()
            blocks = self._one_by_one(looking, taken) if self.alone else self._in_a_row(looking, taken)
            if self.guard is None or self.guard.keeps(sum(block.ns for block in blocks)):
                break
            taken.wall_ns = taken.cpu_ns = 0
        # A block before may have been disturbed.
        self._space(min(self.block_ns, float(np.median([block.ns for block in blocks]))))
        self.blocks_made += len(blocks)
        self.blocks_contended += sum(bool(contended(*block[:3], CONTENDED_VISIT)) for block in blocks)
        times, delays, others, yardsticks = zip(*blocks, strict=True)
        run_delay_ns, others_ns, yardstick_ns = map(_measured, (delays, others, yardsticks))
        return Series(SeriesKind.LATENCY, self.iterations, times, run_delay_ns, others_ns, "visits", yardstick_ns)

    def _settle(self) -> None:
        """On a GPU, call until its clock is steady, which it is not after a rest; at most as long as a warm-up takes."""
        if not self.guard:
            return
        before, until = math.nan, self.clock() + self.budget.warmup_gpu_s * 1e9
        count = max(1, math.ceil(_COOLED_NS / self.block_ns))
        while self.clock() < until:
            for _ in range(count):
                self.make_ready()
                self.blocks()
            clock_mhz = self.guard.clock_mhz()
            if clock_mhz is None or abs(clock_mhz - before) <= _STEADY_CLOCK * before:
                return
            before = clock_mhz

    def _in_a_row(self, looking: Witness, taken: Taken) -> list[Block]:
        """The blocks of a visit that count, one right after the other, behind those that do not."""
        lead = 0 if self.block_ns >= _COOLED_BELOW_NS else math.ceil(_COOLED_NS / self.block_ns)
        count = math.ceil(self.budget.visit_s * 1e9 / (self.block_ns * self.stride)) * self.stride

        def timed() -> list[int]:
            self.blocks(lead)
            return self.blocks(count)

        return self._witnessed(timed, looking, taken)

    def _one_by_one(self, looking: Witness, taken: Taken) -> list[Block]:
        """The blocks of a visit that count, where each one is made ready for; the visit lasts as long as any other."""
        begun = self.clock()
        while self.block_ns < _COOLED_BELOW_NS and self.clock() - begun < _COOLED_NS:
            self.make_ready()
            self.blocks()
        begun, visit_ns, found = self.clock(), self.budget.visit_s * 1e9, list[Block]()
        least = min(_LEAST_ALONE, math.ceil(visit_ns / self.block_ns))
        while len(found) < least or (self.clock() - begun < visit_ns and len(found) < _MOST_SAMPLES):
            self.make_ready()
            found += self._witnessed(self.blocks, looking, taken)
        return found

    def _witnessed(self, timed: Callable[[], list[int]], looking: Witness, taken: Taken) -> list[Block]:
        """The blocks that count of those that `timed` gives, with what the witness says of them.

        Reading it around each block would cost too much. So the run delay and the others' time of the whole, blocks that do not
        count included, are divided among the blocks by their length.
        """
        with self.ledger.spending("witness"):
            delay, others = looking.read()
        cpu_before, begun = time.process_time_ns(), self.clock()
        times = timed()
        wall, cpu = self.clock() - begun, time.process_time_ns() - cpu_before
        with self.ledger.spending("witness"):
            delay_after, others_after = looking.read()
        taken.wall_ns += wall
        taken.cpu_ns += cpu
        # Time that others ran on cores which this process did not want took nothing from it. So at most that time counts which
        # this process left unused on its own cores.
        others_ns = min(others_after - others, max(0, self.cores * wall - cpu))
        group = times[self.stride - 1 :: self.stride]
        parts = [block / wall if wall else 0.0 for block in group]
        return [
            Block(block, (delay_after - delay) * part, others_ns * part, self.yardstick.last_ns)
            for block, part in zip(group, parts, strict=True)
        ]

    @property
    def crowded(self) -> bool:
        """Whether so many blocks of all visits were contended that the row bears a flag."""
        return self.blocks_contended > _CONTENDED_BLOCKS * self.blocks_made

    def _flag(self, flag: Flag) -> None:
        if flag not in self.flags:
            self.flags.append(flag)

    # Throughput and the device's clock, on GPUs -------------------------------------------------------------------------

    def _of_the_device(self) -> list[Series]:
        """The throughput and device series of a visit. Where one could not be taken it is told, and not tried again."""
        found = []
        for take in (self.throughput, self.device):
            if take.__name__ in self.troubles:
                continue
            try:
                series = take()
            except Exception as error:  # no permission to profile, a queue too deep: the latency series stays
                self.troubles[take.__name__] = f"{type(error).__name__}: {error}"
            else:
                found += [series] if series else []
                if series and self.guard:
                    self.guard.note(take.__name__)
        return found

    def throughput(self) -> Series:
        """The throughput series: blocks of calls that are queued and waited for together, as long as the budget says."""
        enough_ns = self.budget.throughput_block_s * 1e9

        def block(calls: int) -> int:
            self.make_ready()
            self.first.made += calls
            return self.prepared.on_own_stack(queued, self.prepared.launch, self.prepared.wait, self.clock, range(calls))

        if not self.queue:
            calls = 1
            # The shorter of two blocks decides, so that one hiccup does not pass for a long call.
            while (took := min(block(calls), block(calls))) < enough_ns / 2:
                calls = max(calls + 1, math.ceil(calls * enough_ns / max(took, 1)))
            self.queue = calls
        blocks = tuple(block(self.queue) for _ in range(_THROUGHPUT_BLOCKS))
        return Series(SeriesKind.THROUGHPUT, self.queue, blocks, (), (), "visits")

    def device(self) -> Series | None:
        """The device series: one block of as many calls as `throughput` queued, 1000 at most, timed by the device's own clock.

        None where there is no such clock, or it could not be read. Reading it may take far longer than the calls themselves,
        since a profiler writes a trace for each block: so the wall time that goes to it has a cap.
        """
        over = self._unread >= _DEVICE_UNREAD or self._device_ns > _DEVICE_WALL_S * 1e9
        if not self.prepared.device_clock or over:
            return None
        calls, begun = min(self.queue or 1, _DEVICE_CALLS), self.clock()
        took_ns = self.prepared.device_time(calls)
        self.first.made += calls
        self._device_ns += self.clock() - begun
        if took_ns is None:
            self._unread += 1
            if self._unread >= _DEVICE_UNREAD:
                self.troubles["device"] = f"the profiler saw no work of the device, {_DEVICE_UNREAD} times"
            return None
        # The clock is asked for its name after the block: only then is it known whether the host queued the calls in time.
        method = self.prepared.device_clock
        return Series(SeriesKind.DEVICE, calls, (round(took_ns),), (), (), "visits", method=method)


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
