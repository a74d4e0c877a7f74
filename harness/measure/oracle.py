"""Whether a result is right: it is compared with what the definition gives in float64.

There are two checks, and each of the three single passes undergoes both:

exact   The operands are small integers, so that every product and sum is exact in the cell's arithmetic, and every framework
        must agree with the reference to the last bit (benchdnn's method). The results of small cells are compared element by
        element. For large cells both sides are first summed over channels with random signs, which involves every element at
        a fraction of the cost: a pass is linear, so that sum_k r_k y_k = conv(x, sum_k r_k w_k). Winograd and FFT algorithms
        are not exact, so that a result which fails this check is not called wrong.
spot    The operands are those that are timed, N(0, 1), and a few hundred elements are computed again. The tolerance grows with
        the square root of the reduction length, since rounding errors add up like a random walk (Higham, Accuracy and
        Stability, 2nd ed., 2.8).

bprop and train undergo the spot check for y and for the gradients at dy = 2 y / numel(y), and the updated filter and bias are
compared with the optimizer's formula. An epilogue is not linear: large cells with one undergo the exact check in a part of the
channels, without sums (`exact_part`). A matrix product undergoes both checks. Of a copy every bit of the timed operand must
arrive. `wrong` does the comparing and says what is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from harness import flops
from harness.axes import UPDATED, Direction, Epilogue, Optimizer, Precision, Values
from harness.backends import numpy as reference
from harness.backends.base import ADAM_BETA2, ADAM_EPSILON, LEARNING_RATE, Operands, Results
from harness.measure.operands import SMALLEST, rounded
from harness.measure.wrong import Finding, finite, held, identical
from harness.spec import MIRRORED, Cell, ConvSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harness.backends.base import Array

    Indices = NDArray[np.integer[Any]]

_DENSE_FLOP = 100_000_000  # up to so many FLOP the reference computes the whole result, which takes a few ms
_SPOT_FLOP = 20_000_000  # about so many FLOP the spot check computes again
_COPY_SCALE = 2**16  # so many values of a copy are looked at for how large all of them are
# The tolerance is the error of a random walk times this: the largest of some hundred errors counts, and sums may be blocked or
# Winograd's.
SLACK = 16
FURTHEST = 6.0  # no value of N(0, 1) that is drawn is further from 0 than about this


def asks_exact(cell: Cell) -> bool:
    """Whether a cell undergoes `exact` too: the single passes and matrix products do. A copy is compared exactly by `spot`."""
    return cell.direction.single or (cell.spec.computes and not cell.is_convolution)


def exact(cell: Cell, operands: Operands, results: Results, rng: np.random.Generator) -> tuple[bool, str]:
    """(whether a call on `integer_operands` is right to the last bit, the name of the method) for a cell that `asks_exact`.

    Raises ValueError for a direction that is no single pass.
    """
    if not cell.is_convolution:
        x, w = operands.x.astype(np.float64), operands.w.astype(np.float64)
        return _exact_product(x, w, results.y, rng, dense=flops.nominal(cell.spec) <= _DENSE_FLOP)
    if cell.epilogue is not Epilogue.NONE and results.y is not None:
        return _exact_finished(cell, operands, results.y, rng)
    if operands.b is not None and results.y is not None:  # a difference of integers is exact
        results = replace(results, y=results.y - operands.b.reshape(-1, *(1,) * cell.conv.ndim))
    right, method = _exact_pass(cell, operands, results, rng)
    if "db" in cell.outputs:
        # Many values of dy are summed, thinned as the sums of dw need it: db may lie where not every integer is one of its
        # format, and its sum, exact in the accumulators, is rounded once.
        sums = reference.bias_gradient(operands.dy.astype(np.float64))
        right = right and np.array_equal(results.items()["db"], rounded(sums.astype(np.float32), cell.precision))
    return right, method


def _exact_finished(cell: Cell, operands: Operands, y: Array, rng: np.random.Generator) -> tuple[bool, str]:
    """The same for a y with an epilogue, of which no sums can be made: of a large cell some channels are looked at."""
    if flops.nominal(cell.spec) <= _DENSE_FLOP:
        forward, _, _ = reference.passes(cell.spec)
        expected = forward(operands.x.astype(np.float64), operands.w.astype(np.float64))
        b = None if operands.b is None else operands.b.astype(np.float64)
        return bool(np.array_equal(y, reference.finished(cell, expected, b))), "exact"
    expected, _, chosen = _recomputed(cell, Direction.FPROP, operands, operands.dy, rng)
    return bool(np.array_equal(_take(y, chosen), expected)), "exact_part"


def _exact_pass(cell: Cell, operands: Operands, results: Results, rng: np.random.Generator) -> tuple[bool, str]:
    """The same for a pass of the convolution itself."""
    x, w, dy = (array.astype(np.float64) for array in (operands.x, operands.w, operands.dy))
    outputs, direction = results.items(), cell.direction
    if cell.spec.transposed and direction.single:  # as a pass of the mirrored convolution
        direction, x, dy = MIRRORED[direction], dy, x
        outputs = {{"y": "dx", "dx": "y"}.get(name, name): value for name, value in outputs.items()}
    spec = cell.conv
    dense = flops.nominal(spec) <= _DENSE_FLOP
    signs = _signs(rng, spec.c if direction is Direction.DGRAD else spec.k)
    match direction:
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
            raise ValueError(f"{direction} is no single pass")
    return bool(np.array_equal(combined, expected)), "exact" if dense else "exact_sums"


def _exact_product(x: Array, w: Array, y: Array | None, rng: np.random.Generator, dense: bool) -> tuple[bool, str]:
    """The same for y = x w: element by element, or summed over the columns with random signs s, as y s = x (w s)."""
    if dense:
        return y is not None and bool(np.array_equal(y, x @ w)), "exact"
    signs = _signs(rng, w.shape[1])
    return y is not None and bool(np.array_equal(y @ signs, x @ (w @ signs))), "exact_sums"


def spot(cell: Cell, operands: Operands, results: Results, rng: np.random.Generator) -> tuple[Finding, ...]:
    """What a comparison of a call on `operands` with float64 found, one finding for each output; the method is `spot`.

    Only a part of the elements is computed again, but every element must be finite. A copy is compared whole and bit by bit;
    its method is `exact`.
    """
    outputs = results.items()
    if not cell.spec.computes:
        return (copied(operands.x, outputs["y"]),)
    with np.errstate(invalid="ignore", over="ignore"):  # numpy need not warn of results that are not finite: they are found
        return tuple(finite(finding, outputs[finding.output]) for finding in _comparisons(cell, operands, results, rng))


def copied(x: Array, y: Array) -> Finding:
    """What a comparison of every bit of `y` with `x` found."""
    return identical("y", y, x, _rms(x[:_COPY_SCALE].astype(np.float64)) or 1.0)


def _comparisons(cell: Cell, operands: Operands, results: Results, rng: np.random.Generator) -> Iterator[Finding]:
    if not cell.is_convolution:
        yield _product(cell, operands, results.items()["y"], rng)
        return
    dy = operands.dy
    if results.loss is not None and results.y is not None:
        dy = 2 * results.y / results.y.size
        loss = float(np.mean(np.square(results.y)))
        # Some frameworks sum all of y one by one, so that the bound is the worst case and not the random walk.
        tolerance = _roundoff(cell) * results.y.size + 4 * cell.precision.unit_roundoff
        yield held("loss", results.loss, loss, loss or 1.0, tolerance)
    for direction, name in ((Direction.FPROP, "y"), (Direction.DGRAD, "dx"), (Direction.WGRAD, "dw")):
        if (got := getattr(results, name)) is not None:
            expected, factors, chosen = _recomputed(cell, direction, operands, dy, rng)
            yield _against(cell, name, got, chosen, expected, factors, cell.spec.products(direction))
    if results.db is not None:
        yield _bias_gradient(cell, results.db, dy.astype(np.float64))
    yield from updated(cell, {"w": operands.w, "b": operands.b}, results.items())


def _recomputed(
    cell: Cell, direction: Direction, operands: Operands, dy: Array, rng: np.random.Generator
) -> tuple[Array, tuple[Array, Array], tuple[Indices, Indices]]:
    """A part of the result of a pass in float64, the parts of its two operands, and the indices of that part."""
    x, out, of = operands.x, dy, direction
    if cell.spec.transposed:  # as a pass of the mirrored convolution
        x, out, of = dy, operands.x, MIRRORED[direction]
    part, chosen = _part(cell.conv, of, rng)
    x, w, out = _take(x, chosen.x), _take(operands.w, chosen.w), _take(out, chosen.dy)
    match of:
        case Direction.FPROP:
            expected, factors = reference.fprop(part, x, w), (x, w)
        case Direction.DGRAD:
            expected, factors = reference.dgrad(part, w, out), (w, out)
        case _:
            expected, factors = reference.wgrad(part, x, out), (x, out)
    if direction is Direction.FPROP:
        b = None if operands.b is None else operands.b[chosen.result[1]].astype(np.float64)
        expected = reference.finished(cell, expected, b)
    return expected, factors, chosen.result


def _bias_gradient(cell: Cell, db: Array, dy: Array) -> Finding:
    """What was found of the gradient of the bias, all of which is summed again."""
    expected = reference.bias_gradient(dy)
    scale, tolerance = _allowed(cell, _rms(dy), expected, dy.size // expected.size)
    return held("db", db, expected, scale, tolerance)


def _product(cell: Cell, operands: Operands, y: Array, rng: np.random.Generator) -> Finding:
    """What was found of some rows of a matrix product at some columns, which take about _SPOT_FLOP to compute."""
    side = max(1, math.isqrt(_SPOT_FLOP // (2 * operands.x.shape[1])))
    rows, columns = (np.sort(rng.choice(size, min(size, side), replace=False)) for size in y.shape)
    x, w = operands.x[rows].astype(np.float64), operands.w[:, columns].astype(np.float64)
    return _against(cell, "y", y, (rows, columns), x @ w, (x, w), cell.spec.products(cell.direction))


def _roundoff(cell: Cell) -> float:
    """The unit roundoff of the accumulators, which are of fp32 in all precisions but fp64."""
    return max(Precision.FP64.unit_roundoff, Precision.FP32.unit_roundoff if cell.precision is not Precision.FP64 else 0.0)


def _against(
    cell: Cell, name: str, whole: Array, chosen: tuple[Indices, Indices], expected: Array, factors: tuple[Array, Array],
    products: int,
) -> Finding:  # fmt: skip
    """What was found of the chosen elements, each a sum of so many products of such factors."""
    scale, tolerance = _allowed(cell, _rms(factors[0]) * _rms(factors[1]), expected, products)
    rows, columns = chosen
    return held(
        name, _take(whole, chosen), expected, scale, tolerance,
        lambda at: (int(rows[at[0]]), int(columns[at[1]]), *at[2:]),
    )  # fmt: skip


def _allowed(cell: Cell, size: float, expected: Array, summed: int) -> tuple[float, float]:
    """The size of a sum of so many terms of this size, and by what share of it one that is right may be off."""
    length = math.sqrt(summed)
    # A random walk of so many terms has this size; the sums are larger where the operands are correlated, as in bprop.
    scale = max(length * size, _rms(expected)) or 1.0
    tolerance = SLACK * (length * _roundoff(cell) + cell.precision.unit_roundoff)
    if cell.operands is Values.DENORMAL:  # a kernel may take each of them for 0, and a result below the smallest number, too
        scale = max(scale, summed * SMALLEST[cell.precision] * FURTHEST / tolerance)
    return scale, tolerance


def _rms(array: Array) -> float:
    return float(np.sqrt(np.mean(np.square(array))))


def updated(cell: Cell, before: Mapping[str, Array | None], outputs: Mapping[str, Any]) -> Iterator[Finding]:
    """What was found of filter and bias after the optimizer's first step, by its formula in float64, where they are outputs.

    `before` has them as they were before the step; the gradients are those that the call itself gave.
    """
    for name in UPDATED:
        if (start := before.get(name)) is not None and name in outputs:
            yield _updated(cell, name, start.astype(np.float64), outputs[f"d{name}"], outputs[name])


def _updated(cell: Cell, name: str, before: Array, gradient: Array, after: Array) -> Finding:
    """What was found of one of them, element by element."""
    if cell.optimizer is Optimizer.SGD:
        step: Array = LEARNING_RATE * gradient
        ambiguity: Array | float = 0.0
    else:  # at the first step both moments are the gradient's own, so that the step is rate * dw / (|dw| + epsilon)
        step = LEARNING_RATE * gradient / (np.abs(gradient) + ADAM_EPSILON)
        # Some frameworks add epsilon before they correct the second moment and some after: a factor of 1 / sqrt(1 - 0.999) =
        # 32.
        ambiguity = LEARNING_RATE * np.minimum(1.0, 40 * ADAM_EPSILON / np.maximum(np.abs(gradient), 1e-300))
        # Some round 0.999 to float32 before they subtract it from 1, also where they compute in float64.
        ambiguity = ambiguity + Precision.FP32.unit_roundoff / (1 - ADAM_BETA2) * np.abs(step)
    unit = cell.precision.unit_roundoff
    # Some frameworks hold the learning rate in float32, also where they compute in float64.
    allowed = 8 * unit * (np.abs(before) + np.abs(step)) + Precision.FP32.unit_roundoff * np.abs(step) + ambiguity
    return held(name, after, before - step, np.maximum(allowed, 1e-300) / (8 * unit), 8 * unit)


# Parts of a convolution: some channels of some groups at all positions, so that every edge is compared --------------------


@dataclass(frozen=True)
class _Selection:
    """The indices that are taken of each array along its first and its second dimension."""

    x: tuple[Indices, Indices]
    w: tuple[Indices, Indices]
    dy: tuple[Indices, Indices]
    result: tuple[Indices, Indices]


def _part(spec: ConvSpec, direction: Direction, rng: np.random.Generator) -> tuple[ConvSpec, _Selection]:
    """A smaller convolution whose result is a part of the whole one's, and the indices of that part in each array.

    It takes about _SPOT_FLOP.
    """
    cg, kg = spec.c // spec.groups, spec.k // spec.groups
    inner = cg if direction is Direction.DGRAD else kg  # channels of the result in one group
    batches = spec.n if direction is Direction.WGRAD else 1
    flop_per_channel = flops.nominal(spec) // (spec.groups * inner) * batches // spec.n
    affordable = max(1, _SPOT_FLOP // max(1, flop_per_channel))
    groups = np.sort(rng.choice(spec.groups, min(spec.groups, max(1, affordable // 4)), replace=False))
    channels = np.sort(rng.choice(inner, min(inner, max(1, affordable // len(groups))), replace=False))
    # Only the first and the last image: what goes wrong with a batch goes wrong in its later images.
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
    """[N, G * J, ...] -> [N, G, ...]: the sum over the J channels of each of G groups, each channel with its sign."""
    n, _, *rest = array.shape
    summed: Array = np.einsum("gj,ngj...->ng...", signs.reshape(spec.groups, -1), array.reshape(n, spec.groups, -1, *rest))
    return summed


def _over_filters(spec: ConvSpec, array: Array, signs: Array) -> Array:
    """[G * J, C/g, ...] -> [G, C/g, ...]: the sum over the J filters of each of G groups, each filter with its sign."""
    _, *rest = array.shape
    summed: Array = np.einsum("gj,gj...->g...", signs.reshape(spec.groups, -1), array.reshape(spec.groups, -1, *rest))
    return summed
