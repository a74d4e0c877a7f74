"""From a Cell to its Record: check the result, warm up, visit it, check the last result; and the pass for memory and energy."""

import copy
import gc
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import numpy as np

from harness.axes import Cache
from harness.backends.base import Backend, Operands, Prepared, unsupported
from harness.flags import Flag
from harness.measure import clock as clocks
from harness.measure import cuda_errors, footprint, later, machine, memory, oracle, power
from harness.measure.gpu import Gpu
from harness.measure.later import First
from harness.measure.ledger import Ledger
from harness.measure.operands import draw, integer_operands
from harness.measure.sampling import Sampler, Taken, Tools
from harness.measure.throttling import Guard
from harness.measure.witness import Company, Witness
from harness.measure.wrong import WrongResultError, check_of, fetched
from harness.plain import plain
from harness.plan import FIRST_VISITS, Budget, Step
from harness.record import Check, Memory, Power, Record, Samples, Series, SeriesKind, Status, Visit, joined, summed
from harness.spec import Cell

Deliver = Callable[[Record], None]


def _nobody(record: Record) -> None:
    """Nobody waits for it."""


class _Held:
    """A cell between its preparation and its end: its record as far as it is known, and what it holds."""

    def __init__(self, record: Record, ledger: Ledger) -> None:
        self.record, self.ledger = record, ledger
        self.flags: list[Flag] = []  # those of the record; the sampler adds to them
        self.closing = ExitStack()  # what lets go of the call
        self.check: Check | None = None
        self.first_call_ns, self.warmup_ns = 0, 0
        self.guard: Guard | None = None
        self.stays: tuple[Series, ...] = ()
        self.prepared: Prepared
        self.first: First
        self.sampler: Sampler

    def tell(self, **settings: str) -> None:
        """Add to the record's settings."""
        self.record = replace(self.record, settings={**(self.record.settings or {}), **settings})

    def end(self, status: Status, reason: str) -> None:
        """Say that no samples come of this step, and why."""
        self.record = replace(self.record, status=status, reason=reason, samples=None)

    @property
    def ended(self) -> bool:
        """Whether nothing more can be measured of it."""
        return self.record.status is not Status.OK


class Engine:
    """Measures cells with one backend in this process. Tests script its clock, yardstick and counters.

    A cell is prepared, visited, and finished; many may be prepared at once. Whatever goes wrong gives a record, after which the
    cell is let go of. `enter` is called with the name of each part that begins, and may be replaced at any time.

    Without `gpu` no cell is examined for throttling. Without `counters` no cell has an energy. Without `room` each cell is
    tried however much memory it needs. `cached`: compilers may find what they compiled in an earlier process, so that a first
    call says nothing of how long they take.
    """

    def __init__(
        self, backend: Backend, budget: Budget, seed: int, run_id: str, environment_id: str,
        clock: clocks.Clock = clocks.system, yardstick: Callable[[], int] | None = None, gpu: Gpu | None = None,
        counters: power.Counters | None = None, sleep: Callable[[float], None] = time.sleep,
        room: Callable[[], footprint.Room] | None = None, cached: bool = False,
    ) -> None:  # fmt: skip
        self.backend, self.budget, self.seed = backend, budget, seed
        self.run_id, self.environment_id, self.clock, self.yardstick = run_id, environment_id, clock, yardstick
        self.gpu, self.counters, self.sleep, self.room, self.cached = gpu, counters, sleep, room, cached
        self.clock_cost_ns = clocks.cost_ns(clock)
        self.nodes = machine.spanned(os.sched_getaffinity(0))
        self.enter: Callable[[str], None] = lambda name: None
        self._held: dict[int, _Held] = {}  # by the order of the step
        self._looking: Witness | None = None
        self._company = Company(gpu.processes) if gpu else None

    @property
    def holds(self) -> int:
        """How many cells are prepared."""
        return len(self._held)

    def apart(self, step: Step) -> str:
        """The settings of the process that a step needs, where those that are prepared need others; else an empty text."""
        wanted = self.backend.process_wide(step.cell)
        return wanted if any(self.backend.process_wide(held.record.cell) != wanted for held in self._held.values()) else ""

    def alone(self, step: Step, deliver: Deliver = _nobody) -> Record:
        """Its first call, its check, its memory and its energy, while no other cell is prepared; it is let go of then.

        `deliver` is called with the record before the call is let go of, since that may end the process.
        """
        held = self._begun(step)
        if not held.ended:
            self._guarded(held, lambda: self._beside(held))
        return self._end(held, deliver)

    def prepare(self, step: Step, deliver: Deliver = _nobody) -> Record | None:
        """Prepare a cell, check it, warm it up, and make its long stay where the budget asks for one.

        Returns its record where that failed; else it is ready to be visited.
        """
        held = self._begun(step)
        if not held.ended:
            self._guarded(held, lambda: self._warm(held))
        if held.ended:
            return self._end(held, deliver)
        self._held[step.order] = held
        return None

    def spent_ns(self, order: int) -> dict[str, int]:
        """Where the time of a prepared cell went since it was asked for last."""
        return self._held[order].ledger.taken()

    def calling(self, order: int) -> tuple[Sampler, Witness]:
        """What calls a prepared cell, and what looks at the machine meanwhile: for whoever makes other calls than visits do."""
        assert self._looking is not None
        return self._held[order].sampler, self._looking

    def visit(self, order: int, deliver: Deliver = _nobody) -> Taken | Record:
        """What a visit to a prepared cell brought; its record where that failed."""
        held, taken = self._held[order], Taken()

        def visit() -> None:
            nonlocal taken
            assert self._looking is not None
            gc.disable()
            taken = held.sampler.visit(self._looking)

        self._guarded(held, visit)
        return self._end(self._held.pop(order), deliver) if held.ended else taken

    def finish(self, order: int, deliver: Deliver = _nobody, *, alone: bool = False) -> Record:
        """The record of a prepared cell without the samples of its visits: its last result is checked, and it is let go of.

        With `alone`, which says that no other cell is prepared, its memory and its energy are read as well.
        """
        held = self._held.pop(order)
        self._guarded(held, lambda: self._checked_last(held))
        if alone and not held.ended:
            self._guarded(held, lambda: self._beside(held))
        return self._end(held, deliver)

    def measure(self, step: Step) -> Record:
        """The record of one step that is measured by itself, all its visits one after the other."""
        try:
            return self._measured(step)
        finally:
            self.close()

    def _measured(self, step: Step) -> Record:
        if record := self.prepare(step):
            return record
        visits, spent = [], self.spent_ns(step.order)
        for number in range(self.budget.visits or FIRST_VISITS):
            taken = self.visit(step.order)
            if isinstance(taken, Record):
                return replace(taken, spent_ns=summed(spent, taken.spent_ns))
            visits.append(Visit(step.order, 0, number, 0, **vars(taken)))
        record = self.finish(step.order, alone=True)
        whole = joined(record.samples, visits) if record.samples else None
        return replace(record, samples=whole, spent_ns=summed(spent, record.spent_ns))

    def close(self) -> None:
        """Let go of every prepared cell, and of what was opened to look at the machine."""
        for order in list(self._held):
            _let_go(self._held.pop(order))
        if self._looking:
            self._looking.__exit__()
            self._looking = None

    def _begun(self, step: Step) -> _Held:
        """A cell that was prepared and called once, and whose result was right; or whose record says what was wrong."""
        ledger = Ledger(self.clock, lambda name: self.enter(name))
        record = Record(
            self.run_id, step.trial, step.order, step.cell, Status.OK, datetime.now(UTC), environment_id=self.environment_id
        )  # fmt: skip
        held = _Held(record, ledger)
        self._guarded(held, lambda: self._begin(held))
        return held

    def _guarded(self, held: _Held, what: Callable[[], None]) -> None:
        """Do a part of the work; whatever the framework raises ends the cell, since a failed cell is a row."""
        try:
            what()
        except WrongResultError as wrong:
            held.record = replace(held.record, check=wrong.check)
            held.end(Status.INCORRECT, str(wrong))
        except Exception as error:
            held.end(*failure(error))
        finally:
            gc.enable()

    def _begin(self, held: _Held) -> None:
        cell, spending = held.record.cell, held.ledger.spending
        with spending("operands"):
            if reason := unsupported(self.backend, cell):
                held.end(Status.UNSUPPORTED, reason)
                return
            if too_large := self._too_large(cell):
                held.end(Status.SKIPPED, too_large)
                return
            operands, rng = draw(cell, self.seed)
        with spending("first_call"):
            held.prepared = prepared = self.backend.prepare(cell, operands)
            held.closing.callback(prepared.close)
            if reason := _cannot(cell, prepared):
                held.end(Status.UNSUPPORTED, reason)
                return
            handle = prepared.launch()
            prepared.wait(handle)
        held.first_call_ns = held.ledger.ns["first_call"]
        reason = self.backend.op_reason(cell)
        held.record = replace(held.record, op=prepared.op, op_reason=reason, settings=dict(prepared.settings))
        if cell.device.kind == "cpu" and len(self.nodes) > 1:
            held.tell(memory_nodes="+".join(map(str, self.nodes)))
        if self.cached:
            held.tell(programs="compiled once, in an earlier trial")
        if prepared.composite:
            held.flags.append(Flag.COMPOSITE)
        with spending("check"):
            held.check, held.first = checked(cell, prepared, operands, handle, rng)
        held.closing.callback(held.first.let_go)
        held.record = replace(held.record, check=held.check)
        held.guard = self._guard(held.ledger, self._company)
        tools = Tools(self.budget, self.clock, self.clock_cost_ns, held.ledger, self.yardstick, held.guard)
        held.sampler = Sampler(tools, cell, prepared, held.flags, held.first)

    def _guard(self, ledger: Ledger, company: Callable[[], int] | None = None) -> Guard | None:
        """What sets samples aside while the GPU is throttled; None on a CPU."""
        return Guard(self.gpu, self.budget, ledger, self.sleep, company) if self.gpu else None

    def _too_large(self, cell: Cell) -> str | None:
        """Why the cell cannot fit into memory, with the figures; None where it may. This is asked before anything is drawn."""
        if not self.room:
            return None
        prepadded = self.backend.pads_beforehand(cell)
        return footprint.need(cell, len(os.sched_getaffinity(0)), prepadded).lacking(self.room())

    def _warm(self, held: _Held) -> None:
        if self._looking is None:  # before the warm-up, since it takes two looks to see who else is active
            with held.ledger.spending("witness"):
                self._looking = Witness(self.clock)
        with held.ledger.spending("warmup"):
            held.warmup_ns = held.sampler.warm_up()
        if self.budget.stay_s:
            with held.ledger.spending("stay"):
                gc.disable()
                held.stays = _stay(held.sampler, self._looking, self._guard(Ledger(self.clock)))

    def _checked_last(self, held: _Held) -> None:
        """Compare the last result with the first one, and say what the visits have shown of the cell as a whole."""
        held.sampler.look()
        if changed := _changed(held.prepared):
            held.end(Status.ERROR, f"settings were changed while it was prepared: {changed}")
            return
        assert held.check is not None
        held.record = replace(held.record, check=held.first.told(held.check))
        held.tell(**{name: f"not measured ({why})" for name, why in held.sampler.troubles.items()})
        if held.sampler.crowded or (held.guard and held.guard.crowded):
            held.flags.append(Flag.CONTENDED)
        if held.guard:
            held.tell(**held.guard.noted())
        if held.guard and held.guard.flagged:
            held.flags.append(Flag.THROTTLED)
            held.tell(throttled=held.guard.seen)

    def _beside(self, held: _Held) -> None:
        """The memory of one call, the FLOP that the framework counts, and the energy of calls in a row."""
        held.first.let_go()  # otherwise it would be a part of the memory that is measured
        with held.ledger.spending("memory"):
            resident, flop = _memory(held.sampler.call, held.prepared)
        held.record = replace(held.record, memory=resident, flop_framework=flop)
        if self.counters:
            with held.ledger.spending("energy"):
                held.record = replace(held.record, power=self._power(held.prepared, self.counters))

    def _power(self, prepared: Prepared, counters: power.Counters) -> Power:
        """The energy of calls in a row. Where this fails the reason is told, since the samples must not be lost for it."""
        try:
            prepared.reset()
            calls, window_s = (prepared.launch, prepared.wait), self.budget.energy_window_s
            return prepared.on_own_stack(power.measure, *calls, window_s, self.clock, counters)
        except Exception as error:
            return Power(None, None, None, f"not measured ({failure(error)[1]})")

    def _end(self, held: _Held, deliver: Deliver) -> Record:
        """The record of a cell that is let go of."""
        record = held.record
        if not held.ended:
            first_call_ns = None if self.cached else held.first_call_ns
            record = replace(record, samples=Samples(held.stays, first_call_ns, held.warmup_ns, 0, 0, None))
        flags = tuple(flag for flag in Flag if flag in held.flags)
        record = replace(record, flags=flags, threads_used=self.backend.threads_used(), spent_ns=dict(held.ledger.ns))
        deliver(record)
        trouble = _let_go(held)
        settings = {**(record.settings or {}), "close": trouble} if trouble else record.settings
        return replace(record, settings=settings, spent_ns=held.ledger.taken())


def _stay(visiting: Sampler, looking: Witness, guard: Guard | None) -> tuple[Series, ...]:
    """The latency of one visit right after the other, as long as the budget says: how method 11 sampled a trial.

    Nothing where anything was compiled meanwhile. No trace is left in the flags, counts and times that visits go by.
    """
    sampler, parts = copy.copy(visiting), list[Series]()
    sampler.flags, sampler.guard, sampler.ledger = [], guard, Ledger(visiting.clock)
    compilations, until = sampler.prepared.compilations(), sampler.clock() + sampler.budget.stay_s * 1e9
    while not parts or sampler.clock() < until:
        if looking.stale:
            looking.refresh()
        parts.append(sampler.latency(looking, Taken()))
    if sampler.prepared.compilations() != compilations:
        return ()
    columns = zip(*((each.block_ns, each.run_delay_ns, each.others_ns, each.yardstick_ns) for each in parts), strict=True)
    block_ns, run_delay_ns, others_ns, yardstick_ns = (tuple(chain(*found)) if all(found) else () for found in columns)
    return (Series(SeriesKind.STAY, sampler.iterations, block_ns, run_delay_ns, others_ns, "visits", yardstick_ns),)


def _let_go(held: _Held) -> str:
    """Let go of a call. Returns why that failed, or an empty text; the record must not be lost for it."""
    with held.ledger.spending("operands"):
        try:
            held.closing.close()
        except Exception as error:
            return failure(error)[1]
    return ""


def _memory(call: Callable[[], None], prepared: Prepared) -> tuple[Memory, float | None]:
    """The memory of one call, and the FLOP that the framework counts. Where one fails the samples must not be lost for it."""
    try:
        found = memory.measure(call, prepared.device_memory())
    except Exception as error:
        found = Memory(None, None, None, None, f"not measured ({failure(error)[1]})")
    try:
        return found, prepared.flops()
    except Exception:  # the count is an extra, and its column stays empty
        return found, None


def _changed(prepared: Prepared) -> str:
    """Which settings are no longer what they were when the call was prepared; empty for none."""
    before, now = prepared.settings, prepared.read_settings()
    names = sorted(name for name in {**before, **now} if before.get(name) != now.get(name))
    return ", ".join(f"{name} from {before.get(name)} to {now.get(name)}" for name in names)


def _cannot(cell: Cell, prepared: Prepared) -> str | None:
    """Why the prepared call cannot be measured in this cell; None where it can."""
    if cell.cache is Cache.COLD and cell.device.kind != "cpu" and prepared.evict is None:
        return "this backend does not say how to overwrite the caches of a GPU"
    return None


def failure(error: Exception) -> tuple[Status, str]:
    """(the status, the reason on one line) of a cell that ended with this error."""
    first_line = next(iter(str(error).strip().splitlines()), "")
    text = plain(f"{type(error).__name__}: {first_line}")[:500]
    if note := cuda_errors.note(error):  # whether the process can go on is told by the text of the row
        text = f"{text} ({plain(note)[:300]})"
    return (Status.OOM if cuda_errors.starved(error) else Status.ERROR), text


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
