import gc
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import count, repeat
from typing import Any

import numpy as np
import pytest

from harness.axes import Cache, Device, Direction
from harness.backends.base import Operands, Results
from harness.columns import SPENT
from harness.flags import Flag
from harness.measure import machine, operands
from harness.measure.engine import Engine
from harness.measure.footprint import Room
from harness.measure.gpu import State
from harness.measure.sampling import Sampler, Taken
from harness.measure.witness import Witness
from harness.plan import Budget, Step
from harness.record import Record, Status
from harness.spec import Cell
from tests.measure.scripted import (
    BUDGET,
    CALL,
    MS,
    TRAIN,
    Backend,
    Clock,
    Machine,
    Prepared,
    S,
    WithHooks,
    measure,
    series_of,
    step,
    then_always,
)


@pytest.mark.fault("a cell spans several memory nodes", "its settings say so")
@pytest.mark.parametrize(
    ("nodes", "device", "told"),
    [
        ((0, 1, 3), Device("cpu"), "0+1+3"),
        ((1,), Device("cpu"), None),
        ((), Device("cpu"), None),
        ((0, 1), Device("gpu"), None),
    ],
)
def test_a_cell_that_spans_several_memory_nodes_names_them(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, nodes: tuple[int, ...], device: Device, told: str | None
) -> None:
    monkeypatch.setattr(machine, "spanned", lambda cpus: nodes)
    record = measure(backend, device=device)
    assert record.status is Status.OK
    assert record.settings.get("memory_nodes") == told


def test_preparing_and_the_first_call_are_the_first_call(clock: Clock) -> None:
    backend = Backend(clock, then_always([30 * MS], CALL))
    backend.prepare_ns = 700 * MS
    record = measure(backend)
    assert record.samples.first_call_ns == 730 * MS
    assert record.spent_ns["first_call"] == 730 * MS
    assert max(series_of(record).block_ns) == CALL


def test_what_is_summed_over_the_visits_stands_in_the_record_under_its_name(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    visit = Sampler.visit

    def with_known_sums(sampler: Sampler, looking: Witness) -> Taken:
        return replace(visit(sampler, looking), wall_ns=7, cpu_ns=8, steal_ns=9)

    monkeypatch.setattr(Sampler, "visit", with_known_sums)
    samples = measure(backend).samples
    assert (samples.wall_ns, samples.cpu_ns, samples.steal_ns) == (21, 24, 27)


# What did not work is a record too ----------------------------------------------------------------------------------------


def off(results: Results) -> Results:
    return replace(results, y=results.y + 1)


def nth(changes: dict[int, Callable[[Results], Results]]) -> Callable[[Results], Results]:
    """Results changed where they are fetched for the so-manieth time, others as they are."""
    fetched = count(1)
    return lambda results: changes.get(next(fetched), lambda right: right)(results)


def test_a_wrong_result_is_incorrect_and_not_timed(backend: Backend) -> None:
    backend.distort = off
    record = measure(backend)
    assert record.status is Status.INCORRECT
    assert record.reason.startswith("spot check: y is wrong in 32 of 32 elements compared, the first at [0, 0, 0, 0]: got ")
    assert "(largest relative error " in record.reason
    assert record.check is not None
    assert not record.check.ok
    assert record.samples is None
    assert record.memory is None
    assert record.op == "scripted.call"
    assert backend.events.count("launch") == 1
    assert backend.events[-2:] == ["close", "clock"]


def test_a_result_that_is_not_exact_but_close_is_checked_by_spots(backend: Backend) -> None:
    backend.distort = nth({2: off})  # the call on integers
    record = measure(backend)
    assert record.status is Status.OK
    assert record.check.method == "spot"


def test_an_exact_result_says_so(backend: Backend) -> None:
    assert measure(backend).check.method == "exact+spot"
    assert measure(backend, **TRAIN).check.method == "spot"


def test_the_timed_operands_are_the_normal_ones_again(backend: Backend) -> None:
    measure(backend)
    x = backend.prepared.reference._x
    assert not np.array_equal(x, np.round(x))


def raising(event: str, error: Exception, times: int) -> Callable[[str], None]:
    """Raise at the so-manieth occurrence of an event."""
    seen = iter(range(1, 1_000_000))

    def fail(happened: str) -> None:
        if happened == event and next(seen) == times:
            raise error

    return fail


STAGES = [("prepare", 1), ("launch", 1), ("wait", 1), ("load", 1), ("launch", 2), ("load", 2), ("launch", 4), ("wait", 15)]


@pytest.mark.parametrize(("event", "times"), STAGES)
def test_an_exception_is_an_error_row_with_the_first_line_of_its_message(
    backend: Backend, machine: Machine, event: str, times: int
) -> None:
    backend.fail = raising(event, ValueError("no such thing\n  at line 7"), times)
    record = measure(backend)
    assert record.status is Status.ERROR
    assert record.reason == "ValueError: no such thing"
    assert record.samples is None
    assert record.environment_id == "env"
    assert gc.isenabled()
    assert machine.open == 0
    assert (backend.events[-2:] == ["close", "clock"]) == (event != "prepare")
    assert backend.events.count("close") <= 1


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        RuntimeError("RESOURCE_EXHAUSTED: failed to allocate"),
        type("OutOfMemoryError", (RuntimeError,), {})("full"),
        RuntimeError("std::bad_alloc"),
    ],
    ids=lambda error: f"{type(error).__name__} {error}"[:30],
)
def test_memory_that_ran_out_is_told_apart(backend: Backend, error: Exception) -> None:
    backend.fail = raising("launch", error, 1)
    record = measure(backend)
    assert record.status is Status.OOM
    assert record.reason.startswith(f"{type(error).__name__}: ")


def test_a_very_long_message_is_cut(backend: Backend) -> None:
    backend.fail = raising("prepare", ValueError("x" * 10_000), 1)
    assert len(measure(backend).reason) == 500


def test_what_the_backend_does_not_support_is_a_row_with_its_reason(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "supports", lambda cell: "it has no such arithmetic")
    record = measure(backend)
    assert (record.status, record.reason) == (Status.UNSUPPORTED, "it has no such arithmetic")
    assert "prepare" not in backend.events
    assert record.check is None


def test_what_cannot_fit_is_skipped_with_the_figures_and_nothing_is_drawn(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operands, "normal_operands", lambda *asked: pytest.fail("operands were drawn"))
    rooms = iter([Room(2000), Room(None)])
    engine = Engine(backend, BUDGET, 11, "run", "env", backend.clock, room=lambda: next(rooms))
    record = engine.measure(step())
    assert record.status is Status.SKIPPED
    needed = "needs about 3.17 KiB of memory (operands 528 B, first result 128 B, tensors 784 B, check 1.77 KiB); 1.95"
    assert record.reason.startswith(needed)
    assert {"prepare", "launch"} & set(backend.events) == set()
    assert set(record.spent_ns) <= {"operands"}
    monkeypatch.undo()
    assert engine.measure(step()).status is Status.OK  # nobody tells how much there is


def test_what_is_not_supported_needs_no_memory(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "supports", lambda cell: "it has no such arithmetic")
    record = Engine(backend, BUDGET, 11, "run", "env", backend.clock, room=lambda: Room(0)).measure(step())
    assert record.status is Status.UNSUPPORTED


def test_a_backend_that_fails_to_say_what_it_supports_is_a_row_too(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    def supports(cell: Cell) -> str | None:
        raise KeyError("dilation")

    monkeypatch.setattr(backend, "supports", supports)
    assert measure(backend).status is Status.ERROR


def test_cold_caches_on_a_gpu_need_a_backend_that_can_overwrite_them(backend: Backend) -> None:
    record = measure(backend, cache=Cache.COLD, device=Device("gpu"))
    assert record.status is Status.UNSUPPORTED
    assert "overwrite the caches of a GPU" in record.reason
    assert backend.events.count("launch") == 0
    assert backend.events.count("close") == 1


def test_the_next_cell_is_measured_after_a_failure(backend: Backend) -> None:
    backend.fail = raising("launch", ValueError("once"), 1)
    assert measure(backend).status is Status.ERROR
    assert measure(backend).status is Status.OK


# Many cells at once -------------------------------------------------------------------------------------------------------


@pytest.fixture
def bench(backend: Backend) -> Engine:
    return Engine(backend, BUDGET, 11, "run", "env", backend.clock)


def of(order: int, **axes: Any) -> Step:
    return Step(2, order, step(**axes).cell)


def test_cells_that_are_prepared_at_once_are_visited_in_any_order(bench: Engine) -> None:
    assert bench.prepare(of(1)) is None
    assert bench.prepare(of(2, workload="other")) is None
    assert bench.holds == 2
    for order in (2, 1, 1, 2, 2):
        taken = bench.visit(order)
        assert isinstance(taken, Taken)
        assert [series.block_ns for series in taken.series] == [(CALL,) * 3]
    first, other = bench.finish(1), bench.finish(2)
    assert (first.status, other.status) == (Status.OK, Status.OK)
    assert (first.cell.workload, other.cell.workload) == ("conv", "other")
    assert (first.order, other.order) == (1, 2)
    # 3 calls that are checked, 3 of warm-up, 4 of each visit, and the one that is compared with the first.
    assert [record.check.compared_calls for record in (first, other)] == [(3, 15), (3, 19)]
    assert bench.holds == 0


def test_what_a_cell_took_is_asked_for_part_by_part(bench: Engine) -> None:
    bench.prepare(of(1))
    assert bench.spent_ns(1)["first_call"] == CALL
    bench.visit(1)
    assert bench.spent_ns(1) == {"witness": 0, "sampling": 4 * CALL}
    assert bench.spent_ns(1) == {}
    assert bench.finish(1).spent_ns == {"check": CALL, "operands": 0}


@pytest.mark.parametrize("what", ["visit", "finish"])
def test_a_cell_that_fails_leaves_the_others_prepared(bench: Engine, backend: Backend, what: str) -> None:
    bench.prepare(of(1))
    bench.prepare(of(2))
    backend.fail = raising("launch", ValueError("no more"), 1)
    delivered: list[Record] = []
    found = getattr(bench, what)(1, delivered.append)
    assert isinstance(found, Record)
    assert (found.status, found.reason, found.order) == (Status.ERROR, "ValueError: no more", 1)
    assert [record.status for record in delivered] == [Status.ERROR]
    assert bench.holds == 1
    assert isinstance(bench.visit(2), Taken)
    assert bench.finish(2).status is Status.OK
    assert gc.isenabled()


def test_a_result_that_is_wrong_after_the_last_visit_is_found(bench: Engine, backend: Backend) -> None:
    bench.prepare(of(1))
    bench.visit(1)
    backend.distort = off
    record = bench.finish(1)
    assert record.status is Status.INCORRECT
    assert record.reason.startswith("right in the first call, wrong in the 11th: y is wrong")
    assert record.samples is None


def test_what_is_read_alone_has_memory_and_a_first_call_and_no_visit(bench: Engine, backend: Backend) -> None:
    backend.kind = WithHooks
    record = bench.alone(of(1))
    assert (record.status, record.flop_framework) == (Status.OK, 576.0)
    assert record.memory.device_peak_bytes == 3000
    assert record.samples.first_call_ns == CALL
    assert record.samples.series == ()
    assert bench.holds == 0
    bench.prepare(of(1))
    bench.visit(1)
    assert bench.finish(1).memory is None  # another cell may be prepared beside it


def test_whatever_is_prepared_is_let_go_of_in_the_end(bench: Engine, backend: Backend, machine: Machine) -> None:
    bench.prepare(of(1))
    bench.prepare(of(2))
    bench.visit(2)
    bench.close()
    assert backend.events.count("close") == 2
    assert (bench.holds, machine.open) == (0, 0)


# The record ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", [direction for direction in Direction if direction is not Direction.NONE])
def test_every_ok_record_is_complete(backend: Backend, direction: Direction) -> None:
    asked = TRAIN if direction is Direction.TRAIN else {"direction": direction}
    record = measure(backend, **asked)
    assert record.status is Status.OK
    assert record.reason == ""
    assert (record.run_id, record.trial, record.order) == ("run", 2, 7)
    assert record.cell == step(**asked).cell
    assert record.environment_id == "env"
    assert record.threads_used == 3
    assert record.op_reason == f"scripted: {record.cell.direction}"
    assert (record.op, record.settings) == ("scripted.call", {"tuning": "none"})
    assert record.check.ok
    assert record.check.max_rel_err <= record.check.tolerance
    assert series_of(record).stopped_by == "visits"
    assert record.memory.method
    assert record.started_at.tzinfo is not None
    assert set(record.spent_ns) == {"operands", "first_call", "check", "warmup", "sampling", "witness", "memory"}
    assert set(record.spent_ns) <= set(SPENT)
    assert backend.events[-2:] == ["close", "clock"]


def test_the_frameworks_own_counters_are_used_where_there_are_any(backend: Backend) -> None:
    without = measure(backend)
    backend.kind = WithHooks
    told = measure(backend)
    assert (without.flop_framework, without.memory.device_peak_bytes) == (None, None)
    assert told.flop_framework == 576.0
    assert (told.memory.device_base_bytes, told.memory.device_peak_bytes) == (1000, 3000)
    assert "device: scripted counter" in told.memory.method


def test_a_counter_that_has_nothing_to_say(backend: Backend) -> None:
    class Silent(Prepared):
        def device_memory(self) -> None:
            return None

        def flops(self) -> None:
            return None

    backend.kind = Silent
    record = measure(backend)
    assert record.status is Status.OK
    assert (record.flop_framework, record.memory.device_peak_bytes) == (None, None)


def test_operands_depend_on_seed_and_workload_and_on_nothing_else(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Operands] = []
    original = operands.normal_operands
    monkeypatch.setattr(operands, "normal_operands", lambda *asked: drawn.append(original(*asked)) or drawn[-1])
    for seed, axes in [(1, {}), (1, {"direction": Direction.WGRAD}), (1, {"workload": "other"}), (2, {})]:
        Engine(Backend(clock, repeat(CALL)), BUDGET, seed, "run", "env", clock).measure(step(**axes))
    first, direction, workload, seed = (each.x for each in drawn)
    assert np.array_equal(first, direction)
    assert not np.array_equal(first, workload)
    assert not np.array_equal(first, seed)


def test_a_cell_is_measured_by_the_real_clock_too() -> None:
    from harness.backends.numpy import NumpyBackend

    tiny = Budget(warmup_cpu_s=0, warmup_max_s=0.01, block_s=1e-5, visits=2, visit_s=0.001)
    record = Engine(NumpyBackend(Device("cpu"), 1), tiny, 1, "run", "env").measure(step(backend="numpy"))
    assert record.status is Status.OK
    assert all(block > 0 for block in series_of(record).block_ns)
    assert math.isfinite(record.check.max_rel_err)


# Energy ---------------------------------------------------------------------------------------------------------------------


class Meter:
    """A counter of 10 W that moves every millisecond of the scripted clock."""

    source, missing = "scripted counter", ""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def read(self) -> tuple[int, ...]:
        return (self.clock.now // MS * 10,)

    def joules(self, before: tuple[int, ...], after: tuple[int, ...]) -> float:
        return (after[0] - before[0]) / 1e3

    def state(self) -> State:
        return State()


def with_counters(backend: Backend, counters: Any) -> Record:
    return Engine(backend, BUDGET, 11, "run", "env", backend.clock, counters=counters).measure(step())


def test_energy_is_that_of_a_window_of_calls(backend: Backend) -> None:
    record = with_counters(backend, Meter(backend.clock))
    assert record.power.source == "scripted counter"
    assert record.power.window_ns >= S
    assert record.power.energy_j / (record.power.window_ns / S) == pytest.approx(10, rel=0.01)
    assert record.power.calls > 50  # launching one takes a quarter of it
    assert record.spent_ns["energy"] >= record.power.window_ns


def test_the_calls_of_the_window_run_on_the_stack_that_the_backend_has_for_them(backend: Backend) -> None:
    """Samples and energy are of the same call, and so is what it finds above itself."""
    within: list[bool] = []
    inside = False

    class OnOwnStack(Prepared):
        def on_own_stack(self, run: Callable[..., Any], *arguments: Any) -> Any:
            nonlocal inside
            inside = True
            try:
                return run(*arguments)
            finally:
                inside = False

    class Noting(Meter):
        def read(self) -> tuple[int, ...]:
            within.append(inside)
            return super().read()

    backend.kind = OnOwnStack
    record = with_counters(backend, Noting(backend.clock))
    assert record.power.energy_j is not None
    assert within
    assert all(within)


def test_a_counter_that_fails_costs_no_samples(backend: Backend) -> None:
    class Broken(Meter):
        def read(self) -> tuple[int, ...]:
            raise OSError("the counter is gone")

    record = with_counters(backend, Broken(backend.clock))
    assert record.status is Status.OK
    assert record.samples is not None
    assert record.power.energy_j is None
    assert "the counter is gone" in record.power.source


def test_letting_go_costs_no_samples(backend: Backend) -> None:
    class Clinging(Prepared):
        def close(self) -> None:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    backend.kind = Clinging
    record = measure(backend)
    assert record.status is Status.OK
    assert record.samples is not None
    assert "illegal memory access" in record.settings["close"]  # the worker looks there for what is fatal


def test_a_call_that_does_more_than_its_name_says_so(backend: Backend) -> None:
    class Padded(Prepared):
        composite = True

    backend.kind = Padded
    assert measure(backend).flags == (Flag.COMPOSITE,)
