"""Whether later calls give what the first one gave: its result is kept, and those of some later calls are compared with it.

A call that was right once may go wrong afterwards, where it changes its own operands or reads memory that is not its own.
"""

from __future__ import annotations

import math
import mmap
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.axes import UPDATED, Direction, Precision
from harness.backends.base import Operands, Prepared, Results
from harness.measure import oracle
from harness.measure.wrong import Finding, check_of, fetched, held
from harness.record import Check
from harness.spec import Cell

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.backends.base import Array


class First:
    """The result of the first call, which was found to be right, and what is known of later calls.

    The result lies in memory pages of its own: in the heap it would take the place that the framework's buffers would get
    without it. What an optimizer updated is not kept, since its formula says what it must be. Nor is the result of a copy,
    which must equal its operand.
    """

    def __init__(self, cell: Cell, operands: Operands, results: Results, findings: Iterable[Finding], place: float) -> None:
        self.cell = cell
        self.x = operands.x if not cell.spec.computes else None  # what a copy must give
        training = cell.direction is Direction.TRAIN
        self.before = {name: getattr(operands, name) for name in UPDATED} if training else {}  # as before a training step
        self.place = place  # see `by_lot`
        self.made = 1  # the number of calls made so far, the first one included
        self.findings = {found.output: found for found in findings}
        self.varies = 0.0  # the largest difference so far, in units of `max_rel_err`
        self.calls: list[int] = []  # the numbers of the calls that were compared, from 1
        kept = results.items().items() if cell.spec.computes else ()
        self.kept = {name: _set_aside(cell, value) for name, value in kept if name not in UPDATED}

    def compare(self, prepared: Prepared, handle: Any, which: str) -> None:
        """Compare the result of a later call with it. Raises WrongResultError where they differ by more than the check allows.

        `which` says which call it is, for the message. Before a training step there must have been a `reset`, so that it is the
        same step again.
        """
        when = f"right in the first call, wrong in {which}"
        outputs = fetched(self.cell, prepared, handle, when)
        findings = self._findings(outputs)
        check_of(findings, when)
        self.varies = max(self.varies, *(found.error for found in findings if found.output not in UPDATED))

    def compare_last(self, prepared: Prepared, handle: Any) -> None:
        """Compare the last of the calls made so far, and note its number."""
        self.compare(prepared, handle, f"the {_ordinal(self.made)}")
        self.calls.append(self.made)

    def told(self, check: Check) -> Check:
        """The check of the first call, with what the comparisons of later calls add to it."""
        return Check(check.ok, check.method, check.max_rel_err, check.tolerance, self.varies, tuple(self.calls))

    def let_go(self) -> None:
        """Give the memory back. Afterwards nothing can be compared."""
        self.kept.clear()

    def _findings(self, outputs: Results) -> list[Finding]:
        given = outputs.items()
        if self.x is not None:
            return [oracle.copied(self.x, given["y"])]
        found = [
            held(name, given[name], kept, self.findings[name].scale, self.findings[name].tolerance)
            for name, kept in self.kept.items()
        ]
        return [*found, *oracle.updated(self.cell, self.before, given)]


def by_lot(rng: np.random.Generator) -> float:
    """The share of the warm-up, from 0 to 1, after which a call is compared."""
    return rng.random()


def kept_bytes(cell: Cell) -> int:
    """The bytes of the result that `First` keeps of a cell."""
    if not cell.spec.computes:
        return 0
    kept = (math.prod(shape) for name, shape in cell.results.items() if name not in UPDATED)
    return sum(kept) * _dtype(cell).itemsize


def _dtype(cell: Cell) -> np.dtype:
    """A dtype of the host that holds every value of the cell's precision exactly."""
    return np.dtype(np.float64 if cell.precision is Precision.FP64 else np.float32)


def _set_aside(cell: Cell, value: Array | float) -> Array:
    """A copy outside the heap. Its pages go back to the system with the last reference to it."""
    dtype, shape = _dtype(cell), np.shape(value)
    if not shape:
        return np.array(value, np.float64)
    array = np.frombuffer(mmap.mmap(-1, math.prod(shape) * dtype.itemsize), dtype).reshape(shape)
    np.copyto(array, value, casting="same_kind")
    return array


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
