"""From a Cell to its Record: check the result, warm up, take the samples, then make the passes for memory and energy."""

import gc
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from harness.axes import Cache
from harness.backends.base import Backend, Operands, Prepared
from harness.measure import clock as clocks
from harness.measure import footprint, later, machine, memory, oracle, power
from harness.measure.gpu import Gpu
from harness.measure.later import First
from harness.measure.ledger import Ledger
from harness.measure.operands import draw, integer_operands
from harness.measure.sampling import Observe, Sampler, Tools, Totals
from harness.measure.throttling import Guard
from harness.measure.witness import Witness
from harness.measure.wrong import WrongResultError, check_of, fetched
from harness.plain import plain
from harness.plan import Budget, Step
from harness.record import Check, Flag, Memory, Power, Record, Samples, Series, Status
from harness.spec import Cell

# What errors contain when memory ran out: in PyTorch on a GPU and on the CPU, XLA, TensorFlow, and the C++ library.
_STARVED = ("OutOfMemory", "out of memory", "can't allocate memory", "RESOURCE_EXHAUSTED", "OOM when", "bad_alloc")


class _Draft:
    """The record of a step as far as it is known. A failure leaves what was found out before it."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.flags: list[Flag] = []  # those of the record; the sampler adds to them

    def tell(self, **settings: str) -> None:
        """Add to the record's settings."""
        self.record = replace(self.record, settings={**(self.record.settings or {}), **settings})

    def end(self, status: Status, reason: str) -> None:
        """Say that no samples come of this step, and why."""
        self.record = replace(self.record, status=status, reason=reason, samples=None)


class Engine:
    """Measures cells with one backend in this process. Tests script its clock, yardstick and counters.

    Without `gpu` no cell is examined for throttling. Without `counters` no cell has an energy. Without `room` each cell is
    tried however much memory it needs.
    """

    def __init__(
        self, backend: Backend, budget: Budget, seed: int, run_id: str, environment_id: str,
        clock: clocks.Clock = clocks.system, yardstick: Callable[[], int] | None = None, gpu: Gpu | None = None,
        counters: power.Counters | None = None, sleep: Callable[[float], None] = time.sleep,
        room: Callable[[], footprint.Room] | None = None,
    ) -> None:  # fmt: skip
        self.backend, self.budget, self.seed = backend, budget, seed
        self.run_id, self.environment_id, self.clock, self.yardstick = run_id, environment_id, clock, yardstick
        self.gpu, self.counters, self.sleep, self.room = gpu, counters, sleep, room
        self.clock_cost_ns = clocks.cost_ns(clock)
        self.nodes = machine.spanned(os.sched_getaffinity(0))

    def measure(
        self, step: Step, observe: Observe = lambda progress: None, enter: Callable[[str], None] = lambda name: None,
        deliver: Callable[[Record], None] = lambda record: None,
    ) -> Record:  # fmt: skip
        """The record of one step. A failure of any kind gives a record, too.

        `observe` is called between blocks with the progress, `enter` with the name of each part that begins, and `deliver` with
        the record before the call is let go of, since letting go may end the process.
        """
        ledger = Ledger(self.clock, enter)
        with ExitStack() as held:
            record = self._measured(step, observe, ledger, held)
            deliver(record)
            trouble = _let_go(held, ledger)
        settings = {**(record.settings or {}), "close": trouble} if trouble else record.settings
        return replace(record, settings=settings, spent_ns=dict(ledger.ns))

    def _measured(self, step: Step, observe: Observe, ledger: Ledger, held: ExitStack) -> Record:
        """The record of one step; `held` gets what lets go of its call."""
        draft = _Draft(Record(
            self.run_id, step.trial, step.order, step.cell, Status.OK, datetime.now(UTC), environment_id=self.environment_id
        ))  # fmt: skip
        guard = Guard(self.gpu, self.budget, ledger, self.sleep) if self.gpu else None
        tools = Tools(self.budget, self.clock, self.clock_cost_ns, ledger, observe, self.yardstick, guard)
        try:
            with ledger.spending("operands"):
                unsupported = self.backend.supports(step.cell)
                too_large = None if unsupported else self._too_large(step.cell)
            if unsupported:
                draft.end(Status.UNSUPPORTED, unsupported)
            elif too_large:
                draft.end(Status.SKIPPED, too_large)
            else:
                self._fill(draft, step.cell, tools, held)
        except Exception as error:  # whatever the framework raises: a failed cell is a row
            draft.end(*failure(error))
        finally:
            gc.enable()
        flags = tuple(flag for flag in Flag if flag in draft.flags)
        return replace(draft.record, flags=flags, threads_used=self.backend.threads_used(), spent_ns=dict(ledger.ns))

    def _too_large(self, cell: Cell) -> str | None:
        """Why the cell cannot fit into memory, with the figures; None where it may. This is asked before anything is drawn."""
        if not self.room:
            return None
        prepadded = self.backend.pads_beforehand(cell)
        return footprint.need(cell, len(os.sched_getaffinity(0)), prepadded).lacking(self.room())

    def _fill(self, draft: _Draft, cell: Cell, tools: Tools, held: ExitStack) -> None:
        """Measure a cell, and write into the draft what was found out."""
        spending = tools.ledger.spending
        with spending("operands"):
            operands, rng = draw(cell, self.seed)
        with spending("first_call"):
            prepared = self.backend.prepare(cell, operands)
            held.callback(prepared.close)
            if reason := _cannot(cell, prepared):
                draft.end(Status.UNSUPPORTED, reason)
                return
            handle = prepared.launch()
            prepared.wait(handle)
        draft.record = replace(draft.record, op=prepared.op, settings=dict(prepared.settings))
        if cell.device.kind == "cpu" and len(self.nodes) > 1:
            draft.tell(memory_nodes="+".join(map(str, self.nodes)))
        if prepared.composite:
            draft.flags.append(Flag.COMPOSITE)
        try:
            with spending("check"):
                check, first = checked(cell, prepared, operands, handle, rng)
            draft.record = replace(draft.record, check=check)
            del handle
            sampler = Sampler(tools, cell, prepared, draft.flags, first)
            warmup_ns, series, totals, troubles = sampled(sampler, tools)
            sampler.look()
        except WrongResultError as wrong:
            draft.record = replace(draft.record, check=wrong.check)
            draft.end(Status.INCORRECT, str(wrong))
            return
        first_call_ns = tools.ledger.ns["first_call"]
        samples = Samples(series, first_call_ns, warmup_ns, **vars(totals))
        draft.record = replace(draft.record, check=first.told(check), samples=samples)
        draft.tell(**troubles)
        first.let_go()  # otherwise it would be a part of the memory that is measured next
        with spending("memory"):
            resident, flop = _beside(sampler.call, prepared)
        draft.record = replace(draft.record, memory=resident, flop_framework=flop)
        if self.counters:
            with spending("energy"):
                draft.record = replace(draft.record, power=self._power(prepared, self.counters))
        if tools.guard and tools.guard.flagged:
            draft.flags.append(Flag.THROTTLED)
            draft.tell(throttled=tools.guard.seen)

    def _power(self, prepared: Prepared, counters: power.Counters) -> Power:
        """The energy of calls in a row. Where this fails the reason is told, since the samples must not be lost for it."""
        try:
            prepared.reset()
            calls, window_s = (prepared.launch, prepared.wait), self.budget.energy_window_s
            return prepared.on_own_stack(power.measure, *calls, window_s, self.clock, counters)
        except Exception as error:
            return Power(None, None, None, f"not measured ({failure(error)[1]})")


def _let_go(held: ExitStack, ledger: Ledger) -> str:
    """Let go of a call. Returns why that failed, or an empty text; the record must not be lost for it."""
    with ledger.spending("operands"):
        try:
            held.close()
        except Exception as error:
            return failure(error)[1]
    return ""


def sampled(sampler: Sampler, tools: Tools) -> tuple[int, tuple[Series, ...], Totals, dict[str, str]]:
    """Warm up and take every series of the cell.

    Returns (the time of the warm-up in ns, the series, the sums over the latency series, why other series could not be taken,
    by name).
    """
    spending = tools.ledger.spending
    with spending("witness"):  # before the warm-up, since it takes two looks to see who else is active
        looking = Witness(tools.clock)
    with looking:
        with spending("warmup"):
            warmup_ns = sampler.warm_up()
        gc.collect()
        gc.disable()
        with spending("sampling"):
            latency, totals = sampler.latency(looking)
            series, troubles = [latency], {}
            if not sampler.on_cpu and sampler.cell.cache is Cache.HOT:
                for take in (sampler.throughput, sampler.device):
                    try:
                        found = take()
                    except Exception as error:  # no permission to profile, a queue too deep: the latency series stays
                        troubles[take.__name__] = f"not measured ({failure(error)[1]})"
                    else:
                        series += [found] if found else []
        gc.enable()
    return warmup_ns, tuple(series), totals, troubles


def _beside(call: Callable[[], None], prepared: Prepared) -> tuple[Memory, float | None]:
    """The memory of one call, and the FLOP that the framework counts. Where one fails the samples must not be lost for it."""
    try:
        found = memory.measure(call, prepared.device_memory())
    except Exception as error:
        found = Memory(None, None, None, None, f"not measured ({failure(error)[1]})")
    try:
        return found, prepared.flops()
    except Exception:  # the count is an extra, and its column stays empty
        return found, None


def _cannot(cell: Cell, prepared: Prepared) -> str | None:
    """Why the prepared call cannot be measured in this cell; None where it can."""
    if cell.cache is Cache.COLD and cell.device.kind != "cpu" and prepared.evict is None:
        return "this backend does not say how to overwrite the caches of a GPU"
    return None


def failure(error: Exception) -> tuple[Status, str]:
    """(the status, the reason on one line) of a cell that ended with this error."""
    first_line = next(iter(str(error).strip().splitlines()), "")
    text = plain(f"{type(error).__name__}: {first_line}")[:500]
    starved = isinstance(error, MemoryError) or any(mark in f"{type(error).__name__} {error}" for mark in _STARVED)
    return (Status.OOM if starved else Status.ERROR), text


def checked(cell: Cell, prepared: Prepared, operands: Operands, handle: Any, rng: np.random.Generator) -> tuple[Check, First]:
    """Check the result of the first call on the timed operands, then that of the same call on integers (`oracle.exact`).

    Returns the check, and the first result, which later calls are compared with. Raises WrongResultError.
    """
    results = fetched(cell, prepared, handle)
    findings = oracle.spot(cell, operands, results, rng)
    check, first = check_of(findings), First(cell, operands, results, findings, later.by_lot(rng))
    del results
    if oracle.asks_exact(cell):
        integers = integer_operands(cell, rng)
        prepared.load(integers)
        handle = prepared.launch()
        prepared.wait(handle)
        first.made += 1
        right, method = oracle.exact(cell, integers, fetched(cell, prepared, handle), rng)
        if right:
            check = replace(check, method=f"{method}+spot")
        prepared.load(operands)
    return check, first
