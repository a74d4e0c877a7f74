"""Is the result right? Operands to ask with, and the answers held against the definition in float64.

Two questions, both asked of every single pass:

exact   Operands are small integers, so every product and sum is exact in the cell's arithmetic and all frameworks must
        agree with the reference to the last bit (benchdnn's method). Small cells are compared element by element. For
        large ones both sides are combined over channels with random signs, which touches every element at a
        fraction of the cost: the pass is linear, so sum_k r_k y_k = conv(x, sum_k r_k w_k). Winograd and FFT
        algorithms are not exact; a miss is no verdict.
spot    The timed operands, N(0, 1): a few hundred elements recomputed. The tolerance grows with the square root of the
        reduction length, since rounding errors add up like a random walk (Higham, Accuracy and Stability, 2nd ed., 2.8).

bprop and train are asked the second question for y, for both gradients at dy = 2 y / numel(y), and the updated filter is
held against the optimizer's formula. A matrix product is asked both; of a copy every bit of the timed operand must arrive.
What is wrong, and how results are compared, is `wrong`'s.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from harness import flops
from harness.backends import numpy as reference
from harness.backends.base import ADAM_BETA2, ADAM_EPSILON, LEARNING_RATE, Operands, Results
from harness.measure.operands import reduction_length
from harness.measure.wrong import Finding, finite, held, identical
from harness.spec import Cell, ConvSpec, CopySpec, Direction, GemmSpec, Optimizer, Precision

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harness.backends.base import Array

    Indices = NDArray[np.integer[Any]]

_DENSE_FLOP = 100_000_000  # up to here the reference computes everything; a few ms
_SPOT_FLOP = 20_000_000
_COPY_SCALE = 2**16  # so many values say how large all are
_SLACK = 16  # random-walk errors times this: the largest of some hundred elements, and blocked or Winograd summation


def asks_exact(cell: Cell) -> bool:
    """Whether `exact` is to be asked too: of the three passes and of matrix products. A copy is exact in `spot` already."""
    passes = (Direction.FPROP, Direction.DGRAD, Direction.WGRAD)
    return cell.direction in passes or isinstance(cell.spec, GemmSpec)


def exact(cell: Cell, operands: Operands, results: Results, rng: np.random.Generator) -> tuple[bool, str]:
    """Whether a call on `integer_operands` is right to the last bit, and how all of it was compared; see `asks_exact`."""
    x, w, dy = (array.astype(np.float64) for array in (operands.x, operands.w, operands.dy))
    outputs = results.items()
    if isinstance(cell.spec, GemmSpec):
        return _exact_product(cell.spec, x, w, outputs["y"], rng)
    spec = cell.conv
    dense = flops.nominal(spec) <= _DENSE_FLOP
    signs = _signs(rng, spec.c if cell.direction is Direction.DGRAD else spec.k)
    match cell.direction:
        case Direction.FPROP:
            got, expected = outputs["y"], reference.fprop(spec, x, w if dense else _over_filters(spec, w, signs))
            combined = got if dense else _over_channels(spec, got, signs)
        case Direction.DGRAD:
            by_channel = signs.reshape(spec.groups, 1, -1).repeat(spec.k // spec.groups, axis=1).reshape(spec.k, -1)
            projected = np.einsum("kc,kc...->k...", by_channel, w)[:, None]
            got, expected = outputs["dx"], reference.dgrad(spec, w if dense else projected, dy)
            combined = got if dense else _over_channels(spec, got, signs)
        case Direction.WGRAD:
            got, expected = outputs["dw"], reference.wgrad(spec, x, dy if dense else _over_channels(spec, dy, signs))
            combined = got if dense else _over_filters(spec, got, signs)
        case _:
            raise ValueError(f"{cell.direction} is no single pass")
    return bool(np.array_equal(combined, expected)), "exact" if dense else "exact_sums"


def _exact_product(spec: GemmSpec, x: Array, w: Array, y: Array, rng: np.random.Generator) -> tuple[bool, str]:
    """The same of y = x w: element by element, or the columns summed with their signs, y s = x (w s)."""
    if flops.nominal(spec) <= _DENSE_FLOP:
        return bool(np.array_equal(y, x @ w)), "exact"
    signs = _signs(rng, spec.n)
    return bool(np.array_equal(y @ signs, x @ (w @ signs))), "exact_sums"


def spot(cell: Cell, operands: Operands, results: Results, rng: np.random.Generator) -> tuple[Finding, ...]:
    """The results of a call on `operands` held against float64, one finding per output; method is `spot`.

    Only a part is recomputed, but every element must be finite. A copy is compared whole, and bit by bit; method is `exact`.
    """
    outputs = results.items()
    if isinstance(cell.spec, CopySpec):
        return (copied(operands.x, outputs["y"]),)
    with np.errstate(invalid="ignore", over="ignore"):  # results that are not finite are found, not warned about
        return tuple(finite(finding, outputs[finding.output]) for finding in _comparisons(cell, operands, results, rng))


def copied(x: Array, y: Array) -> Finding:
    """Every bit of `x` held against `y`."""
    return identical("y", y, x, _rms(x[:_COPY_SCALE].astype(np.float64)) or 1.0)


def _comparisons(cell: Cell, operands: Operands, results: Results, rng: np.random.Generator) -> Iterator[Finding]:
    if isinstance(cell.spec, GemmSpec):
        yield _product(cell, cell.spec, operands, results.items()["y"], rng)
        return
    spec = cell.conv
    dy = operands.dy
    if results.loss is not None and results.y is not None:
        dy = 2 * results.y / results.y.size
        loss = float(np.mean(np.square(results.y)))
        # Some sum all of y in one go, so the bound is the worst case and not the random walk.
        tolerance = _roundoff(cell) * results.y.size + 4 * cell.precision.unit_roundoff
        yield held("loss", results.loss, loss, loss or 1.0, tolerance)
    for direction, name in ((Direction.FPROP, "y"), (Direction.DGRAD, "dx"), (Direction.WGRAD, "dw")):
        if (got := getattr(results, name)) is not None:
            part, chosen = _part(spec, direction, rng)
            x, w, out = _take(operands.x, chosen.x), _take(operands.w, chosen.w), _take(dy, chosen.dy)
            yield _compare(cell, direction, got, chosen.result, part, x, w, out)
    if results.w is not None and results.dw is not None:
        yield updated_filter(cell, operands.w, results.dw, results.w)


def _product(cell: Cell, spec: GemmSpec, operands: Operands, y: Array, rng: np.random.Generator) -> Finding:
    """Some rows of a matrix product at some columns, of about _SPOT_FLOP."""
    side = max(1, math.isqrt(_SPOT_FLOP // (2 * spec.k)))
    rows, columns = (np.sort(rng.choice(size, min(size, side), replace=False)) for size in (spec.m, spec.n))
    x, w = operands.x[rows].astype(np.float64), operands.w[:, columns].astype(np.float64)
    return _against(cell, "y", y, (rows, columns), x @ w, (x, w), cell.direction)


def _roundoff(cell: Cell) -> float:
    """The unit roundoff of the accumulators: fp32 for all but fp64."""
    return max(Precision.FP64.unit_roundoff, Precision.FP32.unit_roundoff if cell.precision is not Precision.FP64 else 0.0)


def _compare(
    cell: Cell,
    direction: Direction,
    whole: Array,
    chosen: tuple[Indices, Indices],
    part: ConvSpec,
    x: Array,
    w: Array,
    dy: Array,
) -> Finding:
    """What was chosen of an output against the definition."""
    match direction:
        case Direction.FPROP:
            name, expected, factors = "y", reference.fprop(part, x, w), (x, w)
        case Direction.DGRAD:
            name, expected, factors = "dx", reference.dgrad(part, w, dy), (w, dy)
        case _:
            name, expected, factors = "dw", reference.wgrad(part, x, dy), (x, dy)
    return _against(cell, name, whole, chosen, expected, factors, direction)


def _against(
    cell: Cell, name: str, whole: Array, chosen: tuple[Indices, Indices], expected: Array, factors: tuple[Array, Array],
    direction: Direction,
) -> Finding:  # fmt: skip
    """Errors relative to what a sum of that many products of such factors amounts to."""
    length = math.sqrt(reduction_length(cell.spec, direction))
    # A random walk of that many products, or more where the operands are correlated, as they are in bprop.
    scale = max(length * _rms(factors[0]) * _rms(factors[1]), _rms(expected)) or 1.0
    tolerance = _SLACK * (length * _roundoff(cell) + cell.precision.unit_roundoff)
    rows, columns = chosen
    return held(
        name, _take(whole, chosen), expected, scale, tolerance,
        lambda at: (int(rows[at[0]]), int(columns[at[1]]), *at[2:]),
    )  # fmt: skip


def _rms(array: Array) -> float:
    return float(np.sqrt(np.mean(np.square(array))))


def updated_filter(cell: Cell, before: Array, dw: Array, after: Array) -> Finding:
    """The first step of the optimizer, in units of its own size, element by element against the formula in float64."""
    before = before.astype(np.float64)
    if cell.optimizer is Optimizer.SGD:
        step: Array = LEARNING_RATE * dw
        ambiguity: Array | float = 0.0
    else:  # at the first step both moments are dw's own, so the step is the learning rate times dw / (|dw| + eps)
        step = LEARNING_RATE * dw / (np.abs(dw) + ADAM_EPSILON)
        # Frameworks add epsilon before or after correcting the second moment: a factor of 1 / sqrt(1 - 0.999) = 32.
        ambiguity = LEARNING_RATE * np.minimum(1.0, 40 * ADAM_EPSILON / np.maximum(np.abs(dw), 1e-300))
        # Some round 0.999 to float32 before taking it from 1, even in float64 work.
        ambiguity = ambiguity + Precision.FP32.unit_roundoff / (1 - ADAM_BETA2) * np.abs(step)
    unit = cell.precision.unit_roundoff
    # The learning rate itself is held in float32 by some frameworks, even in float64 work.
    allowed = 8 * unit * (np.abs(before) + np.abs(step)) + Precision.FP32.unit_roundoff * np.abs(step) + ambiguity
    return held("w", after, before - step, np.maximum(allowed, 1e-300) / (8 * unit), 8 * unit)


# Parts of a convolution: a few channels of a few groups, whole in space, so that every edge is looked at. -----------------


@dataclass(frozen=True)
class _Selection:
    """For each array the indices along its first and second dimension."""

    x: tuple[Indices, Indices]
    w: tuple[Indices, Indices]
    dy: tuple[Indices, Indices]
    result: tuple[Indices, Indices]


def _part(spec: ConvSpec, direction: Direction, rng: np.random.Generator) -> tuple[ConvSpec, _Selection]:
    """A smaller convolution whose result is a part of the whole one's, of about _SPOT_FLOP, and what to take from where."""
    cg, kg = spec.c // spec.groups, spec.k // spec.groups
    inner = cg if direction is Direction.DGRAD else kg  # channels of the result in one group
    batches = spec.n if direction is Direction.WGRAD else 1
    flop_per_channel = flops.nominal(spec) // (spec.groups * inner) * batches // spec.n
    affordable = max(1, _SPOT_FLOP // max(1, flop_per_channel))
    groups = np.sort(rng.choice(spec.groups, min(spec.groups, max(1, affordable // 4)), replace=False))
    channels = np.sort(rng.choice(inner, min(inner, max(1, affordable // len(groups))), replace=False))
    # The first and the last image: what goes wrong with batches goes wrong in the later ones.
    batch = np.arange(spec.n) if direction is Direction.WGRAD else np.unique([0, spec.n - 1])

    def members(per_group: int, chosen: Indices) -> Indices:
        return (groups[:, None] * per_group + chosen).reshape(-1)

    some_c = np.arange(cg) if direction is not Direction.DGRAD else channels
    some_k = np.arange(kg) if direction is Direction.DGRAD else channels
    c, k = members(cg, some_c), members(kg, some_k)
    result = {Direction.FPROP: (batch, k), Direction.DGRAD: (batch, c), Direction.WGRAD: (k, some_c)}[direction]
    part = replace(spec, n=len(batch), c=len(c), k=len(k), groups=len(groups))
    return part, _Selection((batch, c), (k, some_c), (batch, k), result)


def _take(array: Array, indices: tuple[Indices, Indices]) -> Array:
    taken: Array = array[np.ix_(*indices)].astype(np.float64)
    return taken


# Sums over channels -------------------------------------------------------------------------------------------------------


def _signs(rng: np.random.Generator, channels: int) -> Array:
    return rng.choice(np.array([-1.0, 1.0]), channels)


def _over_channels(spec: ConvSpec, array: Array, signs: Array) -> Array:
    """[N, G * J, ...] -> [N, G, ...], the channels of each group summed with their signs."""
    n, _, *rest = array.shape
    summed: Array = np.einsum("gj,ngj...->ng...", signs.reshape(spec.groups, -1), array.reshape(n, spec.groups, -1, *rest))
    return summed


def _over_filters(spec: ConvSpec, array: Array, signs: Array) -> Array:
    """[G * J, C/g, ...] -> [G, C/g, ...], the filters of each group summed with their signs."""
    _, *rest = array.shape
    summed: Array = np.einsum("gj,gj...->g...", signs.reshape(spec.groups, -1), array.reshape(spec.groups, -1, *rest))
    return summed
