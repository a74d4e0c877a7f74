import gc
import math
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import cycle, pairwise, repeat
from typing import Any

import numpy as np
import pytest

from harness.backends.base import Operands, Results
from harness.measure import engine, oracle, witness
from harness.measure.engine import Engine
from harness.record import Flag, Progress, Record, SeriesKind, Status
from harness.spec import Budget, Cache, Cell, Device, Direction, Optimizer, Step
from tests import builders
from tests.measure.scripted import MS, Backend, Clock, Prepared, S, WithHooks, then_always

BUDGET = Budget(warmup_cpu_s=0.01, min_time_s=0.05)
CALL = 2 * MS


class Machine:
    """What the witnesses say: per group of blocks, the share of its time that our threads waited and that others ran."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.waited: Iterator[float] | None = repeat(0.0)
        self.others: Iterator[float] | None = repeat(0.0)
        self.reading_ns = 0
        self.open = 0

    def delay(self) -> "Reading":
        return Reading(self, self.waited, self.reading_ns)

    def rest(self) -> "Reading":
        return Reading(self, self.others, 0)


class Reading:
    """One witness: the first reading learns what reading costs, then readings stand before and after each group."""

    def __init__(self, machine: Machine, shares: Iterator[float] | None, cost_ns: int) -> None:
        self.machine, self.shares, self.cost_ns = machine, shares, cost_ns
        self.total, self.readings, self.begun = 0.0, 0, 0
        machine.open += 1

    def refresh(self, since_ns: float = 0) -> None:
        pass

    def read(self) -> float | None:
        clock = self.machine.clock
        if self.shares is None:
            return None
        self.readings += 1
        if self.readings > 1 and self.readings % 2:
            self.total += next(self.shares) * (clock.now - self.begun)
        clock.pass_(self.cost_ns)
        self.begun = clock.now
        return self.total

    def close(self) -> None:
        self.machine.open -= 1


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def machine(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Machine:
    found = Machine(clock)
    monkeypatch.setattr(witness, "RunDelay", found.delay)
    monkeypatch.setattr(witness, "Others", found.rest)
    monkeypatch.setattr(witness, "steal_ns", lambda: None)
    return found


@pytest.fixture
def backend(clock: Clock) -> Backend:
    return Backend(clock, repeat(CALL))


def step(**overrides: Any) -> Step:
    return Step(trial=2, order=7, cell=builders.cell(**{"backend": "scripted", **overrides}))


TRAIN = {"direction": Direction.TRAIN, "optimizer": Optimizer.SGD}


def measure(
    backend: Backend, budget: Budget = BUDGET, observe: Callable[[Progress], None] | None = None, **cell: Any
) -> Record:
    of = Engine(backend, budget, seed=11, run_id="run", environment_id="env", clock=backend.clock)
    backend.events.clear()
    return of.measure(step(**cell), observe) if observe else of.measure(step(**cell))


def series_of(record: Record) -> Any:
    assert record.status is Status.OK, record.reason
    assert record.samples is not None
    (series,) = record.samples.series
    return series


def timed(backend: Backend) -> str:
    """What happened until the memory pass, whose one call is not timed though its step is."""
    assert backend.events[-5:] == ["clock", "launch", "wait", "clock", "close"]
    return " ".join(backend.events[:-4])


# The time is read exactly -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tick", [0, 90])
@pytest.mark.parametrize("call_ns", [1_000_001, CALL, 40 * MS, 2 * S])
def test_a_call_that_fills_a_block_is_read_to_the_nanosecond(tick: int, call_ns: int) -> None:
    series = series_of(measure(Backend(Clock(tick), repeat(call_ns))))
    assert series.kind is SeriesKind.LATENCY
    assert series.iterations == 1
    assert set(series.block_ns) == {call_ns + tick}  # one reading of the clock lies between


@pytest.mark.parametrize(("call_ns", "iterations"), [(999_999, 2), (300_000, 4), (30_000, 34), (170, 5883)])
def test_short_calls_are_put_into_a_block_of_a_millisecond(clock: Clock, call_ns: int, iterations: int) -> None:
    series = series_of(measure(Backend(clock, repeat(call_ns)), replace(BUDGET, max_samples=40)))
    assert series.iterations == iterations
    assert set(series.block_ns) == {iterations * call_ns}


def test_a_block_dwarfs_a_clock_that_is_dear() -> None:
    tick = 1_000
    series = series_of(measure(Backend(Clock(tick), repeat(100_000)), replace(BUDGET, max_samples=40)))
    assert series.iterations == 99 + 1  # 10 ms are 10^4 readings; the first block of one call took 101 us
    assert set(series.block_ns) == {100 * 100_000 + tick}


def test_a_block_that_turns_out_short_is_enlarged_again(clock: Clock) -> None:
    # first call, integers, a cold first block of 0.5 ms, and from then on 0.1 ms: 2 calls are too few, 10 are enough
    backend = Backend(clock, then_always([CALL, CALL, 500_000], 100_000))
    series = series_of(measure(backend, replace(BUDGET, max_samples=40)))
    assert series.iterations == 10


def test_only_a_hot_cpu_takes_several_calls_in_a_block(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_last_level_cache", lambda: 4096)
    for axes in ({"cache": Cache.COLD}, {"device": Device("gpu")}):
        assert series_of(measure(Backend(clock, repeat(100_000)), replace(BUDGET, max_samples=40), **axes)).iterations == 1


def test_samples_are_in_the_order_of_measuring(clock: Clock) -> None:
    steps = range(CALL, CALL + 32_000, 1_000)
    backend = Backend(clock, then_always([CALL] * 2 + [CALL] * 5 + list(steps), CALL))
    series = series_of(measure(backend))
    assert series.block_ns == tuple(steps)


def test_preparing_and_the_first_call_are_the_first_call(clock: Clock) -> None:
    backend = Backend(clock, then_always([30 * MS], CALL))
    backend.prepare_ns = 700 * MS
    record = measure(backend)
    assert record.samples.first_call_ns == 730 * MS
    assert record.spent_ns["first_call"] == 730 * MS
    assert max(series_of(record).block_ns) == CALL


def test_wall_time_is_that_of_the_samples(backend: Backend) -> None:
    record = measure(backend)
    assert record.samples.wall_ns == sum(series_of(record).block_ns)
    assert record.samples.cpu_ns >= 0


def test_steal_is_what_was_added_while_sampling(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([40, 100])
    monkeypatch.setattr(witness, "steal_ns", lambda: next(readings))
    assert measure(backend).samples.steal_ns == 60


def test_between_two_readings_of_the_clock_stand_launch_and_wait_alone(backend: Backend) -> None:
    series = series_of(measure(backend, **TRAIN))
    assert timed(backend).count("clock launch wait clock") == len(series.block_ns) + 5  # and 10 ms of warm-up


# Warm-up ------------------------------------------------------------------------------------------------------------------


def warmup(clock: Clock, durations: list[int], last: int, **budget: Any) -> Record:
    """The record of a cell whose warm-up takes these durations; the first call and the exact check came before."""
    return measure(Backend(clock, then_always([CALL, CALL, *durations], last)), replace(BUDGET, **budget))


def test_warm_up_ends_when_two_blocks_in_a_row_agree(clock: Clock) -> None:
    blocks = [20 * MS, 15 * MS, 12 * MS, 10 * MS, 10 * MS + 400_000]
    record = warmup(clock, blocks, 10 * MS, warmup_cpu_s=0)
    assert record.samples.warmup_ns == sum(blocks)
    assert record.spent_ns["warmup"] == sum(blocks)
    assert set(series_of(record).block_ns) == {10 * MS}
    assert Flag.UNSTEADY_WARMUP not in record.flags


def test_warm_up_takes_its_least_number_of_calls(clock: Clock) -> None:
    assert warmup(clock, [], 10 * MS, warmup_cpu_s=0, warmup_calls=7).samples.warmup_ns == 70 * MS


def test_warm_up_takes_its_least_time(clock: Clock) -> None:
    assert warmup(clock, [], 2 * MS, warmup_cpu_s=0.1).samples.warmup_ns == 100 * MS


def test_a_gpu_warms_up_longer(clock: Clock) -> None:
    record = measure(Backend(clock, repeat(10 * MS)), BUDGET, device=Device("gpu"))
    assert record.samples.warmup_ns == 500 * MS


def test_a_single_block_agrees_with_nothing(clock: Clock) -> None:
    record = warmup(clock, [30 * MS], 10 * MS, warmup_cpu_s=0, warmup_calls=1)
    assert record.samples.warmup_ns == 50 * MS


def test_the_first_block_of_a_new_size_agrees_with_nothing(clock: Clock) -> None:
    # One call of 0.1 ms, so blocks of ten: the first takes 4 ms, the next 1 ms and 1 ms.
    durations = [100_000] + [400_000] * 10
    record = warmup(clock, durations, 100_000, warmup_cpu_s=0, warmup_calls=1, max_samples=40)
    assert record.samples.warmup_ns == 100_000 + 4 * MS + 2 * MS
    assert set(series_of(record).block_ns) == {1 * MS}


def test_warm_up_that_does_not_get_steady_ends_at_its_cap_and_is_flagged(clock: Clock) -> None:
    backend = Backend(clock, cycle([100 * MS, 200 * MS]))
    record = measure(backend, BUDGET)
    assert Flag.UNSTEADY_WARMUP in record.flags
    assert 5 * S <= record.samples.warmup_ns <= 5 * S + 200 * MS


def test_slow_but_steady_calls_are_not_flagged(clock: Clock) -> None:
    record = measure(Backend(clock, repeat(2 * S)))
    assert record.samples.warmup_ns == 6 * S
    assert Flag.UNSTEADY_WARMUP not in record.flags


# What did not work is a record too ----------------------------------------------------------------------------------------


def off(results: Results) -> Results:
    return replace(results, y=results.y + 1)


def test_a_wrong_result_is_incorrect_and_not_timed(backend: Backend) -> None:
    backend.distort = off
    record = measure(backend)
    assert record.status is Status.INCORRECT
    assert record.reason.startswith("largest relative error ")
    assert "allowed " in record.reason
    assert record.check is not None
    assert not record.check.ok
    assert record.samples is None
    assert record.memory is None
    assert record.op == "scripted.call"
    assert backend.events.count("launch") == 1
    assert backend.events[-1] == "close"


def test_a_result_that_is_not_exact_but_close_is_checked_by_spots(backend: Backend) -> None:
    answers = iter([lambda results: results, off])
    backend.distort = lambda results: next(answers)(results)
    record = measure(backend)
    assert record.status is Status.OK
    assert record.check.method == "spot"


def test_an_exact_result_says_so(backend: Backend) -> None:
    assert measure(backend).check.method == "exact+spot"
    assert measure(backend, **TRAIN).check.method == "spot"


def test_the_timed_operands_are_the_normal_ones_again(backend: Backend) -> None:
    measure(backend)
    x = backend.prepared.reference.x
    assert not np.array_equal(x, np.round(x))


def raising(event: str, error: Exception, times: int) -> Callable[[str], None]:
    """Raise at the so-manieth occurrence of an event."""
    seen = iter(range(1, 1_000_000))

    def fail(happened: str) -> None:
        if happened == event and next(seen) == times:
            raise error

    return fail


STAGES = [("prepare", 1), ("launch", 1), ("wait", 1), ("load", 1), ("launch", 2), ("load", 2), ("launch", 4), ("wait", 20)]


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
    assert (backend.events[-1] == "close") == (event != "prepare")
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


def test_a_backend_that_fails_to_say_what_it_supports_is_a_row_too(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    def supports(cell: Cell) -> str | None:
        raise KeyError("dilation")

    monkeypatch.setattr(backend, "supports", supports)
    assert measure(backend).status is Status.ERROR


def test_cold_caches_on_a_gpu_are_unsupported(backend: Backend) -> None:
    record = measure(backend, cache=Cache.COLD, device=Device("gpu"))
    assert record.status is Status.UNSUPPORTED
    assert "CPU only" in record.reason


def test_the_next_cell_is_measured_after_a_failure(backend: Backend) -> None:
    backend.fail = raising("launch", ValueError("once"), 1)
    assert measure(backend).status is Status.ERROR
    assert measure(backend).status is Status.OK


def test_the_collector_rests_while_sampling_and_only_then(backend: Backend) -> None:
    seen: list[bool] = []
    backend.fail = lambda event: seen.append(gc.isenabled()) if event == "launch" else None
    series = series_of(measure(backend))
    sampled = len(series.block_ns)
    assert seen == [True] * 7 + [False] * sampled + [True]  # 2 checks and 5 warm-up blocks before, the memory pass after
    assert gc.isenabled()


# Before and between blocks ------------------------------------------------------------------------------------------------


def test_training_starts_from_the_same_filter_in_every_block_and_the_reset_is_not_timed(backend: Backend) -> None:
    backend.reset_ns = 20 * MS
    series = series_of(measure(backend, **TRAIN))
    assert set(series.block_ns) == {CALL}
    events = timed(backend)
    assert events.count("reset clock launch wait clock") == events.count("clock launch wait clock") == len(series.block_ns) + 3


def test_other_directions_are_not_reset(backend: Backend) -> None:
    measure(backend, direction=Direction.BPROP)
    assert "reset" not in backend.events


def test_cold_caches_are_made_so_before_each_block_and_that_is_not_timed(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Eviction:
        def __call__(self) -> None:
            backend.note("evict")
            backend.clock.pass_(20 * MS)

    monkeypatch.setattr(engine, "Eviction", Eviction)
    series = series_of(measure(backend, cache=Cache.COLD))
    assert set(series.block_ns) == {CALL}
    events = timed(backend)
    cold = re.findall("evict(?: clock)+ launch wait clock", events)
    assert len(cold) == events.count("clock launch wait clock") == len(series.block_ns) + 3


def test_an_eviction_streams_over_twice_the_last_level_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_last_level_cache", lambda: 2**20)
    eviction = engine.Eviction()
    eviction()
    eviction()
    assert eviction.buffer.nbytes == 2 * 2**20
    assert set(eviction.buffer) == {2.0 * len(os.sched_getaffinity(0))}  # each core has caches of its own
    assert eviction.cores == sorted(os.sched_getaffinity(0))


def test_the_last_level_cache_is_the_largest_that_the_kernel_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for index, size in enumerate(["48K", "2048K", "100M"]):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}" / "size").write_text(f"{size}\n")
    monkeypatch.setattr(engine, "Path", lambda name: tmp_path)
    assert engine._last_level_cache() == 100 * 2**20


def test_a_kernel_that_names_no_cache_gets_a_large_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(engine, "Path", lambda name: tmp_path)
    assert engine._last_level_cache() == 32 * 2**20


# Progress -----------------------------------------------------------------------------------------------------------------


def test_progress_is_told_at_most_once_a_second_and_watching_is_not_timed(clock: Clock) -> None:
    backend = Backend(clock, cycle([99 * MS, 100 * MS, 103 * MS]))
    told_at: list[int] = []
    told: list[Progress] = []

    def observe(progress: Progress) -> None:
        backend.note("observe")
        told_at.append(clock.now)
        told.append(progress)
        clock.pass_(3 * S)  # drawing is slow

    series = series_of(measure(backend, BUDGET, observe))
    assert len(told) >= 2
    assert all(later - earlier >= 4 * S for earlier, later in pairwise(told_at))
    assert set(series.block_ns) == {99 * MS, 100 * MS, 103 * MS}
    assert [progress.samples for progress in told] == sorted(progress.samples for progress in told)
    assert all(99 * MS <= progress.low_ns <= progress.median_ns <= progress.high_ns <= 103 * MS for progress in told)


def test_after_watching_comes_one_call_that_is_not_timed(clock: Clock) -> None:
    backend = Backend(clock, cycle([99 * MS, 100 * MS, 103 * MS]))
    measure(backend, BUDGET, lambda progress: backend.note("observe"))
    events = backend.events
    after = [events[at + 1 : at + 4] for at, event in enumerate(events) if event == "observe"]
    assert after
    assert all(following == ["launch", "wait", "clock"] for following in after)
    before = [events[at - 1] for at, event in enumerate(events) if event == "observe"]
    assert set(before) == {"clock"}


def test_progress_is_told_per_call(clock: Clock) -> None:
    backend = Backend(clock, repeat(100_000))
    told: list[Progress] = []
    measure(backend, replace(BUDGET, min_time_s=1.5, max_samples=10_000), told.append)
    assert told
    assert {progress.median_ns for progress in told} == {100_000}


def test_a_short_cell_tells_no_progress(backend: Backend) -> None:
    told: list[Progress] = []
    measure(backend, BUDGET, told.append)
    assert told == []


# Contention ---------------------------------------------------------------------------------------------------------------


def slower_where(shares: list[float], block: int) -> Iterator[int]:
    """Durations of the sampled calls: ten times longer where the block will be found contended."""
    return cycle([10 * block if share > 0.01 else block for share in shares])


def contended_run(clock: Clock, machine: Machine, shares: list[float], budget: Budget = BUDGET) -> Record:
    """A cell whose sampled blocks, in turn, were disturbed for these shares of their time."""
    machine.waited, machine.others = cycle(shares), cycle(shares)
    sampled = slower_where(shares, CALL)
    durations = (CALL if at < 7 else next(sampled) for at in iter(range(1_000_000)))
    return measure(Backend(clock, durations), budget)


def test_contended_blocks_are_kept_with_their_delay_and_replaced(clock: Clock, machine: Machine) -> None:
    record = contended_run(clock, machine, [0.05] + [0.0] * 9)
    series = series_of(record)
    assert series.stopped_by == "interval"
    disturbed = [block for block, delay in zip(series.block_ns, series.run_delay_ns, strict=True) if delay > 0]
    assert set(disturbed) == {10 * CALL}
    assert len(series.block_ns) - len(disturbed) == 32  # as many clean ones as without
    assert {delay for delay in series.run_delay_ns if delay} == {CALL // 2}
    assert series.run_delay_ns == series.others_ns
    assert Flag.CONTENDED not in record.flags


def test_over_a_fifth_of_contended_blocks_is_flagged(clock: Clock, machine: Machine) -> None:
    record = contended_run(clock, machine, [0.05, 0.0, 0.0])
    assert Flag.CONTENDED in record.flags
    assert Flag.NOT_CONVERGED not in record.flags
    assert series_of(record).stopped_by == "interval"


def test_nothing_but_contended_blocks_ends_at_three_times_the_cap(clock: Clock, machine: Machine) -> None:
    record = contended_run(clock, machine, [0.05], replace(BUDGET, max_samples=20))
    assert len(series_of(record).block_ns) == 60
    assert {Flag.CONTENDED, Flag.NOT_CONVERGED} <= set(record.flags)


def test_a_wait_of_less_than_a_hundredth_is_no_contention(clock: Clock, machine: Machine) -> None:
    record = contended_run(clock, machine, [0.009])
    assert record.flags == ()
    assert len(series_of(record).block_ns) == 32


def test_waiting_while_nobody_else_ran_is_the_frameworks_own(clock: Clock, machine: Machine) -> None:
    machine.waited, machine.others = repeat(0.3), repeat(0.0)
    record = measure(Backend(clock, repeat(CALL)))
    assert record.flags == ()
    assert len(series_of(record).block_ns) == 32
    assert set(series_of(record).run_delay_ns) == {round(0.3 * CALL)}


def test_others_that_ran_on_other_cores_are_no_contention(clock: Clock, machine: Machine) -> None:
    machine.waited, machine.others = repeat(0.0), repeat(1.0)
    assert measure(Backend(clock, repeat(CALL))).flags == ()


def test_where_others_cannot_be_seen_every_wait_counts(clock: Clock, machine: Machine) -> None:
    machine.waited, machine.others = repeat(0.3), None
    record = measure(Backend(clock, repeat(CALL)), replace(BUDGET, max_samples=20))
    assert Flag.CONTENDED in record.flags
    assert series_of(record).others_ns == ()


def test_where_the_kernel_does_not_tell_nothing_is_stored_and_nothing_flagged(clock: Clock, machine: Machine) -> None:
    machine.waited = None
    record = measure(Backend(clock, repeat(CALL)))
    assert series_of(record).run_delay_ns == ()
    assert record.flags == ()


def test_short_blocks_are_witnessed_in_groups_so_that_reading_takes_under_a_tenth(clock: Clock, machine: Machine) -> None:
    machine.reading_ns = 1 * MS  # so a group lasts 12 ms: 6 blocks of 2 ms
    machine.waited, machine.others = cycle([0.0, 0.3]), repeat(1.0)
    series = series_of(measure(Backend(clock, repeat(CALL)), replace(BUDGET, max_samples=60)))
    assert set(series.block_ns) == {CALL}  # reading is not timed
    assert len(series.block_ns) % 6 == 0
    assert series.run_delay_ns[:12] == (0,) * 6 + (round(0.3 * CALL),) * 6


@pytest.mark.parametrize("axes", [TRAIN, {"cache": Cache.COLD}], ids=["train", "cold"])
def test_blocks_that_are_made_ready_one_by_one_are_witnessed_one_by_one(
    clock: Clock, machine: Machine, monkeypatch: pytest.MonkeyPatch, axes: dict[str, Any]
) -> None:
    monkeypatch.setattr(engine, "_last_level_cache", lambda: 4096)
    machine.reading_ns = 1 * MS
    machine.waited, machine.others = cycle([0.0, 0.3]), repeat(1.0)
    series = series_of(measure(Backend(clock, repeat(CALL)), replace(BUDGET, max_samples=60), **axes))
    assert series.run_delay_ns[:4] == (0, round(0.3 * CALL)) * 2


# The record ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", list(Direction))
def test_every_ok_record_is_complete(backend: Backend, direction: Direction) -> None:
    asked = TRAIN if direction is Direction.TRAIN else {"direction": direction}
    record = measure(backend, **asked)
    assert record.status is Status.OK
    assert record.reason == ""
    assert (record.run_id, record.trial, record.order) == ("run", 2, 7)
    assert record.cell == step(**asked).cell
    assert record.environment_id == "env"
    assert record.threads_used == 3
    assert (record.op, record.settings) == ("scripted.call", {"tuning": "none"})
    assert record.check.ok
    assert record.check.max_rel_err <= record.check.tolerance
    assert series_of(record).stopped_by == "interval"
    assert record.memory.method
    assert record.started_at.tzinfo is not None
    assert set(record.spent_ns) == {"first_call", "check", "warmup", "sampling", "memory"}
    assert backend.events[-1] == "close"


def test_a_cap_is_flagged_as_not_converged(clock: Clock) -> None:
    record = measure(Backend(clock, repeat(CALL)), replace(BUDGET, max_samples=20, min_samples=20, min_time_s=9))
    assert series_of(record).stopped_by == "max_samples"
    assert record.flags == (Flag.NOT_CONVERGED,)


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
    original = oracle.normal_operands
    monkeypatch.setattr(oracle, "normal_operands", lambda *asked: drawn.append(original(*asked)) or drawn[-1])
    budget = replace(BUDGET, max_samples=10)
    for seed, axes in [(1, {}), (1, {"direction": Direction.WGRAD}), (1, {"workload": "other"}), (2, {})]:
        Engine(Backend(clock, repeat(CALL)), budget, seed, "run", "env", clock).measure(step(**axes))
    first, direction, workload, seed = (operands.x for operands in drawn)
    assert np.array_equal(first, direction)
    assert not np.array_equal(first, workload)
    assert not np.array_equal(first, seed)


def test_a_cell_is_measured_by_the_real_clock_too() -> None:
    from harness.backends.numpy import NumpyBackend

    tiny = Budget(warmup_cpu_s=0, warmup_max_s=0.01, block_s=1e-5, min_time_s=0, max_samples=20, max_time_s=0.5)
    record = Engine(NumpyBackend(Device("cpu"), 1), tiny, 1, "run", "env").measure(step(backend="numpy"))
    assert record.status is Status.OK
    assert all(block > 0 for block in series_of(record).block_ns)
    assert math.isfinite(record.check.max_rel_err)
