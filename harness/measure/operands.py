"""The operands that a cell is asked with: their shapes, N(0, 1) for the clock, and integers for the exact check."""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING

import numpy as np

from harness.backends.base import Operands
from harness.spec import Cell, ConvSpec, CopySpec, Direction, GemmSpec, Precision, WorkloadSpec

if TYPE_CHECKING:
    from harness.backends.base import Array

LARGEST_INTEGER = 4
# Magnitudes under which every integer is exact: in fp32's accumulators, and in the outputs of the short formats.
_EXACT_BELOW = {
    Precision.FP64: 2**53,
    Precision.FP32: 2**24,
    Precision.TF32: 2**24,
    Precision.FP16: 2**11,
    Precision.BF16: 2**8,
}
_COPY_DRAWN = 1_000_003  # values drawn for a copy, which then come again; a prime, so that no two blocks moved are alike


def draw(cell: Cell, seed: int) -> tuple[Operands, np.random.Generator]:
    """The operands that a cell is timed on, and the generator that goes on to choose what is checked.

    Every backend gets the same ones for a workload; in the cell's precision, N(0, 1).
    """
    rng = np.random.default_rng([seed, zlib.crc32(cell.workload.encode())])
    return normal_operands(cell, rng), rng


def operand_shapes(cell: Cell) -> tuple[tuple[int, ...], ...]:
    """Of x, w and dy, as `Operands` says."""
    if isinstance(cell.spec, GemmSpec):
        return (cell.spec.m, cell.spec.k), (cell.spec.k, cell.spec.n), (0,)
    if isinstance(cell.spec, CopySpec):
        return (cell.spec.nbytes // cell.precision.itemsize,), (0,), (0,)
    return cell.spec.x_shape, cell.spec.w_shape, cell.spec.y_shape


def normal_operands(cell: Cell, rng: np.random.Generator) -> Operands:
    """N(0, 1) operands as the device will hold them: rounded to the cell's precision, so that only arithmetic differs."""
    dtype = np.float64 if cell.precision is Precision.FP64 else np.float32
    if isinstance(cell.spec, CopySpec):  # drawn anew, a GiB would take longer than it takes to measure
        drawn = rounded(rng.standard_normal(_COPY_DRAWN, dtype=dtype), cell.precision)
        return Operands(np.resize(drawn, operand_shapes(cell)[0]), np.zeros(0, dtype), np.zeros(0, dtype))
    return Operands(*(rounded(rng.standard_normal(shape, dtype=dtype), cell.precision) for shape in operand_shapes(cell)))


def integer_operands(cell: Cell, rng: np.random.Generator) -> Operands:
    """Integers in [-4, 4], thinned with zeros where the sums would leave the exact range of the cell's precision."""
    # The standard deviation of a sum of L products of such integers is sqrt(L) * 20/3; eight of them must fit.
    # Thinner than this direction's own sums need would leave little to compare: in bf16 some 23 products of each remain.
    length = reduction_length(cell.spec, cell.direction)
    density = min(1.0, _EXACT_BELOW[cell.precision] / (8 * math.sqrt(length) * 20 / 3))
    arrays = []
    for shape in operand_shapes(cell):
        array = rng.integers(-LARGEST_INTEGER, LARGEST_INTEGER + 1, shape, dtype=np.int8).astype(np.float32)
        arrays.append(array if density == 1.0 else array * (rng.random(shape, dtype=np.float32) < density))
    return Operands(*arrays)


def reduction_length(spec: WorkloadSpec, direction: Direction) -> int:
    """How many products are summed for one element of the result; none, so 1, where elements are only copied."""
    if not isinstance(spec, ConvSpec):
        return spec.k if isinstance(spec, GemmSpec) else 1
    return {
        Direction.FPROP: spec.c // spec.groups * math.prod(spec.kernel),
        Direction.DGRAD: spec.k // spec.groups * math.prod(spec.kernel),
        Direction.WGRAD: spec.n * math.prod(spec.out_spatial),
    }[direction]


def rounded(array: Array, precision: Precision) -> Array:
    """Rounded to what the device will hold, still in float32: to even for fp16 and bf16; TF32 rounds inside the product."""
    if precision is Precision.FP16:
        return array.astype(np.float16).astype(np.float32)
    if precision is Precision.BF16:
        bits = array.view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    return array
