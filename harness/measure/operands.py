"""The operands of a cell: their shapes, values of N(0, 1) to be timed on, and integers for the exact check."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from harness.axes import Precision, Values
from harness.backends.base import Operands
from harness.spec import Cell

if TYPE_CHECKING:
    from harness.backends.base import Array

LARGEST_INTEGER = 4
# Up to these magnitudes every integer is exact: in the accumulators of fp32 and TF32, and in the outputs of the short formats.
_EXACT_BELOW = {
    Precision.FP64: 2**53,
    Precision.FP32: 2**24,
    Precision.TF32: 2**24,
    Precision.FP16: 2**11,
    Precision.BF16: 2**8,
}
# The smallest normal number, of the accumulators too where they are of fp32.
SMALLEST = {precision: float(np.finfo(np.float32).tiny) for precision in Precision} | {
    Precision.FP64: float(np.finfo(np.float64).tiny), Precision.FP16: float(np.finfo(np.float16).tiny),
}  # fmt: skip
ONE_OF_TEN = 1.6448536269514722  # of N(0, 1), one of ten values is further from 0
# So many values are drawn for a copy and then repeated. The number is a prime, so that no two blocks of memory are alike.
_COPY_DRAWN = 1_000_003


def draw(cell: Cell, seed: int) -> tuple[Operands, np.random.Generator]:
    """The operands that a cell is timed on, and the generator that then chooses what is checked.

    The operands of a workload are the same for every backend. They are N(0, 1), or what is made of the same draw: see `Values`.
    """
    rng = np.random.default_rng([seed, zlib.crc32(cell.workload.encode())])
    return valued(cell, normal_operands(cell, rng)), rng


def valued(cell: Cell, drawn: Operands) -> Operands:
    """The operands that a cell has by its axis `operands`, made of those of N(0, 1)."""
    match cell.operands:
        case Values.ZEROS:
            return _each(drawn, np.zeros_like)
        case Values.ONES:
            return _each(drawn, np.ones_like)
        case Values.DENORMAL:
            factor = SMALLEST[cell.precision] / 8
            small = _each(drawn, lambda array: rounded(array * array.dtype.type(factor), cell.precision))
            return replace(small, x=drawn.x)
        case Values.SPARSE:  # one of ten is as far out
            return _each(drawn, lambda array: np.where(np.abs(array) > ONE_OF_TEN, array, array.dtype.type(0)))
        case _:
            return drawn


def _each(drawn: Operands, change: Callable[[Array], Array]) -> Operands:
    """The operands with this made of each of them that there is."""
    b = None if drawn.b is None else change(drawn.b)
    return Operands(change(drawn.x), change(drawn.w), change(drawn.dy), b)


def normal_operands(cell: Cell, rng: np.random.Generator) -> Operands:
    """Operands of N(0, 1), rounded to the cell's precision as the device will hold them, so that only arithmetic can differ."""
    dtype = np.float64 if cell.precision is Precision.FP64 else np.float32
    if not cell.spec.computes:  # to draw each value of a GiB would take longer than to measure
        drawn = rounded(rng.standard_normal(_COPY_DRAWN, dtype=dtype), cell.precision)
        return Operands(np.resize(drawn, cell.operand_shapes["x"]), np.zeros(0, dtype), np.zeros(0, dtype))
    return Operands(
        *(rounded(rng.standard_normal(shape, dtype=dtype), cell.precision) for shape in cell.operand_shapes.values())
    )


def integer_operands(cell: Cell, rng: np.random.Generator) -> Operands:
    """Integers in [-4, 4]; some are set to 0 where the sums would otherwise leave the exact range of the cell's precision."""
    # A sum of L products of such integers has a standard deviation of sqrt(L) * 20/3, and eight of these must fit. The length L
    # is that of this direction's own sums, since fewer products would leave little to compare: in bf16 some 23 of each sum
    # remain.
    length = max(1, cell.spec.products(cell.direction))
    density = min(1.0, _EXACT_BELOW[cell.precision] / (8 * math.sqrt(length) * 20 / 3))
    arrays = []
    for shape in cell.operand_shapes.values():
        array = rng.integers(-LARGEST_INTEGER, LARGEST_INTEGER + 1, shape, dtype=np.int8).astype(np.float32)
        arrays.append(array if density == 1.0 else array * (rng.random(shape, dtype=np.float32) < density))
    return Operands(*arrays)


def rounded(array: Array, precision: Precision) -> Array:
    """The array rounded to the values that the device will hold, in its own dtype: fp16 and bf16, ties to even.

    fp64 and fp32 are held as they are, and TF32 is rounded inside the product only.
    """
    if precision is Precision.FP16:
        return array.astype(np.float16).astype(np.float32)
    if precision is Precision.BF16:
        bits = array.view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    return array
