"""What a call gives later, held against what it gave first; and nothing is measured otherwise for it."""

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import repeat
from typing import Any

import numpy as np
import pytest

from harness.axes import Cache, Device, Direction, Optimizer, Precision
from harness.backends.base import Operands, Results
from harness.backends.numpy import NumpyBackend
from harness.measure import engine, footprint, later, memory, sampling
from harness.measure.engine import Engine
from harness.measure.later import First
from harness.measure.operands import draw, rounded
from harness.plan import Budget
from harness.record import Record, Status
from harness.spec import Cell, CopySpec, GemmSpec
from tests import builders
from tests.measure.scripted import CALL, MS, TRAIN, Backend, Clock, Machine, Prepared, measure, then_always

TINY = Budget(warmup_cpu_s=0, warmup_max_s=0.001, visits=8, visit_s=0.001)
DIRECTIONS = [direction for direction in Direction if direction is not Direction.NONE]
CEILINGS = {"product": GemmSpec(7, 5, 300), "copy": CopySpec(4096)}


def axes(of: str) -> dict[str, Any]:
    """Of a cell by the name of its direction or of its ceiling."""
    if of in CEILINGS:
        return {"spec": CEILINGS[of], "direction": Direction.NONE}
    return {"direction": Direction(of), "optimizer": Optimizer.ADAM if of == "train" else None}


def measured(change: Callable[[Any, int], None], **asked: Any) -> tuple[Record, list[int]]:
    """The record of a real cell by numpy; `change` is given the prepared call and the number of each call before it is made.

    With the numbers of the calls.
    """
    calls: list[int] = []

    class Changing(NumpyBackend):
        def prepare(self, cell: Cell, operands: Operands) -> Any:
            prepared: Any = super().prepare(cell, operands)
            launch = prepared.launch

            def changed() -> Any:
                calls.append(len(calls) + 1)
                change(prepared, calls[-1])
                return launch()

            prepared.launch = changed
            return prepared

    cell = builders.cell(**{"backend": "numpy", **asked})
    step = engine.Step(0, 0, cell)
    return Engine(Changing(Device("cpu"), 1), TINY, 1, "run", "env").measure(step), calls


def doubled(prepared: Any, number: int) -> None:
    """From the 21st call on the operand is no longer what it was."""
    if number == 21:
        for array in (prepared._x, prepared._dy) if hasattr(prepared, "_dy") else (prepared._x,):
            array *= 2


# What goes wrong later is found ---------------------------------------------------------------------------------------------


@pytest.mark.fault(
    "a call overwrites its own operand from the 21st call on",
    "the cell is `incorrect`, with the number of the call, and has no time",
)
@pytest.mark.parametrize("cache", list(Cache))
@pytest.mark.parametrize("of", [*map(str, DIRECTIONS), *CEILINGS])
def test_an_operand_that_a_call_overwrites_in_place_is_found_by_the_last_call(of: str, cache: Cache) -> None:
    record, calls = measured(doubled, cache=cache, **axes(of))
    assert record.status is Status.INCORRECT
    assert record.samples is None
    found = re.match(
        r"right in the first call, wrong in the (\d+)(st|nd|rd|th): (\w+) is wrong in (\d+) of (\d+) ", record.reason
    )
    assert found, record.reason
    assert int(found[1]) == calls[-1] > 7
    assert not record.check.ok


@pytest.mark.parametrize("of", [*map(str, DIRECTIONS), *CEILINGS])
def test_a_result_that_stays_is_ok_and_does_not_vary(of: str) -> None:
    record, calls = measured(lambda prepared, number: None, **axes(of))
    assert record.status is Status.OK, record.reason
    assert record.check.results_vary == 0
    by_lot, last = record.check.compared_calls
    assert 1 < by_lot < last < calls[-1]  # the memory pass is the last


@pytest.mark.fault("one call in the warm-up is wrong", "it is found if it is the one drawn, and nothing is timed after it")
def test_one_wrong_call_by_lot_is_found_and_nothing_is_timed_after_it(backend: Backend) -> None:
    backend.distort = nth({3: shifted(1.0)})
    record = measure(backend)
    assert record.status is Status.INCORRECT
    assert record.reason.startswith("right in the first call, wrong in the 3rd: y is wrong in 32 of 32 elements compared")
    assert backend.events.count("launch") == 3
    assert record.samples is None


def test_the_number_of_the_last_call_counts_all_before_it(backend: Backend) -> None:
    backend.distort = nth({4: shifted(1.0)})
    record = measure(backend)
    assert f"wrong in the {backend.events.count('launch')}th: " in record.reason
    assert record.memory is None


def test_every_output_of_a_composite_direction_is_compared(clock: Clock) -> None:
    for direction, name in [(Direction.BPROP, "y"), (Direction.BPROP, "dx"), (Direction.BPROP, "dw"), (Direction.BPROP, "loss"),
                            (Direction.TRAIN, "dx"), (Direction.TRAIN, "w")]:  # fmt: skip
        backend = Backend(clock, repeat(CALL))
        backend.distort = nth({3: shifted(1.0, name)})
        asked = TRAIN if direction is Direction.TRAIN else {"direction": direction}
        record = measure(backend, **asked)
        assert record.status is Status.INCORRECT, (direction, name)
        assert f"{name} is wrong in " in record.reason


def test_a_training_step_is_compared_after_a_reset(backend: Backend) -> None:
    record = measure(backend, **TRAIN)
    assert record.status is Status.OK
    events = [event for event in backend.events if event != "clock"]
    assert all(events[at - 3] == "reset" for at in [at for at, event in enumerate(events) if event == "fetch"][1:])


@pytest.mark.fault("sums come in another order from call to call", "that is a fact in the row, and no fault")
def test_what_varies_within_the_tolerance_is_a_fact_and_no_fault(backend: Backend) -> None:
    backend.distort = nth({3: shifted(1e-6), 4: shifted(2e-6)})
    record = measure(backend)
    assert record.status is Status.OK
    assert record.flags == ()
    assert record.check.results_vary == pytest.approx(2e-6 / 3, rel=0.3)  # in units of a sum of nine products
    assert record.check.results_vary < record.check.tolerance


@pytest.mark.fault("a result is wrong, and letting go of the call fails too", "the cell stays `incorrect`")
def test_a_wrong_result_stays_incorrect_where_letting_go_fails_too(backend: Backend) -> None:
    class Clinging(Prepared):
        def close(self) -> None:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    backend.kind = Clinging
    backend.distort = nth({3: shifted(1.0)})
    record = measure(backend)
    assert record.status is Status.INCORRECT
    assert "illegal memory access" in record.settings["close"]


# Numbers do not move for it -------------------------------------------------------------------------------------------------


@pytest.mark.fault("later results are checked", "the same calls stand between the readings of the clock as without")
@pytest.mark.parametrize("asked", [{}, TRAIN, {"cache": Cache.COLD}], ids=["fprop", "train", "cold"])
@pytest.mark.parametrize("call_ns", [40_000, 2 * MS, CALL])
@pytest.mark.parametrize("place", [0.0, 0.5, 0.99])
def test_the_same_calls_stand_between_the_readings_of_the_clock_without_it(
    place: float, call_ns: int, asked: dict[str, Any], machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured_where(look: Callable[[sampling.Sampler], int]) -> tuple[Record, str]:
        """The record and all that the engine and the clock were asked for, in order, where it looks at results so."""
        machine.clock = its = Clock()
        backend = Backend(its, repeat(call_ns))
        monkeypatch.setattr(sampling, "Eviction", lambda: lambda: backend.note("evict"))
        monkeypatch.setattr(sampling.Sampler, "look", look)
        return measure(backend, **asked), " ".join(its.events)

    def bracketed(sampler: sampling.Sampler) -> int:
        sampler.clock.events.append("[")
        taken = original(sampler)
        sampler.clock.events.append("]")
        return taken

    original = sampling.Sampler.look
    monkeypatch.setattr(later, "by_lot", lambda rng: place)
    found, events = measured_where(bracketed)
    without, plain = measured_where(lambda sampler: 0)
    assert len(found.check.compared_calls) == events.count("launch wait fetch clock clock ]") == 2
    assert re.sub(r" \[.*?\]", "", events) == plain
    assert found.samples == replace(without.samples, cpu_ns=found.samples.cpu_ns)


@pytest.mark.parametrize("call_ns", [10_000, MS, CALL, 300 * MS])
def test_the_call_by_lot_lies_anywhere_in_the_warm_up(call_ns: int, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for place in (0.0, 0.4, 0.8, 0.999):
        monkeypatch.setattr(later, "by_lot", lambda rng, place=place: place)
        record = measure(Backend(clock, repeat(call_ns)))
        assert record.status is Status.OK
        assert record.spent_ns["warmup"] == record.samples.warmup_ns  # it is no part of it
        found.append(record.check.compared_calls[0])
    least = max(3, int(0.02e9 / call_ns))
    assert found[0] == 3  # after the first call and that on integers
    assert found == sorted(found)
    assert 2 + 0.7 * least <= found[-1] <= 3 + 1.1 * least + 6
    assert len(set(found)) >= 3


def test_it_is_drawn_after_the_operands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    cell, places = builders.cell(), []
    for seed in (1, 1, 2):
        operands, rng = draw(cell, seed)
        prepared = NumpyBackend(Device("cpu"), 1).prepare(cell, operands)
        places.append(engine.checked(cell, prepared, operands, prepared.launch(), rng)[1].place)
    assert places[0] == places[1] != places[2]
    assert all(0 <= place < 1 for place in places)


def test_a_last_block_longer_than_all_before_still_leaves_one_call_compared(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(later, "by_lot", lambda rng: 0.99)
    durations = then_always([MS, MS, *[MS] * 5, 300 * MS], 300 * MS)
    record = measure(Backend(clock, durations))
    assert record.status is Status.OK
    assert len(record.check.compared_calls) == 2


# What is kept ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP64])
@pytest.mark.parametrize("of", [*map(str, DIRECTIONS), *CEILINGS])
def test_what_is_kept_is_in_the_forecast_outside_the_heap_and_gone_before_memory_is_measured(
    of: str, precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    firsts: list[First] = []
    sizes: list[int] = []

    class Seen(First):
        def __init__(self, *asked: Any, **named: Any) -> None:
            super().__init__(*asked, **named)
            firsts.append(self)
            arrays = [array for name, array in self.kept.items() if name != "loss"]
            sizes.append(sum(array.nbytes for array in arrays))
            assert all(isinstance(root(array), later.mmap.mmap) for array in arrays)

    left: list[int] = []
    original = memory.measure
    monkeypatch.setattr(engine, "First", Seen)
    monkeypatch.setattr(memory, "measure", lambda *asked: left.append(len(firsts[0].kept)) or original(*asked))
    record, _ = measured(lambda prepared, number: None, precision=precision, **axes(of))
    assert record.status is Status.OK, record.reason
    assert left == [0]
    cell = record.cell
    assert sizes == [later.kept_bytes(cell)] == [footprint.need(cell, 1).kept]
    assert (sizes[0] == 0) == (of == "copy")


def root(array: Any) -> Any:
    """What the memory of an array belongs to."""
    while isinstance(array, np.ndarray | memoryview):
        array = array.base if isinstance(array, np.ndarray) else array.obj
    return array


def test_the_short_formats_are_kept_exactly_in_four_bytes() -> None:
    cell = builders.cell(precision=Precision.BF16)
    y = rounded(np.random.default_rng(1).standard_normal(32).astype(np.float32), Precision.BF16)
    kept = later._set_aside(cell, y.astype(np.float64).reshape(1, 2, 4, 4))
    assert kept.dtype == np.float32
    assert np.array_equal(kept.reshape(-1), y)


@pytest.mark.parametrize(
    ("number", "words"), [(2, "2nd"), (3, "3rd"), (11, "11th"), (12, "12th"), (13, "13th"), (21, "21st"), (112, "112th")]
)  # fmt: skip
def test_calls_are_named_by_their_number(number: int, words: str) -> None:
    assert later._ordinal(number) == words


# Changes to results ---------------------------------------------------------------------------------------------------------


def nth(changes: dict[int, Callable[[Results], Results]]) -> Callable[[Results], Results]:
    """Results changed where they are fetched for the so-manieth time, others as they are."""
    fetched = iter(range(1, 1_000_000))
    return lambda results: changes.get(next(fetched), lambda right: right)(results)


def shifted(by: float, name: str = "y") -> Callable[[Results], Results]:
    return lambda results: replace(results, **{name: getattr(results, name) + by})
