"""What is wrong with a result, in one line: the output, how many of its elements, the first of them, and what found it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.backends.base import Prepared, Results
from harness.record import Check
from harness.spec import Cell

if TYPE_CHECKING:
    from harness.backends.base import Array

    Index = tuple[int, ...]

_PIECE = 2**16  # elements that are compared at a time, so that what is computed from them stays in the caches


class WrongResultError(Exception):
    """A call gave a wrong result; the message says in one line what is wrong with it."""

    def __init__(self, reason: str, check: Check) -> None:
        super().__init__(reason[:500])
        self.check = check


@dataclass(frozen=True)
class Finding:
    """What a comparison of one output with what it must be found.

    `error` is the largest error, relative to `scale`, which is the size of the sums; it must not exceed `tolerance`. Of the
    `compared` elements `wrong` are wrong, and `unbounded` of these are not finite. `at` is the index of the first wrong one,
    which is `got` and must be `expected`.
    """

    output: str
    method: str
    error: float
    tolerance: float
    scale: float
    compared: int
    wrong: int = 0
    unbounded: int = 0
    at: Index = ()
    got: float = math.nan
    expected: float = math.nan

    @property
    def severity(self) -> float:
        """The error in tolerances: more than 1 is wrong, and infinity is an error that is not finite."""
        if not math.isfinite(self.error):
            return math.inf
        return self.error / self.tolerance if self.tolerance else float(self.wrong and math.inf)

    def __str__(self) -> str:
        many = f"{self.output} is wrong in {self.wrong} of {self.compared} elements compared"
        unbounded = f", {self.unbounded} of them not finite" if self.unbounded else ""
        first = f", the first at {list(self.at)}" if self.at else ""
        expected = "a finite number" if math.isnan(self.expected) else f"{self.expected:.9g}"
        values = f": got {self.got:.9g}, expected {expected}"
        return f"{many}{unbounded}{first}{values} (largest relative error {self.error:.3g}, allowed {self.tolerance:.3g})"


def check_of(findings: Iterable[Finding], when: str = "") -> Check:
    """The check of a result, which has the figures of its worst finding. Raises WrongResultError where any element is wrong.

    `when` says in the message which call was wrong; without it the message names the check that found it.
    """
    ordered = sorted(findings, key=lambda found: (found.wrong > 0, found.severity), reverse=True)
    worst = ordered[0]
    check = Check(not worst.wrong, worst.method, worst.error, worst.tolerance)
    if worst.wrong:
        others = [found.output for found in ordered[1:] if found.wrong]
        too = f"; wrong too: {', '.join(others)}" if others else ""
        raise WrongResultError(f"{when or f'{worst.method} check'}: {worst}{too}", check)
    return check


# Whether it is a result at all ----------------------------------------------------------------------------------------------


def fetched(cell: Cell, prepared: Prepared, handle: Any, when: str = "") -> Results:
    """The results behind a handle, see `sound`. Raises WrongResultError, also where the adapter cannot read the handle."""
    try:
        results = prepared.fetch(handle)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        cause = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
        raise _misshapen(f"what the call gave is {_kind(handle)} and cannot be read as a result ({cause})", when) from None
    return sound(cell, results, when)


def sound(cell: Cell, results: Any, when: str = "") -> Results:
    """The outputs of the cell, as float64. Raises WrongResultError where one is missing or has another shape."""
    shapes = cell.results
    if not isinstance(results, Results):
        raise _misshapen(f"the result is {_kind(results)}, expected Results", when)
    found: dict[str, Any] = {}
    for name in cell.outputs:
        value, shape = getattr(results, name), shapes.get(name)
        if value is None:
            raise _misshapen(f"{name} is missing", when)
        if shape is None:
            if not isinstance(value, float | np.floating | int):
                raise _misshapen(f"{name} is {_kind(value)}, expected a number", when)
            found[name] = float(value)
            continue
        if not isinstance(value, np.ndarray):
            raise _misshapen(f"{name} is {_kind(value)}, expected an array", when)
        if value.dtype.kind != "f":
            raise _misshapen(f"{name} is of dtype {value.dtype}, expected float64", when)
        if value.shape != shape:
            raise _misshapen(f"{name} has the shape {list(value.shape)[:8]}, expected {list(shape)}", when)
        found[name] = value.astype(np.float64, copy=False)
    return Results(**found)


def _kind(value: Any) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"


def _misshapen(what: str, when: str) -> WrongResultError:
    return WrongResultError(f"{when}: {what}" if when else what, Check(False, "shape", math.inf, 0.0))


# Element by element ---------------------------------------------------------------------------------------------------------


def held(
    output: str, got: Any, expected: Any, scale: Any, tolerance: float, place: Callable[[Index], Index] = lambda at: at
) -> Finding:
    """What a comparison of `got` with `expected` found: no error may exceed `tolerance` times `scale`, a number or an array.

    `place` turns an index into these arrays into an index into the whole output.
    """
    given, wanted, scales = np.reshape(got, -1), np.reshape(expected, -1), np.reshape(scale, -1)

    def judge(piece: slice) -> tuple[Array, Array]:
        errors = np.abs(given[piece] - wanted[piece]) / (scales if scales.size == 1 else scales[piece])
        return errors, ~(errors <= tolerance)

    finding = Finding(output, "spot", 0.0, tolerance, float(np.max(scales)), given.size)
    return _judged(finding, judge, given, wanted, lambda first: place(_index(first, np.shape(got))))


def identical(output: str, got: Array, expected: Array, scale: float) -> Finding:
    """What a comparison of two flat arrays found, bit by bit in float64, since a comparison of numbers takes -0 for 0."""

    def judge(piece: slice) -> tuple[Any, Array]:
        given, wanted = got[piece], expected[piece].astype(np.float64)
        bad = given.view(np.int64) != wanted.view(np.int64)
        return (np.abs(given - wanted) / scale if bad.any() else 0.0), bad

    finding = Finding(output, "exact", 0.0, 0.0, scale, got.size)
    return _judged(finding, judge, got, expected, lambda first: (first,))


def finite(finding: Finding, got: Any) -> Finding:
    """The finding, or where it found nothing wrong, what a search for elements of `got` that are not finite found."""
    if finding.wrong or np.isfinite(got).all():
        return finding
    flat = np.reshape(got, -1)
    found = replace(finding, compared=flat.size)
    return _judged(
        found, lambda piece: (flat[piece], ~np.isfinite(flat[piece])), flat, None, lambda first: _index(first, np.shape(got))
    )


def _judged(
    finding: Finding, judge: Callable[[slice], tuple[Any, Array]], got: Array, expected: Array | None,
    place: Callable[[int], Index],
) -> Finding:  # fmt: skip
    """The finding with what `judge` says of each piece of the flat arrays: (the errors of its elements, which are wrong)."""
    worst, wrong, unbounded, first = finding.error, 0, 0, -1
    with np.errstate(invalid="ignore", over="ignore"):  # numpy need not warn of results that are not finite: they are found
        for start in range(0, got.size, _PIECE):
            piece = slice(start, start + _PIECE)
            errors, bad = judge(piece)
            worst = float(np.maximum(worst, np.max(errors)))  # unlike `max`, this keeps a NaN
            if bad.any():
                first = first if wrong else start + int(np.argmax(bad))
                wrong += int(np.count_nonzero(bad))
                unbounded += int(np.count_nonzero(~np.isfinite(got[piece])))
    found = replace(finding, error=worst, wrong=wrong, unbounded=unbounded)
    if not wrong:
        return found
    wanted = math.nan if expected is None else float(expected[first])
    return replace(found, at=place(first), got=float(got[first]), expected=wanted)


def _index(flat: int, shape: Index) -> Index:
    return tuple(int(index) for index in np.unravel_index(flat, shape))
