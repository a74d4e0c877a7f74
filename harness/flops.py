"""FLOP and least bytes of a workload, from its shape alone. Each formula with its source; a multiply-add is two FLOP.

Never a framework's own counter: torch's FlopCounterMode over-counts the grouped filter gradient by `groups`
(pytorch#183405), XLA on CPU a depthwise convolution about seven times.
"""

import math

from harness.spec import Cell, ConvSpec, CopySpec, Direction, GemmSpec, Optimizer, WorkloadSpec


def nominal(spec: WorkloadSpec) -> int:
    """FLOP of one pass, 2 * N * K * P * Q * (C/g) * R * S; the same for fprop, dgrad and wgrad.

    Source: what DeepBench, MIOpen and TensorFlow's profiler count. Taps that fall into the padding are counted too. A matrix
    product has 2 * m * n * k, a copy none.
    """
    if isinstance(spec, GemmSpec):
        return 2 * spec.m * spec.n * spec.k
    if isinstance(spec, CopySpec):
        return 0
    return 2 * math.prod(spec.y_shape) * math.prod(spec.w_shape[1:])


def exact(spec: WorkloadSpec) -> int:
    """FLOP of one pass without the taps that fall into the padding; separable, so a product of counts per dimension.

    Source: oneDNN's benchdnn (tests/benchdnn/conv/conv_aux.cpp) and XLA's cost analysis count so.
    """
    if not isinstance(spec, ConvSpec):
        return nominal(spec)
    taps = 1
    for size, out, r, s, d, (lo, _) in zip(
        spec.spatial, spec.out_spatial, spec.kernel, spec.stride, spec.dilation, spec.padding, strict=True
    ):
        # A tap meets the input where 0 <= p * s + tap * d - lo < size: those before its end less those before its start.
        taps *= _below(size + lo, out, s, r, d) - _below(lo, out, s, r, d)
    return 2 * spec.n * spec.k * (spec.c // spec.groups) * taps


def _below(bound: int, out: int, s: int, r: int, d: int) -> int:
    """How many pairs of 0 <= p < out and 0 <= tap < r have p * s + tap * d < bound, without going through them."""
    if bound <= 0:
        return 0
    whole = min(out, max(0, (bound - 1 - (r - 1) * d) // s + 1))  # positions all of whose taps are below
    some = min(out, (bound - 1) // s + 1) - whole  # those after them of which at least one tap is
    # Of those from the last backwards, p has (bound - 1 - p * s) // d + 1 taps.
    last = bound - 1 - (whole + some - 1) * s
    return whole * r + some + _floor_sum(some, d, s, last)


def _floor_sum(n: int, m: int, a: int, b: int) -> int:
    """Sum of (a * i + b) // m over 0 <= i < n, by Euclid's algorithm: as many steps as the numbers have digits."""
    total = 0
    while n > 0:
        total += n * (n - 1) // 2 * (a // m) + n * (b // m)
        a, b = a % m, b % m
        top = a * n + b
        n, b, a, m = top // m, top % m, m, a
        if m == 0:
            break
    return total


def passes(direction: Direction) -> int:
    """How many passes of F FLOP a direction stands for. The loss and the optimizer's step are not counted."""
    return 3 if direction in (Direction.BPROP, Direction.TRAIN) else 1


def result_bytes(cell: Cell) -> int:
    """Bytes of what a call leaves behind: y, dx or dw alone; y, dx and dw together; the updated w and slots beside them."""
    if isinstance(cell.spec, GemmSpec):
        return cell.spec.m * cell.spec.n * cell.precision.itemsize
    if isinstance(cell.spec, CopySpec):
        return cell.spec.nbytes
    spec, size = cell.spec, cell.precision.itemsize
    x, w, y = (math.prod(shape) * size for shape in (spec.x_shape, spec.w_shape, spec.y_shape))
    slots = 2 * w if cell.optimizer is Optimizer.ADAM else 0
    return {
        Direction.FPROP: y,
        Direction.DGRAD: x,
        Direction.WGRAD: w,
        Direction.BPROP: y + x + w,
        Direction.TRAIN: y + x + 2 * w + slots,
    }[cell.direction]


def least_bytes(cell: Cell) -> int:
    """Least traffic of a call: each operand read once, each result written once, no im2col expansion."""
    if isinstance(cell.spec, GemmSpec):
        m, n, k = cell.spec.m, cell.spec.n, cell.spec.k
        return (m * k + k * n + m * n) * cell.precision.itemsize
    if isinstance(cell.spec, CopySpec):
        return 2 * cell.spec.nbytes
    spec, size = cell.spec, cell.precision.itemsize
    x, w, y = (math.prod(shape) * size for shape in (spec.x_shape, spec.w_shape, spec.y_shape))
    slots = 2 * w if cell.optimizer is Optimizer.ADAM else 0
    operands = {
        Direction.FPROP: x + w,
        Direction.DGRAD: y + w,
        Direction.WGRAD: x + y,
        Direction.BPROP: x + w,
        Direction.TRAIN: x + w + slots,
    }[cell.direction]
    return operands + result_bytes(cell)
