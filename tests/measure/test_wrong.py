"""What a wrong result is said to be: in one line, whatever an adapter gives."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.axes import Direction
from harness.backends.base import Results
from harness.measure import oracle, wrong
from harness.record import Record, Status
from harness.spec import ConvSpec, CopySpec, GemmSpec
from tests import builders
from tests.measure.scripted import TRAIN, Backend, Prepared, measure


def told(backend: Backend, change: Callable[[Any], Any], **asked: Any) -> str:
    """The reason of a cell whose results are changed so; it must be incorrect, in the first call."""
    backend.distort = change
    record = measure(backend, **asked)
    assert record.status is Status.INCORRECT, record.reason
    assert record.check is not None
    assert not record.check.ok
    assert backend.events.count("launch") == 1
    return one_line(record)


def one_line(record: Record) -> str:
    assert len(record.reason) <= 500
    assert record.reason.splitlines() == [record.reason]
    return record.reason


def with_y(make: Callable[[np.ndarray], Any]) -> Callable[[Results], Results]:
    return lambda results: replace(results, y=make(results.y))


# How many, where, what ------------------------------------------------------------------------------------------------------


def put(value: float, *places: tuple[int, ...]) -> Callable[[np.ndarray], np.ndarray]:
    def make(array: np.ndarray) -> np.ndarray:
        changed = array.copy()
        for place in places:
            changed[place] = value
        return changed

    return make


@pytest.mark.fault("some elements of a result are wrong", "one line has their number, the first one's place, got and expected")
def test_wrong_elements_are_counted_and_the_first_is_told_with_both_values(backend: Backend) -> None:
    reason = told(backend, with_y(put(77.25, (0, 1, 0, 2), (0, 1, 3, 3))))
    assert reason.startswith(
        "spot check: y is wrong in 2 of 32 elements compared, the first at [0, 1, 0, 2]: got 77.25, expected "
    )
    assert "(largest relative error " in reason
    assert "allowed " in reason


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_elements_that_are_not_finite_are_told_as_such(backend: Backend, bad: float) -> None:
    reason = told(backend, with_y(put(bad, (0, 0, 1, 0))))
    assert f"y is wrong in 1 of 32 elements compared, 1 of them not finite, the first at [0, 0, 1, 0]: got {bad}" in reason


@pytest.mark.fault("an element that is not recomputed is not finite", "it is found")
def test_an_element_that_is_not_finite_is_found_where_only_a_part_is_recomputed(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oracle, "_SPOT_FLOP", 1)  # one channel of one group, of the first and the last image
    spec = ConvSpec.parse("n5 c2 k4 4x4 f3x3 p1x1")
    reason = told(backend, with_y(put(math.nan, (2, 3, 1, 0))), spec=spec)
    expected = (
        "y is wrong in 1 of 320 elements compared, 1 of them not finite, the first at [2, 3, 1, 0]: got nan, expected a finite"
    )
    assert expected in reason


def test_an_index_is_one_of_the_whole_output_where_a_part_was_recomputed(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oracle, "_SPOT_FLOP", 1)
    places = [(3, channel, 1, 2) for channel in range(6)]
    reason = told(backend, with_y(put(99.0, *places)), spec=ConvSpec.parse("n4 c6 k6 4x4 f3x3 p1x1 g3"))
    channel = reason.split("the first at [3, ")[1][0]
    assert channel in "012345"
    assert f"y is wrong in 1 of 32 elements compared, the first at [3, {channel}, 1, 2]: got 99, expected " in reason
    product = told(backend, with_y(lambda y: y + 1), spec=GemmSpec(50, 40, 30), direction=Direction.NONE)
    row, column = map(int, product.split("the first at [")[1].split("]")[0].split(","))
    assert 0 <= row < 50
    assert 0 <= column < 40
    assert "wrong in 1 of 1 elements" in product


def test_of_a_copy_every_bit_counts_and_the_exact_check_says_so(backend: Backend) -> None:
    asked = {"spec": CopySpec(400), "direction": Direction.NONE}
    reason = told(backend, with_y(put(3.5, (17,), (98,))), **asked)
    assert reason.startswith("exact check: y is wrong in 2 of 100 elements compared, the first at [17]: got 3.5, expected ")


def test_all_outputs_that_are_wrong_are_named(backend: Backend) -> None:
    def both(results: Results) -> Results:
        return replace(results, dx=results.dx * np.nan, dw=results.dw + 9)

    reason = told(backend, both, direction=Direction.BPROP)
    assert reason.startswith("spot check: dx is wrong in 16 of 16 elements compared, 16 of them not finite")
    assert reason.endswith("; wrong too: dw")


def test_a_wrong_number_and_a_wrong_step_are_told_too(backend: Backend) -> None:
    reason = told(backend, lambda results: replace(results, loss=results.loss * 2), direction=Direction.BPROP)
    assert reason.startswith("spot check: loss is wrong in 1 of 1 elements compared: got ")
    reason = told(backend, lambda results: replace(results, w=results.w + 1), **TRAIN)
    assert reason.startswith("spot check: w is wrong in 18 of 18 elements compared, the first at [0, 0, 0, 0]: got ")


# What is no result at all ---------------------------------------------------------------------------------------------------

SHAPES = {
    "larger": (lambda y: np.zeros((1, 2, 4, 5)), "y has the shape [1, 2, 4, 5], expected [1, 2, 4, 4]"),
    "smaller": (lambda y: y[..., :3], "y has the shape [1, 2, 4, 3], expected [1, 2, 4, 4]"),
    "flat": (lambda y: y.reshape(-1), "y has the shape [32], expected [1, 2, 4, 4]"),
    "no dimension": (lambda y: np.float64(3.0), "y is of type float64, expected an array"),
    "channels last": (lambda y: np.moveaxis(y, 1, -1), "y has the shape [1, 4, 4, 2], expected [1, 2, 4, 4]"),
    "empty": (lambda y: y[:0], "y has the shape [0, 2, 4, 4], expected [1, 2, 4, 4]"),
    "many dimensions": (lambda y: y.reshape(*[1] * 20, 32), "y has the shape [1, 1, 1, 1, 1, 1, 1, 1], expected [1, 2, 4, 4]"),
    "integers": (lambda y: y.astype(np.int64), "y is of dtype int64, expected float64"),
    "complex": (lambda y: y.astype(complex), "y is of dtype complex128, expected float64"),
    "objects": (lambda y: y.astype(object), "y is of dtype object, expected float64"),
    "text": (lambda y: y.astype(str), "y is of dtype <U32, expected float64"),
    "a list": (lambda y: y.tolist(), "y is of type list, expected an array"),
    "missing": (lambda y: None, "y is missing"),
}


@pytest.mark.fault("a result has another shape or type", "the row says so")
@pytest.mark.parametrize(("make", "words"), SHAPES.values(), ids=SHAPES)
def test_another_shape_or_type_is_told_and_no_error(backend: Backend, make: Callable[[np.ndarray], Any], words: str) -> None:
    assert told(backend, with_y(make)) == words


@pytest.mark.parametrize(
    ("results", "words"),
    [(None, "the result is None, expected Results"), ([1, 2], "the result is of type list, expected Results")],
)
def test_what_is_no_result_is_told(backend: Backend, results: Any, words: str) -> None:
    assert told(backend, lambda right: results) == words


@pytest.mark.parametrize("name", ["y", "loss", "dx", "dw", "w"])
def test_an_output_that_is_missing_is_named(backend: Backend, name: str) -> None:
    assert told(backend, lambda results: replace(results, **{name: None}), **TRAIN) == f"{name} is missing"


def test_a_loss_must_be_a_number(backend: Backend) -> None:
    reason = told(backend, lambda results: replace(results, loss=[results.loss]), direction=Direction.BPROP)
    assert reason == "loss is of type list, expected a number"


@pytest.mark.parametrize("spec", [GemmSpec(4, 5, 6), CopySpec(64)], ids=str)
def test_a_ceilings_shape_is_looked_at_too(backend: Backend, spec: Any) -> None:
    reason = told(backend, with_y(lambda y: y[:-1]), spec=spec, direction=Direction.NONE)
    assert reason.startswith("y has the shape [")


@pytest.mark.fault("a call returns nothing or a list", "the row says so")
@pytest.mark.parametrize("given", [None, [], (), 3, "text", {}])
def test_what_an_adapter_cannot_read_as_its_own_result_is_no_error_of_the_harness(backend: Backend, given: Any) -> None:
    class Giving(Prepared):
        def fetch(self, handle: int) -> Results:
            return self.reference.fetch(given)

    backend.kind = Giving
    record = measure(backend)
    assert record.status is Status.INCORRECT
    kind = "None" if given is None else f"of type {type(given).__name__}"
    assert one_line(record).startswith("what the call gave is of type int and cannot be read as a result (AttributeError: ")
    assert kind.rpartition(" ")[2] in record.reason


def test_a_wrong_shape_in_a_later_call_or_on_integers_is_told_too(backend: Backend) -> None:
    for number, when in ((2, ""), (3, "right in the first call, wrong in the 3rd: ")):
        fetched = iter(range(1, 100))
        backend.distort = lambda results, f=fetched, n=number: replace(results, y=results.y[0]) if next(f) == n else results
        record = measure(backend)
        assert record.status is Status.INCORRECT
        assert record.reason == f"{when}y has the shape [2, 4, 4], expected [1, 2, 4, 4]"


def test_float32_arrays_are_taken_for_their_values(backend: Backend) -> None:
    backend.distort = with_y(lambda y: y.astype(np.float32))
    assert measure(backend).status is Status.OK


def test_however_long_what_is_wrong_the_line_is_bounded() -> None:
    with pytest.raises(wrong.WrongResultError) as raised:
        wrong.sound(builders.cell(), type("X" * 9000, (), {})())
    assert len(str(raised.value)) == 500
