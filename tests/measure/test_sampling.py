import gc
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, count, cycle, groupby, pairwise, repeat
from typing import Any

import pytest

from harness.axes import Cache, Device, Direction
from harness.measure import caches, sampling, witness
from harness.measure.engine import Engine
from harness.measure.gpu import State
from harness.plan import Budget
from harness.record import Flag, Progress, Record, SeriesKind, Status
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
    measure,
    series_of,
    step,
    then_always,
    timed,
)

GPU = {"device": Device("gpu")}


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CALL is long enough that no other is made to warm it."""
    monkeypatch.setattr(sampling, "_COOLED_BELOW_NS", CALL)


# The time is read exactly -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tick", [0, 90])
@pytest.mark.parametrize("call_ns", [1_000_001, CALL, 40 * MS, 2 * S])
def test_a_call_that_fills_a_block_is_read_to_the_nanosecond(tick: int, call_ns: int) -> None:
    series = series_of(measure(Backend(Clock(tick), repeat(call_ns))))
    assert series.kind is SeriesKind.LATENCY
    assert series.iterations == 1
    assert set(series.block_ns) == {call_ns + tick}  # one reading of the clock lies between


@pytest.mark.parametrize(("call_ns", "iterations"), [(50_000, 1), (49_999, 2), (15_000, 4), (170, 295)])
def test_short_calls_are_put_into_a_block_of_fifty_microseconds(clock: Clock, call_ns: int, iterations: int) -> None:
    series = series_of(measure(Backend(clock, repeat(call_ns)), replace(BUDGET, max_samples=40)))
    assert series.iterations == iterations
    assert set(series.block_ns) == {iterations * call_ns}


def test_a_block_dwarfs_a_clock_that_is_dear() -> None:
    tick = 1_000
    series = series_of(measure(Backend(Clock(tick), repeat(10_000)), replace(BUDGET, max_samples=40)))
    assert series.iterations == 50  # 0.5 ms are 500 readings
    assert set(series.block_ns) == {50 * 10_000 + tick}


def test_a_block_that_turns_out_short_is_enlarged_again(clock: Clock) -> None:
    # first call, integers, a cold first block of 25 us, and from then on 5 us: 2 calls are too few, 10 are enough
    backend = Backend(clock, then_always([CALL, CALL, 25_000], 5_000))
    series = series_of(measure(backend, replace(BUDGET, max_samples=40)))
    assert series.iterations == 10


HUNDRED_IN_100_MS = replace(BUDGET, max_samples=100, rel_half_width=1e-9)  # one sample in 1 ms


def groups_of(series: Any) -> list[tuple[int, int]]:
    """(samples, run delay of each in ns) of every group, where neighbouring groups differ in it."""
    return [(len(list(equal)), delay) for delay, equal in groupby(series.run_delay_ns)]


def test_short_calls_are_spread_over_the_least_time_and_warmed_by_calls_between(clock: Clock, machine: Machine) -> None:
    # Of five calls of 0.2 ms one counts; 12 ms of them come before a group of 48 ms.
    machine.waited, machine.others = cycle([0.0, 0.005]), repeat(1.0)
    backend = Backend(clock, repeat(200_000))
    record = measure(backend, HUNDRED_IN_100_MS)
    series = series_of(record)
    assert set(series.block_ns) == {200_000}
    assert set(groups_of(series)) == {(48, 0), (48, 1_000)}  # of a group's waiting a call has the share of its time
    assert record.samples.wall_ns == (60 + 240) * 200_000 * len(series.block_ns) / 48
    in_a_row = " ".join(["clock launch wait clock"] * 300)
    assert " ".join(backend.events).count(in_a_row) == len(series.block_ns) / 48


@pytest.mark.parametrize(("reading_ns", "samples"), [(MS // 8, 7), (MS, 16)], ids=["until the time is over", "at most"])
def test_beside_others_a_group_of_short_calls_is_as_short_as_reading_allows(
    clock: Clock, machine: Machine, reading_ns: int, samples: int
) -> None:
    machine.reading_ns = reading_ns  # a group lasts 6.25 ms or 50 ms
    machine.waited, machine.others = chain([0.3], cycle([0.0, 0.005])), repeat(1.0)
    record = measure(Backend(clock, repeat(200_000)), HUNDRED_IN_100_MS)
    series = series_of(record)
    first, *others = groups_of(series)
    assert first == (48, 60_000)
    assert set(others) == {(samples, 0), (samples, 1_000)}
    assert record.samples.wall_ns == 200_000 * (300 + 5 * (len(series.block_ns) - 48))


@pytest.mark.parametrize(("waited", "cooled_calls"), [(0.0, 60 + 4), (0.3, 4)], ids=["quiet", "beside others"])
def test_calls_that_reading_the_witness_cooled_do_not_count(
    clock: Clock, machine: Machine, waited: float, cooled_calls: int
) -> None:
    cooled = 0

    def read() -> Iterator[float]:
        nonlocal cooled
        for at in count():
            cooled = cooled_calls if at else 0
            yield 1.0

    def calls() -> Iterator[int]:
        nonlocal cooled
        while True:
            cooled -= 1
            yield 250_000 if cooled >= 0 else 200_000

    machine.waited, machine.others = chain([waited], repeat(0.0)), read()
    series = series_of(measure(Backend(clock, calls()), HUNDRED_IN_100_MS))
    assert len(series.block_ns) >= 100
    assert set(series.block_ns) == {200_000}


@pytest.mark.parametrize(
    ("call_ms", "axes", "lead", "counted"),
    [(2, {}, 6, 24), (2, GPU, 6, 24), (5, {}, 3, 10), (15, {}, 1, 4), (99, {}, 1, 4), (100, {}, 0, 1), (2, TRAIN, 0, 1)],
    ids=["2 ms", "GPU", "5 ms", "15 ms", "99 ms", "100 ms", "train"],
)
def test_before_a_group_calls_warm_the_caches_for_twelve_milliseconds(
    clock: Clock, machine: Machine, call_ms: int, axes: dict[str, Any], lead: int, counted: int
) -> None:
    machine.waited, machine.others = cycle([0.0, 0.005]), repeat(1.0)
    record = measure(Backend(clock, repeat(call_ms * MS)), replace(BUDGET, max_samples=80), **axes)
    series = series_of(record)
    assert set(groups_of(series)) == {(counted, 0), (counted, 5_000 * call_ms)}
    assert record.samples.wall_ns * counted == (lead + counted) * sum(series.block_ns)


def test_blocks_of_several_calls_are_grouped_by_the_time_of_a_block(clock: Clock, machine: Machine) -> None:
    machine.waited, machine.others = cycle([0.0, 0.005]), repeat(1.0)
    series = series_of(measure(Backend(clock, repeat(10_000)), HUNDRED_IN_100_MS))
    assert series.iterations == 5  # blocks of 50 us; of twenty one counts
    assert set(groups_of(series)) == {(48, 0), (48, 250)}


@pytest.mark.usefixtures("one_by_one")
def test_long_calls_are_spread_where_few_samples_are_asked_for(clock: Clock) -> None:
    record = measure(Backend(clock, repeat(30 * MS)), replace(BUDGET, max_samples=30, min_time_s=3.0, max_time_s=9.0))
    series = series_of(record)
    assert len(series.block_ns) >= 30
    assert record.samples.wall_ns == 4 * sum(series.block_ns)  # one in 100 ms


def test_a_group_is_no_longer_than_all_the_samples_that_there_may_be(clock: Clock) -> None:
    budget = replace(BUDGET, min_time_s=0.0, max_samples=30, rel_half_width=1e-9)
    assert len(series_of(measure(Backend(clock, repeat(50_000)), budget)).block_ns) == 30


def test_a_warm_up_that_was_cut_off_does_not_make_groups_endless(clock: Clock, machine: Machine) -> None:
    # One call of 1 us, the cap is reached, and the next block would have fifty of them.
    machine.waited, machine.others = cycle([0.0, 0.005]), repeat(1.0)
    budget = replace(HUNDRED_IN_100_MS, warmup_cpu_s=0.0, warmup_max_s=1e-9, warmup_calls=1)
    record = measure(Backend(clock, repeat(1_000)), budget)
    series = series_of(record)
    assert series.iterations == 50
    assert set(groups_of(series)) == {(48, 0), (48, 250)}
    assert record.samples.wall_ns == 60 * MS * len(series.block_ns) / 48


def test_groups_are_short_until_most_of_them_were_quiet_again(clock: Clock, machine: Machine) -> None:
    machine.waited, machine.others = chain([0.3], cycle([0.0, 0.005])), repeat(1.0)
    series = series_of(measure(Backend(clock, repeat(2 * MS)), replace(HUNDRED_IN_100_MS, max_samples=300, min_time_s=0.6)))
    sizes = [size for size, _ in groups_of(series)]
    assert sizes[:55] == [24] + [4] * 54  # 24 contended ones of 240 are no more than a tenth
    assert set(sizes[55:]) == {24}


def test_beside_others_calls_of_three_milliseconds_are_groups_of_their_own(clock: Clock, machine: Machine) -> None:
    machine.waited, machine.others = chain([0.3], cycle([0.0, 0.005])), repeat(1.0)
    series = series_of(measure(Backend(clock, repeat(3 * MS)), replace(HUNDRED_IN_100_MS, max_samples=40)))
    assert [size for size, _ in groups_of(series)] == [16] + [1] * 40


@pytest.mark.parametrize("axes", [TRAIN, {"cache": Cache.COLD}], ids=["train", "cold"])
def test_blocks_that_are_made_ready_one_by_one_have_no_calls_between(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, axes: dict[str, Any]
) -> None:
    monkeypatch.setattr(caches, "last_level_bytes", lambda: 4096)
    backend = Backend(clock, repeat(200_000))
    record = measure(backend, replace(BUDGET, max_samples=50), **axes)
    assert record.samples.wall_ns == sum(series_of(record).block_ns)


def test_only_a_hot_cpu_takes_several_calls_in_a_block(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caches, "last_level_bytes", lambda: 4096)
    for axes in ({"cache": Cache.COLD}, {"device": Device("gpu")}):
        assert series_of(measure(Backend(clock, repeat(100_000)), replace(BUDGET, max_samples=40), **axes)).iterations == 1


# Throughput and the device's clock ------------------------------------------------------------------------------------------


class OnDevice(Prepared):
    """One with a clock on the device: a call takes 70 us there."""

    device_clock = "scripted events"

    def device_time(self, calls: int) -> float | None:
        self.backend.note(f"device {calls}")
        return 70_000.0 * calls

    def evict(self, nbytes: int) -> None:
        self.backend.note("evict")


def test_throughput_on_a_gpu_queues_calls_for_as_long_as_the_budget_says(clock: Clock) -> None:
    backend = Backend(clock, repeat(100_000))
    record = measure(backend, replace(BUDGET, max_samples=40), **GPU)
    latency, throughput = record.samples.series
    assert (latency.kind, throughput.kind) == (SeriesKind.LATENCY, SeriesKind.THROUGHPUT)
    # Launching takes 25 us; the wait is that of the last call alone.
    assert throughput.iterations * 25_000 == pytest.approx(50 * MS, rel=0.05)
    assert set(throughput.block_ns) == {throughput.iterations * 25_000 + 75_000}
    assert "launch launch launch" in " ".join(backend.events)


def test_a_cpu_has_no_throughput_of_its_own(backend: Backend) -> None:
    assert [series.kind for series in measure(backend).samples.series] == [SeriesKind.LATENCY]


def test_the_devices_clock_is_read_where_there_is_one_and_named(clock: Clock) -> None:
    backend = Backend(clock, repeat(100_000))
    backend.kind = OnDevice
    _, throughput, device = measure(backend, replace(BUDGET, max_samples=40), **GPU).samples.series
    assert (device.kind, device.method) == (SeriesKind.DEVICE, "scripted events")
    assert device.iterations == throughput.iterations
    assert set(device.block_ns) == {70_000 * device.iterations}
    assert sum(device.block_ns) == pytest.approx(S, rel=0.15)


def test_a_clock_on_the_device_that_cannot_be_read_costs_nothing_else(clock: Clock) -> None:
    class Silent(OnDevice):
        def device_time(self, calls: int) -> None:
            return None

    backend = Backend(clock, repeat(100_000))
    backend.kind = Silent
    record = measure(backend, replace(BUDGET, max_samples=40), **GPU)
    assert [series.kind for series in record.samples.series] == [SeriesKind.LATENCY, SeriesKind.THROUGHPUT]


def test_what_fails_beside_the_latency_costs_its_own_series_only(clock: Clock) -> None:
    class Refused(OnDevice):
        def device_time(self, calls: int) -> float:
            raise RuntimeError("profiling is not permitted")

    backend = Backend(clock, repeat(100_000))
    backend.kind = Refused
    record = measure(backend, replace(BUDGET, max_samples=40), **GPU)
    assert record.status is Status.OK
    assert [series.kind for series in record.samples.series] == [SeriesKind.LATENCY, SeriesKind.THROUGHPUT]
    assert record.settings["device"] == "not measured (RuntimeError: profiling is not permitted)"


def test_a_block_that_could_not_be_read_on_the_device_is_passed_over(clock: Clock) -> None:
    answers = chain([70_000.0, None, 70_000.0], repeat(70_000.0))

    class Patchy(OnDevice):
        def device_time(self, calls: int) -> float | None:
            found = next(answers)
            return found and found * calls

    backend = Backend(clock, repeat(100_000))
    backend.kind = Patchy
    _, _, device = measure(backend, replace(BUDGET, max_samples=40), **GPU).samples.series
    assert set(device.block_ns) == {70_000 * device.iterations}


def test_asking_the_device_ends_by_the_wall_clock(clock: Clock) -> None:
    class Slow(OnDevice):
        def device_time(self, calls: int) -> float:
            self.clock.pass_(4 * S)  # a trace written and read
            return 1_000.0

    backend = Backend(clock, repeat(100_000))
    backend.kind = Slow
    _, _, device = measure(backend, replace(BUDGET, max_samples=40), **GPU).samples.series
    assert len(device.block_ns) == 3
    assert device.stopped_by == "max_time"


def test_one_hiccup_does_not_size_the_queue(clock: Clock) -> None:
    # Two checks, 5000 calls to warm up and the latency come before; every first call of a new size stumbles once.
    hiccup = [100_000] * 2 + [100_000] * 5000 + [100_000] * 40 + [60 * MS]
    backend = Backend(clock, then_always(hiccup, 100_000))
    _, throughput = measure(backend, replace(BUDGET, max_samples=40), **GPU).samples.series
    assert throughput.iterations > 100


def test_cold_calls_on_a_gpu_are_not_queued(clock: Clock) -> None:
    backend = Backend(clock, repeat(100_000))
    backend.kind = OnDevice
    record = measure(backend, replace(BUDGET, max_samples=40), cache=Cache.COLD, **GPU)
    (latency,) = record.samples.series
    cold = re.findall("evict(?: clock)+ launch wait clock", " ".join(backend.events))
    assert len(cold) >= len(latency.block_ns)


# Recompilation --------------------------------------------------------------------------------------------------------------


def compiling(backend: Backend, at_launches: set[int]) -> None:
    """Make the backend count compilations, one at each of these launches."""
    launches, compiled = iter(range(1, 1_000_000)), [0]

    class Counting(Prepared):
        def launch(self) -> int:
            compiled[0] += next(launches) in at_launches
            return super().launch()

        def compilations(self) -> int:
            return compiled[0]

    backend.kind = Counting


@pytest.mark.parametrize(
    ("slow", "compiled", "flagged"), [(250 * MS, True, True), (250 * MS, False, False), (CALL, True, False)]
)
def test_a_long_sample_that_coincides_with_a_compilation_is_flagged(
    clock: Clock, slow: int, compiled: bool, flagged: bool
) -> None:
    backend = Backend(clock, then_always([CALL] * 12 + [slow], CALL))
    compiling(backend, {13} if compiled else set())
    record = measure(backend)
    assert slow in series_of(record).block_ns
    assert (Flag.RECOMPILED in record.flags) is flagged


@pytest.mark.parametrize(("loop", "asked"), [("in_a_row", {}), ("queued", GPU)])
def test_a_call_that_notes_its_callers_is_timed_on_the_stack_that_its_backend_has_for_it(
    clock: Clock, loop: str, asked: dict[str, Any]
) -> None:
    backend = Backend(clock, repeat(CALL))
    seen: list[list[str]] = []
    prepare = backend.prepare

    def prepared(*arguments: Any) -> Any:
        found = prepare(*arguments)
        launch = found.launch

        def noting() -> Any:
            frame, names = sys._getframe(1), []
            while frame:
                names.append(frame.f_code.co_name)
                frame = frame.f_back  # type: ignore[assignment]
            seen.append(names)
            return launch()

        def on_own_stack(run: Any, *arguments: Any) -> Any:
            return run(*arguments)

        found.launch, found.on_own_stack = noting, on_own_stack
        return found

    backend.prepare = prepared  # type: ignore[method-assign]
    measure(backend, replace(BUDGET, max_samples=40), **asked)
    timed = [names for names in seen if names[0] == loop]
    assert len(timed) > 30
    # Each function that a call finds above itself is up to 0.3 us of it: the loop is the only one.
    assert {names.index("on_own_stack") for names in timed} == {1}


# The yardstick --------------------------------------------------------------------------------------------------------------


class Work:
    """A yardstick that takes what the script says, after a lead that is not in it, and notes that it was taken."""

    def __init__(self, backend: Backend, durations: Iterator[int], lead_ns: int = 0) -> None:
        self.backend, self.durations, self.lead_ns = backend, durations, lead_ns

    def __call__(self) -> int:
        self.backend.note("work")
        self.backend.clock.pass_(self.lead_ns)
        duration = next(self.durations)
        self.backend.clock.pass_(duration)
        return duration


def test_every_sample_carries_the_yardstick_before_it(clock: Clock) -> None:
    backend = Backend(clock, repeat(4 * MS))
    series = series_of(measure(backend, yardstick=Work(backend, cycle([MS // 2, MS])), **TRAIN))
    assert set(series.block_ns) == {4 * MS}  # the work is not timed with it
    # 0.5 ms are worth 12.5 ms, 4 samples of 4 ms; a reading that took longer stands for no more of them.
    assert series.yardstick_ns[:8] == (MS // 2,) * 4 + (MS,) * 4
    assert len(series.yardstick_ns) == len(series.block_ns)


@pytest.mark.parametrize("lead_ns", [0, CALL])
def test_the_yardstick_takes_a_twenty_fifth_of_the_time(clock: Clock, lead_ns: int) -> None:
    backend = Backend(clock, repeat(100_000))
    record = measure(backend, replace(BUDGET, min_time_s=9), yardstick=Work(backend, repeat(CALL), lead_ns))
    assert 0.035 < record.spent_ns["yardstick"] / record.samples.wall_ns <= 0.041  # and the first one


def test_a_short_call_is_warmed_again_after_the_yardstick_and_a_long_one_is_not(clock: Clock) -> None:
    for call_ns, warmed in ((100_000, True), (CALL, False)):
        backend = Backend(clock, repeat(call_ns))
        measure(backend, yardstick=Work(backend, repeat(MS // 2)))
        events = " ".join(backend.events)
        assert events.count("work") > 1
        assert events.count("work launch wait clock") == (events.count("work") if warmed else 0)


def test_a_yardstick_that_lost_its_core_is_taken_once_more(clock: Clock, machine: Machine) -> None:
    backend = Backend(clock, repeat(CALL))
    machine.waited = chain([0.9], repeat(0.0))
    machine.others = chain([0.9], repeat(0.0))
    series = series_of(measure(backend, yardstick=Work(backend, chain([9 * MS, MS // 2], repeat(MS)))))
    assert series.yardstick_ns[0] == MS // 2
    assert MS in series.yardstick_ns
    assert 9 * MS not in series.yardstick_ns


def test_cold_calls_have_a_yardstick_as_often_as_the_wall_clock_says(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    class Eviction:
        def __call__(self) -> None:
            clock.pass_(20 * MS)

    monkeypatch.setattr(sampling, "Eviction", Eviction)
    backend = Backend(clock, repeat(CALL))
    works = iter(range(MS // 2, MS))
    series = series_of(measure(backend, cache=Cache.COLD, yardstick=Work(backend, works)))
    assert len(set(series.yardstick_ns)) == len(series.yardstick_ns)  # 24 ms each are more than the 12.5 that it is worth


def test_without_a_yardstick_nothing_is_stored(backend: Backend) -> None:
    assert series_of(measure(backend)).yardstick_ns == ()


def test_a_gpu_has_no_yardstick(clock: Clock) -> None:
    backend = Backend(clock, repeat(CALL))
    series = series_of(measure(backend, yardstick=Work(backend, repeat(MS // 2)), **GPU))
    assert series.yardstick_ns == ()
    assert "work" not in backend.events


@pytest.mark.usefixtures("one_by_one")
def test_samples_are_in_the_order_of_measuring(clock: Clock) -> None:
    steps = range(CALL, CALL + 32_000, 1_000)
    backend = Backend(clock, then_always([CALL] * 3 + [CALL] * 3 + list(steps), CALL))
    series = series_of(measure(backend))
    assert series.block_ns == tuple(steps)


@pytest.mark.usefixtures("one_by_one")
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
    assert timed(backend).count("clock launch wait clock") == len(series.block_ns) + 3  # and the warm-up


# Warm-up ------------------------------------------------------------------------------------------------------------------


def warmup(clock: Clock, durations: list[int], last: int, **budget: Any) -> Record:
    """The record of a cell whose warm-up takes these durations; three calls that are checked came before."""
    return measure(Backend(clock, then_always([CALL, CALL, CALL, *durations], last)), replace(BUDGET, **budget))


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
    # One call of 5 us, so blocks of ten: the first takes 200 us, the next 50 us and 50 us.
    durations = [5_000] + [20_000] * 10
    record = warmup(clock, durations, 5_000, warmup_cpu_s=0, warmup_calls=1, max_samples=40)
    assert record.samples.warmup_ns == 5_000 + 200_000 + 2 * 50_000
    assert set(series_of(record).block_ns) == {50_000}


def test_warm_up_that_does_not_get_steady_ends_at_its_cap_and_is_flagged(clock: Clock) -> None:
    backend = Backend(clock, cycle([100 * MS, 200 * MS]))
    record = measure(backend, BUDGET)
    assert Flag.UNSTEADY_WARMUP in record.flags
    assert 5 * S <= record.samples.warmup_ns <= 5 * S + 200 * MS


def test_slow_but_steady_calls_are_not_flagged(clock: Clock) -> None:
    record = measure(Backend(clock, repeat(2 * S)))
    assert record.samples.warmup_ns == 6 * S
    assert Flag.UNSTEADY_WARMUP not in record.flags


# Before and between blocks ------------------------------------------------------------------------------------------------


def test_training_starts_from_the_same_filter_in_every_block_and_the_reset_is_not_timed(backend: Backend) -> None:
    backend.reset_ns = 5 * MS
    series = series_of(measure(backend, **TRAIN))
    assert set(series.block_ns) == {CALL}
    events = timed(backend)
    ready = re.findall("reset(?: clock)+ launch wait clock", events)
    assert len(ready) == events.count("clock launch wait clock") == len(series.block_ns) + 3


def test_other_directions_are_not_reset(backend: Backend) -> None:
    measure(backend, direction=Direction.BPROP)
    assert "reset" not in backend.events


def test_cold_caches_are_made_so_before_each_block_and_that_is_not_timed(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Eviction:
        def __call__(self) -> None:
            backend.note("evict")
            backend.clock.pass_(5 * MS)

    monkeypatch.setattr(sampling, "Eviction", Eviction)
    series = series_of(measure(backend, cache=Cache.COLD))
    assert set(series.block_ns) == {CALL}
    events = timed(backend)
    cold = re.findall("evict(?: clock)+ launch wait clock", events)
    assert len(cold) == events.count("clock launch wait clock") == len(series.block_ns) + 3


@pytest.mark.usefixtures("one_by_one")
def test_the_collector_rests_while_sampling_and_only_then(backend: Backend) -> None:
    seen: list[bool] = []
    backend.fail = lambda event: seen.append(gc.isenabled()) if event == "launch" else None
    series = series_of(measure(backend))
    sampled = len(series.block_ns)
    # 3 checks and 3 warm-up blocks before, a check and the memory pass after
    assert seen == [True] * 6 + [False] * sampled + [True] * 2
    assert gc.isenabled()


def test_a_cap_is_flagged_as_not_converged(clock: Clock) -> None:
    durations = cycle([CALL + CALL // 25, CALL])
    record = measure(Backend(clock, durations), replace(BUDGET, max_samples=20, min_samples=20, min_time_s=9))
    assert series_of(record).stopped_by == "max_samples"
    assert record.flags == (Flag.NOT_CONVERGED,)


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
    backend = Backend(clock, repeat(2 * MS))
    told: list[Progress] = []
    measure(backend, replace(BUDGET, min_time_s=1.5, max_samples=10_000), told.append)
    assert told
    assert {progress.median_ns for progress in told} == {2 * MS}


def test_a_short_cell_tells_no_progress(backend: Backend) -> None:
    told: list[Progress] = []
    measure(backend, BUDGET, told.append)
    assert told == []


# Contention ---------------------------------------------------------------------------------------------------------------


def slower_where(shares: list[float], block: int) -> Iterator[int]:
    """Durations of the sampled calls: three times longer where the block will be found contended."""
    return cycle([3 * block if share > 0.01 else block for share in shares])


def contended_run(clock: Clock, machine: Machine, shares: list[float], budget: Budget = BUDGET) -> Record:
    """A cell whose sampled blocks, in turn, were disturbed for these shares of their time."""
    machine.waited, machine.others = cycle(shares), cycle(shares)
    sampled = slower_where(shares, CALL)
    durations = (CALL if at < 6 else next(sampled) for at in iter(range(1_000_000)))
    return measure(Backend(clock, durations), budget)


@pytest.mark.usefixtures("one_by_one")
def test_contended_blocks_are_kept_with_their_delay_and_replaced(clock: Clock, machine: Machine) -> None:
    record = contended_run(clock, machine, [0.05] + [0.0] * 9)
    series = series_of(record)
    assert series.stopped_by == "interval"
    disturbed = [block for block, delay in zip(series.block_ns, series.run_delay_ns, strict=True) if delay > 0]
    assert set(disturbed) == {3 * CALL}
    assert len(series.block_ns) - len(disturbed) == 32  # as many clean ones as without
    assert {delay for delay in series.run_delay_ns if delay} == {3 * CALL // 20}
    assert series.run_delay_ns == series.others_ns
    assert Flag.CONTENDED not in record.flags


@pytest.mark.usefixtures("one_by_one")
def test_over_a_fifth_of_contended_blocks_is_flagged(clock: Clock, machine: Machine) -> None:
    record = contended_run(clock, machine, [0.05, 0.0, 0.0])
    assert Flag.CONTENDED in record.flags
    assert Flag.NOT_CONVERGED not in record.flags
    assert series_of(record).stopped_by == "interval"


@pytest.mark.usefixtures("one_by_one")
def test_nothing_but_contended_blocks_ends_at_three_times_the_cap(clock: Clock, machine: Machine) -> None:
    record = contended_run(clock, machine, [0.05], replace(BUDGET, max_samples=20))
    assert len(series_of(record).block_ns) == 60
    assert {Flag.CONTENDED, Flag.NOT_CONVERGED} <= set(record.flags)


@pytest.mark.usefixtures("one_by_one")
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


@pytest.mark.fault("threads waited, and others could not be seen", "no sample is called contended")
def test_where_others_cannot_be_seen_no_wait_is_held_against_them(clock: Clock, machine: Machine) -> None:
    machine.waited, machine.others = repeat(0.3), None
    record = measure(Backend(clock, repeat(CALL)), replace(BUDGET, max_samples=20))
    assert Flag.CONTENDED not in record.flags
    assert series_of(record).others_ns == ()
    assert min(series_of(record).run_delay_ns) > 0


def test_where_the_kernel_does_not_tell_nothing_is_stored_and_nothing_flagged(clock: Clock, machine: Machine) -> None:
    machine.waited = None
    record = measure(Backend(clock, repeat(CALL)))
    assert series_of(record).run_delay_ns == ()
    assert record.flags == ()


@pytest.mark.usefixtures("one_by_one")
def test_short_blocks_are_witnessed_in_groups_so_that_reading_takes_a_twenty_fifth(clock: Clock, machine: Machine) -> None:
    machine.reading_ns = 2 * MS  # so a group lasts 100 ms, 5 blocks of 20 ms, between readings of 4 ms together
    machine.waited, machine.others = cycle([0.0, 0.3]), repeat(1.0)
    series = series_of(measure(Backend(clock, repeat(CALL)), replace(BUDGET, max_samples=60)))
    assert set(series.block_ns) == {CALL}  # reading is not timed
    assert len(series.block_ns) % 5 == 0
    assert series.run_delay_ns[:10] == (0,) * 5 + (round(0.3 * CALL),) * 5


@pytest.mark.parametrize("axes", [TRAIN, {"cache": Cache.COLD}], ids=["train", "cold"])
def test_blocks_that_are_made_ready_one_by_one_are_witnessed_one_by_one(
    clock: Clock, machine: Machine, monkeypatch: pytest.MonkeyPatch, axes: dict[str, Any]
) -> None:
    monkeypatch.setattr(caches, "last_level_bytes", lambda: 4096)
    machine.reading_ns = 1 * MS
    machine.waited, machine.others = cycle([0.0, 0.3]), repeat(1.0)
    series = series_of(measure(Backend(clock, repeat(CALL)), replace(BUDGET, max_samples=60), **axes))
    assert series.run_delay_ns[:4] == (0, round(0.3 * CALL)) * 2


# A throttled GPU ------------------------------------------------------------------------------------------------------------

COOL = State(clock_mhz=1900, default_clock_mhz=1980, reasons=())
HOT = State(clock_mhz=1200, default_clock_mhz=1980, reasons=("HwThermalSlowdown",), temperature_c=91)


class Board:
    """A GPU that is in a scripted state each time that it is looked at."""

    def __init__(self, backend: Backend, states: Iterator[State]) -> None:
        self.backend, self.states = backend, states

    def read(self) -> State:
        self.backend.note("look")
        return next(self.states)


def on_board(backend: Backend, states: Iterator[State], **budget: Any) -> tuple[Record, list[float]]:
    rests: list[float] = []

    def sleep(seconds: float) -> None:
        rests.append(seconds)
        backend.clock.pass_(round(seconds * S))

    board: Any = Board(backend, states)
    tools = {"gpu": board, "sleep": sleep}
    engine = Engine(backend, replace(BUDGET, **budget), 11, "run", "env", backend.clock, **tools)
    return engine.measure(step(**GPU)), rests


@pytest.mark.usefixtures("one_by_one")
@pytest.mark.parametrize(
    ("call_ns", "calls"),
    [(CALL, 16), (2 * MS, 6 + 24), (5 * MS, 2 * (3 + 10))],
    ids=["one by one", "a group", "groups"],
)
def test_a_cool_gpu_is_looked_at_around_sixteen_samples_or_more(clock: Clock, call_ns: int, calls: int) -> None:
    backend = Backend(clock, repeat(call_ns))
    record, rests = on_board(backend, repeat(COOL))
    assert rests == []
    assert record.flags == ()
    counts = [len(part.split("launch wait")) - 1 for part in " ".join(backend.events).split("look")[1:-1]]
    assert counts[:2] == [calls, calls]


def test_samples_of_a_throttled_gpu_are_set_aside_and_replaced_after_a_rest(clock: Clock) -> None:
    backend = Backend(clock, then_always([CALL] * 27 + [3 * CALL] * 16, CALL))  # 25 of them warm the GPU up
    record, rests = on_board(backend, chain([COOL, HOT], repeat(COOL)))
    assert rests == [0.05]
    assert set(series_of(record).block_ns) == {CALL}
    assert Flag.THROTTLED not in record.flags
    assert record.spent_ns["waiting"] == 50 * MS
    assert "throttled" not in record.settings


def test_a_gpu_that_stays_throttled_is_measured_all_the_same_and_flagged(clock: Clock) -> None:
    backend = Backend(clock, repeat(CALL))
    record, rests = on_board(backend, repeat(HOT), max_time_s=5.0)
    assert record.status is Status.OK
    assert Flag.THROTTLED in record.flags
    assert "HwThermalSlowdown" in record.settings["throttled"]
    assert "1200 of 1980 MHz" in record.settings["throttled"]
    assert 0 < sum(rests) <= 0.2 * 5.0
    assert rests == sorted(rests)
    assert len(series_of(record).block_ns) >= BUDGET.min_samples


@pytest.mark.parametrize("calls", [1, 3])
@pytest.mark.parametrize("done", [True, False], ids=["done when it returns", "to be waited for"])
def test_a_call_that_is_done_when_it_returns_has_no_wait_in_its_time(
    calls: int, done: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of `id` it would be 0.1 to 0.8 us more, after a convolution."""
    events: list[str] = []

    def wait(handle: Any) -> None:
        events.append("wait")

    if done:
        monkeypatch.setattr(sampling, "ALREADY_DONE", wait)
    times = sampling.in_a_row(lambda: events.append("launch"), wait, lambda: len(events), range(calls), 2)
    block = ["launch"] * calls if done else ["launch", "wait"] * calls
    assert events == block * 2
    assert times == [len(block)] * 2
